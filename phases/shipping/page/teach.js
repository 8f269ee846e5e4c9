// What a few examples teach: the nearest class mean, by the formulas of phases/shipping/declining.py, in the browser.
// f: a network's features of a clip; scale: its file's feature_scale; u: a vector at length 1.
//
//     direction d      = u(f · scale)
//     mean of class k  = u(sum of the directions of its examples)
//     likeness         = largest cosine of d and the mean of an action
//     none of these    if the likeness is below the threshold, or an example of "nothing" is as near as the nearest mean
//
//     gap              = 1 - mean cosine of the means of two classes; "nothing" is one of them
//     threshold        = 1 - LOOSE · gap; or, if that is less, the likeness that KEEP of the examples reach. For that
//                        each is left out of its own mean, so that it takes two of each action
//     probabilities    = softmax(cosines · SHARP / gap); "nothing" has the cosine of its nearest example
//
// Pure functions, no browser.
import { Unreadable } from "./clip.js";
import { crc32 } from "./zip.js";

export const NOTHING = "nothing"; // the class whose examples show none of the actions
export const MARK = "LAST taught 1"; // the format of a file of what was taught
const KEEP = 0.92, LOOSE = 0.6, SHARP = 12, LEAST = 1e-6;

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

  // how alike an action's example must be
  const left = leftOut(actions.map((action) => groups.get(action)), means);
  const line = 1 - LOOSE * gap, threshold = left ? Math.min(line, quantile(left, 1 - KEEP)) : line;
  const classes = nothing.length ? [...actions, NOTHING] : actions;
  return { classes, means, nothing, threshold, sharpness: SHARP / Math.max(gap, LEAST),
    counts: classes.map((action) => groups.get(action).length) };
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

/** The likeness of each example, left out of its own mean; null if an action has a single one. */
function leftOut(groups, means) {
  if (groups.some((group) => group.length < 2)) return null;
  return groups.flatMap((group, k) => group.map((d, i) => {
    const own = meanOf(group.filter((_, j) => j !== i));
    return Math.max(...means.map((mean, other) => dot(d, other === k ? own : mean)));
  }));
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

/** The cosine of a direction to each class; to "nothing" that of its nearest example. */
function cosinesOf({ means, nothing }, d) {
  const found = means.map((mean) => dot(mean, d));
  return nothing.length ? [...found, Math.max(...nothing.map((one) => dot(one, d)))] : found;
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
function isWhole({ classes, means, nothing, threshold, sharpness, counts }, scale, C) {
  const isVector = (list, length) => Array.isArray(list) && list.length === length && list.every(Number.isFinite);
  const areVectors = (lists) => Array.isArray(lists) && lists.every((list) => isVector(list, C));
  if (!areVectors(means) || !areVectors(nothing) || !isVector(scale, C) || !Array.isArray(classes)) return false;
  const count = means.length + Boolean(nothing.length), names = classes.filter((name) => typeof name === "string" && name);
  return means.length > 0 && count > 1 && new Set(names).size === count && classes.length === count &&
    isVector(counts, count) && isVector([threshold, sharpness], 2) && Math.abs(threshold) <= 1 && sharpness > 0;
}
