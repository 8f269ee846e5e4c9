// What a few examples teach, in the browser: the nearest class mean, by the formulas of declining.py and teaching.py in
// phases/shipping. f: a network's features of a clip; scale: its file's feature_scale; u: a vector at length 1.
//
//     direction d     = u(f · scale)
//     mean of class k = u(sum of the directions of its examples)
//     likeness        = largest cosine of d and the mean of an action
//     other           = largest cosine of d and an example of "nothing", plus an offset
//     none of these   if likeness < threshold or likeness <= other
//
// Left out in rounds, one example of each action at a time, the examples have a likeness to the means of the rest:
//
//     threshold       = 1 - SLACK · (1 - what 95 % of them reach), at most 1 - LOOSE · gap: what is recorded
//                       within a minute is more alike than what comes later
//     offset          = by how much 95 % of "nothing" is nearer to an action than to the rest of "nothing", at least 0;
//                       but no more than 98.5 % of the examples lead by
//
// An action with a single example cannot be left out: then threshold = 1 - LOOSE · gap and offset = 0.
//
//     gap             = 1 - mean cosine of the means of two classes; "nothing" is one of them
//     probabilities   = softmax(cosines · SHARP / gap); "nothing" has `other`
//
// Pure functions, no browser.
import { Unreadable } from "./clip.js";
import { crc32 } from "./zip.js";

export const NOTHING = "nothing"; // the class whose examples show none of the actions
export const MARK = "LAST taught 1"; // the format of a file of what was taught
const ALIKE = 0.95, TOLD = 0.95, SPARED = 0.985, SLACK = 2, ROUNDS = 10; // of teaching.py
const LOOSE = 0.6, SHARP = 12, LEAST = 1e-6; // measured on IRDS's gestures: one example keeps 98 % of the same person's

// ---------------------------------------------------------------------------------------------------------------------
// Vectors
// ---------------------------------------------------------------------------------------------------------------------

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const highest = (values) => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);

/** A vector at length 1; one of zeros stays as it is. */
export function unit(vector) {
  const length = Math.max(Math.sqrt(dot(vector, vector)), 1e-12);
  return Array.from(vector, (value) => value / length);
}

export const direction = (features, scale) => unit(Array.from(features, (value, i) => value * scale[i]));

/** The cosine of a direction to the nearest of some others; -2 without any. */
const nearest = (others, d) => Math.max(-2, ...others.map((other) => dot(other, d)));

/** The mean direction of directions. */
function meanOf(directions) {
  return unit(directions[0].map((_, i) => directions.reduce((sum, d) => sum + d[i], 0)));
}

