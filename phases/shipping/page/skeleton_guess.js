// Which skeleton a clip has while nothing names it, as phases/recordings/skeleton_guess.py guesses: of those with as
// many joints the one whose bones keep their lengths, and whose left bones are as long as its right ones; of the same
// joints in another order the one whose bones are shortest. No browser.
import { hasScore } from "./clip.js";
import { at, bodySize, isFlat, isSeen, median } from "./joints.js";
import { RECORDED, SELDOM, SENSORS, SKELETONS } from "./skeletons.js";
import { spelled } from "./spelling.js";
import { Unreadable } from "./unreadable.js";

const LONGER = 1.5, LEAST = 1e-3, LOOKS = 32; // of skeleton_guess.py
const TRUNK = ["left shoulder", "right shoulder", "left hip", "right hip"];
const ROOTS = ["index", "middle", "ring", "pinky"]; // fingers that begin next to each other

/** The skeletons with V joints that sensors and pose estimators give. */
export const alike = (V) => RECORDED.map((name) => SKELETONS[name]).filter(({ joints }) => joints.length === V);

/**
 * How skeletons are turned into a network's: the tables of its file, and those of skeletons that were not known when it
 * was written, where one that is in the file, or the network's own, has the same joints in another order.
 */
export function withReordered(tables, { name: mine, joints }) {
  const own = { joints: joints.length, means: joints.map((_, v) => [v]) }, found = { ...tables };
  const bodies = [[mine, joints.map(spelled), own],
    ...Object.entries(tables).map(([name, how]) => [name, SKELETONS[name]?.joints ?? [], how])];
  const inOrder = (names) => String([...names].sort());
  for (const { name, joints: names } of RECORDED.map((known) => SKELETONS[known])) {
    if (name in tables || String(names) === String(bodies[0][1])) continue;
    const same = bodies.find(([, others]) => inOrder(others) === inOrder(names));
    if (!same) continue;
    const place = same[1].map((joint) => names.indexOf(joint)), corners = TRUNK.map((joint) => names.indexOf(joint));
    found[name] = { joints: names.length, trunk: corners.includes(-1) ? null : corners,
      means: same[2].means.map((of) => of.map((v) => place[v])) };
  }
  return found;
}

/** The name of the skeleton of a file's clip, by its first body as recorded. An Unreadable if no known one fits. */
export function guessedSkeleton(name, clip) {
  const body = { ...clip, M: 1, x: clip.x.subarray(0, clip.L * clip.V * 3) }, asMany = alike(clip.V);
  let fit = asMany.filter((skeleton) => !SELDOM.includes(skeleton.name) || bonesFit(skeleton, body));
  if (!fit.length) {
    const titles = asMany.map((skeleton) => skeleton.name).join(" and ");
    throw new Unreadable(`${name}: its ${clip.V} joints are as many as ${titles} has, whose bones do not fit them.`);
  }

  // clips of a picture are not a depth sensor's, if another skeleton fits
  const others = fit.filter((skeleton) => !SENSORS.includes(skeleton.name));
  if (others.length && (isFlat(body) || hasScore(body))) fit = others;

  if (new Set(fit.map(({ joints }) => String([...joints].sort()))).size === 1) {
    const long = fit.map((skeleton) => meanBone(skeleton, body));
    return fit[long.indexOf(Math.min(...long))].name;
  }
  const sidesCount = fit.every((skeleton) => mirroredBones(skeleton).length);
  const misfits = fit.map((skeleton) =>
    (deviation(body, skeleton) + LEAST) * ((sidesCount ? asymmetry(body, skeleton) : 0) + LEAST));
  return fit[misfits.indexOf(Math.min(...misfits))].name;
}

const bonesOf = ({ parents }) => [...parents.entries()].filter(([child, parent]) => child !== parent);
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** The lengths of a line between two joints, in the frames that show both. */
function lengths(body, u, v, step = 1) {
  const found = [];
  for (let l = 0; l < body.L; l += step) {
    if (!isSeen(body, 0, l, u) || !isSeen(body, 0, l, v)) continue;
    const i = at(body, 0, l, u), j = at(body, 0, l, v);
    found.push(Math.hypot(...[0, 1, 2].map((a) => body.x[i + a] - body.x[j + a])));
  }
  return found;
}

/** The mean length of those of a skeleton's bones that are seen, by some frames: a missing joint shortens nothing. */
function meanBone(skeleton, body) {
  const step = Math.max(1, Math.floor(body.L / LOOKS));
  const bones = bonesOf(skeleton).map(([child, parent]) => lengths(body, child, parent, step));
  const means = bones.filter(({ length }) => length).map((found) => sum(found) / found.length);
  return means.length ? sum(means) / means.length : Infinity;
}

/** The standard deviation of bones over time, a mean over the bones, in metres of a person of 1.7 m. */
function deviation(body, skeleton) {
  const found = bonesOf(skeleton).map(([child, parent]) => lengths(body, child, parent)).filter(({ length }) => length);
  if (!found.length) return 0;
  const deviations = found.map((bone) => {
    const mean = sum(bone) / bone.length;
    return Math.sqrt(sum(bone.map((length) => (length - mean) ** 2)) / bone.length);
  });
  return sum(deviations) / found.length / bodySize(body, null);
}

/** The difference of left and right bones as a share of their mean: the median over the bones; 0 if none shows it. */
function asymmetry(body, skeleton) {
  const ratios = [];
  for (const bones of mirroredBones(skeleton)) {
    const sides = bones.map(([child, parent]) => lengths(body, child, parent));
    if (!sides.every(({ length }) => length)) continue;
    const [left, right] = sides.map(median);
    ratios.push((2 * Math.abs(left - right)) / Math.max(left + right, 1e-9));
  }
  return ratios.length ? median(ratios) : 0;
}

/** [left bone, right bone], each [child, parent], wherever one is the mirror image of the other. */
function mirroredBones({ parents, pairs }) {
  const mirror = new Map(pairs.flatMap(([left, right]) => [[left, right], [right, left]]));
  return pairs.map((pair) => pair.map((joint) => [joint, parents[joint]]))
    .filter(([[, left], [, right]]) => (mirror.get(left) ?? left) === right);
}

/** Whether a body can be of this skeleton: its bones join neighbours. */
function bonesFit(skeleton, body) {
  const step = Math.max(1, Math.floor(body.L / LOOKS)), joints = [...skeleton.parents.keys()];
  const far = joints.map((u) => joints.map((v) => {
    const found = lengths(body, u, v, step);
    return sum(found) / Math.max(found.length, 1);
  }));
  if (!skeleton.regions.palm) {
    const length = sum(bonesOf(skeleton).map(([child, parent]) => far[child][parent]));
    return length > 0 && length <= LONGER * shortestTree(far);
  }

  // a hand: from finger to finger it is less far than from the wrist
  const roots = ROOTS.map((finger) => skeleton.regions[finger][0]);
  const root = skeleton.parents.findIndex((parent, v) => parent === v);
  const between = roots.slice(1).map((finger, i) => far[roots[i]][finger]);
  return Math.max(...between) < Math.min(...roots.map((finger) => far[root][finger]));
}

/** The length of the shortest tree through all joints, by their distances: Prim's algorithm. */
function shortestTree(far) {
  const near = [...far[0]], outside = new Set(near.keys());
  outside.delete(0);
  let length = 0;
  while (outside.size) {
    const next = [...outside].reduce((best, v) => (near[v] < near[best] ? v : best));
    length += near[next];
    outside.delete(next);
    near.forEach((d, v) => { near[v] = Math.min(d, far[next][v]); });
  }
  return length;
}
