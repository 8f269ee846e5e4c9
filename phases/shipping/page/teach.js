// What a few examples teach, in the browser, by the rules of teaching.py in phases/shipping: what `just teach` makes of
// the same clips. f: a network's features of a clip; scale: its file's feature_scale; u: a vector at length 1.
//
//     direction d     = u(f · scale)
//     probabilities   of the last layer in heads.js
//     mean of class k = u(sum of the directions of its examples)
//     likeness        = largest cosine of d and the mean of an action
//     other           = largest cosine of d and an example of "nothing", plus an offset
//     none of these   if likeness < threshold or likeness < other
//
// Left out in rounds, one example of each action at a time, the examples have a likeness to the means of the rest:
//
//     threshold       = what 97 % of them reach, at most 1 - LOOSE · the network's gap: near copies leave no room
//     offset          = by how much 95 % of "nothing" is nearer to an action than to the rest of "nothing", at least 0;
//                       but no more than 95 % of the examples lead by
//
// Where nothing can be left out, threshold = 1 - LOOSE · gap. `just teach` also learns how people stand; here they show
// it as "nothing".
//
// Pure functions, no browser.
import { Unreadable } from "./clip.js";
import { dot, lastLayer, meanOf, probabilities, roundsOf, unit } from "./heads.js";
import { crc32 } from "./zip.js";

export const NOTHING = "nothing"; // the class whose examples show none of the actions
export const MARK = "LAST taught 2"; // the format of a file of what was taught
const ALIKE = 0.97, TOLD = 0.95, SPARED = 0.95, LOOSE = 0.4; // of teaching.py

// ---------------------------------------------------------------------------------------------------------------------
// Vectors
// ---------------------------------------------------------------------------------------------------------------------

export const direction = (features, scale) => unit(Array.from(features, (value, i) => value * scale[i]));

/** The cosine of a direction to the nearest of some others; -2 without any. */
const nearest = (others, d) => Math.max(-2, ...others.map((other) => dot(other, d)));

/** The value that at least this share of values reaches. */
const lowest = (values, share) => [...values].sort((a, b) => a - b)[Math.floor((1 - share) * (values.length - 1))];

/** The value that the share q of values lies below, on the line between two of them: numpy.quantile. */
function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b), at = q * (sorted.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Examples -> what they teach
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What examples [{action, d}] teach: {classes, weight, bias, temperature, means, nothing, threshold, offset, counts,
 * tried}; null for none but one action. gap: of the network. classes: the actions in the order of their first example.
 * tried: {right, of, confused} of examples that are left out; confused: two actions, the most often, or null.
 */
export function learned(examples, gap) {
  const nothing = examples.filter(({ action }) => action === NOTHING).map(({ d }) => d);
  const shown = examples.filter(({ action }) => action !== NOTHING), u = shown.map(({ d }) => d);
  const classes = [...new Set(shown.map(({ action }) => action))], K = classes.length;
  if (!K || K + Boolean(nothing.length) < 2) return null;

  // the last layer
  const labels = shown.map(({ action }) => classes.indexOf(action)), { named, ...layer } = lastLayer(u, labels, K);
  const told = named.flatMap((k, n) => (k === null ? [] : [n]));
  const wrong = told.filter((n) => named[n] !== labels[n]).map((n) => [labels[n], named[n]].sort((a, b) => a - b));
  const tried = { right: told.length - wrong.length, of: told.length, confused: commonest(wrong, classes) };

  // how alike a clip must be
  const groups = classes.map((_, k) => u.filter((_, n) => labels[n] === k)), means = groups.map(meanOf);
  const left = leftOut(u, labels, K, nothing), most = 1 - LOOSE * gap;
  const threshold = left.length ? Math.min(most, lowest(left.map(({ own }) => own), ALIKE)) : most;
  return { classes, ...layer, means, nothing, threshold: Math.max(-1, threshold),
    offset: offsetOf(left, means, nothing), counts: groups.map((group) => group.length), tried };
}

/** The names of the pair that stands most often among pairs of numbers; null without any. */
function commonest(pairs, names) {
  const counts = new Map();
  for (const pair of pairs) counts.set(String(pair), (counts.get(String(pair)) ?? 0) + 1);
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return most ? most[0].split(",").map((k) => names[k]) : null;
}

/** Of each example that is left out of the means in its round: {own: its likeness, lead: over "nothing"}. */
function leftOut(u, labels, K, nothing) {
  const rounds = roundsOf(labels, K), found = [];
  for (let round = 0; round <= Math.max(...rounds); round++) {
    const rest = Array.from({ length: K }, (_, k) => u.filter((_, n) => labels[n] === k && rounds[n] !== round));
    const means = rest.map(meanOf);
    for (const d of u.filter((_, n) => rounds[n] === round)) {
      const own = nearest(means, d);
      found.push({ own, lead: own - nearest(nothing, d) });
    }
  }
  return found;
}

/** What is added to the cosine to "nothing" before it is compared. */
function offsetOf(left, means, nothing) {
  if (!nothing.length) return 0;
  const leads = nothing.map((d) => nearest(means, d) - nearest(nothing.filter((other) => other !== d), d));
  const offset = nothing.length > 1 ? Math.max(0, quantile(leads, TOLD)) : 0;
  return left.length ? Math.min(offset, lowest(left.map(({ lead }) => lead), SPARED)) : offset;
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

/** The answer to a direction: {p, known, likeness}, as Network.answer gives it. */
export function answerOf(head, d) {
  const likeness = nearest(head.means, d), other = nearest(head.nothing, d) + head.offset;
  return { p: probabilities(head, d), known: likeness >= head.threshold && likeness >= other, likeness };
}

/** A network that names what was taught, from the features of the network `base`; in all else it is like that. */
export function taughtNetwork(base, head) {
  return Object.assign(Object.create(base), {
    base, head, classes: head.classes, knowsPictures: true, // if its examples are
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
function isWhole({ classes, weight, bias, temperature, means, nothing, threshold, offset, counts }, scale, C) {
  const isVector = (list, length) => Array.isArray(list) && list.length === length && list.every(Number.isFinite);
  const areVectors = (lists) => Array.isArray(lists) && lists.every((list) => isVector(list, C));
  if (![means, nothing, weight].every(areVectors) || !isVector(scale, C) || !Array.isArray(classes)) return false;
  const K = means.length, names = classes.filter((name) => typeof name === "string" && name);
  return K > 0 && K + Boolean(nothing.length) > 1 && new Set(names).size === K && classes.length === K &&
    weight.length === K && isVector(bias, K) && isVector(counts, K) && isVector([threshold, offset, temperature], 3) &&
    Math.abs(threshold) <= 1 && temperature > 0;
}