/** The value that the share q of values lies below, on the line between two of them: numpy.quantile. */
function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b), at = q * (sorted.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Examples -> what they teach
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What examples [{action, d}] teach: {classes, means, nothing, threshold, sharpness, counts}; null without two classes.
 * classes: the actions in the order of their first example, and last "nothing" if it has examples.
 */
export function learned(examples) {
  const groups = new Map();
  for (const { action, d } of examples) {
    if (!groups.has(action)) groups.set(action, []);
    groups.get(action).push(d);
  }
  const actions = [...groups.keys()].filter((action) => action !== NOTHING), nothing = groups.get(NOTHING) ?? [];
  if (!actions.length || actions.length + Boolean(nothing.length) < 2) return null;

  // one direction per class
  const means = actions.map((action) => meanOf(groups.get(action)));
  const gap = 1 - meanCosine(nothing.length ? [...means, meanOf(nothing)] : means);

  // how alike a clip must be
  const left = leftOut(actions.map((action) => groups.get(action)), nothing);
  const most = 1 - LOOSE * gap, reached = left ? quantile(left.map(({ own }) => own), 1 - ALIKE) : 1;
  const threshold = left ? Math.min(most, 1 - SLACK * (1 - reached)) : most;
  const classes = nothing.length ? [...actions, NOTHING] : actions;
  return { classes, means, nothing, threshold: Math.max(-1, threshold), offset: offsetOf(left, means, nothing),
    sharpness: SHARP / Math.max(gap, LEAST), counts: classes.map((action) => groups.get(action).length) };
}

/** The mean cosine of two of some directions. */
function meanCosine(directions) {
  let sum = 0, pairs = 0;
  directions.forEach((a, i) => directions.slice(0, i).forEach((b) => {
    sum += dot(a, b);
    pairs += 1;
  }));
  return sum / pairs;
}

/**
 * Of each example that is left out of the means in its round: {own: its likeness, lead: over "nothing"}; null if an
 * action has a single one.
 */
function leftOut(groups, nothing) {
  if (groups.some((group) => group.length < 2)) return null;
  const most = Math.max(...groups.map((group) => group.length)), found = [];
  for (let round = 0; round < Math.min(ROUNDS, most); round++) {
    const isOut = (_, i) => i % ROUNDS === round;
    const means = groups.map((group) => meanOf(group.filter((_, i) => !isOut(_, i))));
    for (const d of groups.flatMap((group) => group.filter(isOut))) {
      const own = nearest(means, d);
      found.push({ own, lead: own - nearest(nothing, d) });
    }
  }
  return found;
}

/** What is added to the cosine to "nothing" before it is compared. */
function offsetOf(left, means, nothing) {
  if (!left || nothing.length < 2) return 0;
  const leads = nothing.map((d) => nearest(means, d) - nearest(nothing.filter((other) => other !== d), d));
  return Math.min(Math.max(0, quantile(leads, TOLD)), quantile(left.map(({ lead }) => lead), 1 - SPARED));
}

/** How many examples are named rightly if each is left out of what it teaches: {right, of}; null for single ones. */
export function checked(examples) {
  const several = examples.filter(({ action }) => examples.filter((other) => other.action === action).length > 1);
  if (several.length < examples.length) return null;
  const right = several.filter((example) => {
    const head = learned(examples.filter((other) => other !== example));
    return head.classes[highest(cosinesOf(head, example.d))] === example.action;
  });
  return { right: right.length, of: examples.length };
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

/** The cosine of a direction to each class; to "nothing" that of its nearest example, plus the offset. */
function cosinesOf({ means, nothing, offset }, d) {
  const found = means.map((mean) => dot(mean, d));
  return nothing.length ? [...found, nearest(nothing, d) + offset] : found;
}

/** The answer to a direction: {p, known, likeness}, as Network.answer gives it. */
export function answerOf(head, d) {
  const cosines = cosinesOf(head, d), actions = cosines.slice(0, head.means.length);
  const likeness = Math.max(...actions), most = Math.max(...cosines);
  const weights = cosines.map((cosine) => Math.exp((cosine - most) * head.sharpness));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const isNothing = actions.length < cosines.length && cosines.at(-1) >= likeness;
  return { p: weights.map((weight) => weight / total), known: !isNothing && likeness >= head.threshold, likeness };
}

/** A network that names what was taught, from the features of the network `base`; in all else it is like that. */
export function taughtNetwork(base, head) {
  return Object.assign(Object.create(base), {
    base, head, classes: head.classes,
    async answer(clip) {
      const { features, ms } = await base.run(clip);
      return { ...answerOf(head, direction(features, base.featureScale)), ms };
    },
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Files
// ---------------------------------------------------------------------------------------------------------------------

/** What tells a network's file from any other. */
export function nameOf(network) {
  const { recipe, dataset, form } = network.about;
  network.checksum ??= crc32(network.bytes).toString(16).padStart(8, "0");
  return { recipe, dataset, form, crc32: network.checksum };
}

/** The text of a file of what was taught on a network. */
export function headFile(head, base) {
  return JSON.stringify({ format: MARK, network: nameOf(base), scale: Array.from(base.featureScale), ...head });
}

/** Whether parsed JSON says that it was taught here, in whatever version. */
export const isTaught = (parsed) => typeof parsed?.format === "string" && parsed.format.startsWith("LAST taught");

/** {head, base} of such parsed JSON, base one of `networks`. An Unreadable says what is wrong with the file. */
export function headFrom(parsed, name, networks) {
  if (parsed.format !== MARK) {
    throw new Unreadable(`${name} has the format ${parsed.format}, this page reads ${MARK}: teach it again.`);
  }
  const { network, scale, format, ...head } = parsed;
  const base = networks.find((other) => nameOf(other).crc32 === network?.crc32);
  if (!base) {
    const { recipe = "?", dataset = "?", form = "?" } = network ?? {};
    throw new Unreadable(`${name} was taught on the network ${recipe}, ${form}, of ${dataset}, which is not on this ` +
      "page: open that .onnx file first.");
  }
  if (!isWhole(head, scale, base.featureScale.length)) {
    throw new Unreadable(`${name} is damaged: save it again on the page where it was taught.`);
  }
  return { head, base };
}

/** Whether a file's numbers and names fit each other. C: how many features the network has. */
function isWhole({ classes, means, nothing, threshold, offset, sharpness, counts }, scale, C) {
  const isVector = (list, length) => Array.isArray(list) && list.length === length && list.every(Number.isFinite);
  const areVectors = (lists) => Array.isArray(lists) && lists.every((list) => isVector(list, C));
  if (!areVectors(means) || !areVectors(nothing) || !isVector(scale, C) || !Array.isArray(classes)) return false;
  const count = means.length + Boolean(nothing.length);
  const names = classes.filter((name) => typeof name === "string" && name);
  return means.length > 0 && count > 1 && new Set(names).size === count && classes.length === count &&
    isVector(counts, count) && isVector([threshold, offset, sharpness], 3) && Math.abs(threshold) <= 1 && sharpness > 0;
}
