// Clips of JSON, as phases/recordings/json_clips.py, picture_json.py and landmarks.py read them: nested lists, and
// frames of bodies as MediaPipe, COCO's tools, AlphaPose and OpenPose write them. No browser.
// A body is {V, C, x}: x[v·C + c]. Numbers of a clip are {x, shape: [M, L, V, C]}; NaN is missing.
import { SCORES, usualChannels } from "./csv_clip.js";
import { median } from "./joints.js";
import { Unreadable } from "./unreadable.js";

const PICTURE = ["landmarks", "poseLandmarks", "pose_landmarks", "landmark", "people", "keypoints", "pose_keypoints_3d",
  "pose_keypoints_2d", "joints", "hand_landmarks", "multiHandLandmarks", "multi_hand_landmarks"];
const WORLD = ["worldLandmarks", "world_landmarks", "poseWorldLandmarks", "pose_world_landmarks",
  "hand_world_landmarks", "multiHandWorldLandmarks", "multi_hand_world_landmarks"];
const BODIES = [...WORLD, ...PICTURE], FRAMES = ["skeletons", "frames", "poses", "data"];
const HANDS = ["left", "right"].flatMap((side) => [`${side}HandLandmarks`, `${side}_hand_landmarks`,
  `${side}HandWorldLandmarks`, `${side}_hand_world_landmarks`]);
const CROWD = 10; // a longer list of bodies under one key is the frames of a clip
const NO_PATH = "It has world landmarks only, which do not tell how the whole body moves: write those of the picture " +
  "beside them.";

const isTable = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isEmpty = (value) => value === null || value === undefined || (typeof value === "object" && !size(value));
const size = (value) => (Array.isArray(value) ? value : Object.keys(value)).length;
const holds = (value) => !isEmpty(value) && Boolean(value);
const hasAny = (frame, keys) => isTable(frame) && keys.some((key) => holds(frame[key]));

/**
 * The numbers of a JSON text's clip: {x, shape, picture, likely, skeleton, note}; picture: they are pixels with y down;
 * skeleton: that of its format, likely: the usual one of its key points.
 */
export function peopleOfJson(text) {
  let value;
  try {
    const after = "\\b(?=\\s*[,\\]}])"; // NaN and Infinity as Python writes them
    value = JSON.parse(text.replace(RegExp(`\\bNaN${after}`, "g"), "null")
      .replace(RegExp(`\\bInfinity${after}`, "g"), "1e999"));
  } catch {
    throw new Unreadable("it is not JSON.");
  }
  if (isAlphaPose(value)) {
    const found = alphaPose(value), V = found.shape[2];
    return { ...found, picture: true, skeleton: { 17: "coco17", 18: "openpose18", 26: "halpe26" }[V] };
  }
  const found = clipOfJson(value), V = found.shape[2], kind = keyPoints(text);
  if (kind === "openpose") return { ...found, picture: true, skeleton: { 25: "openpose25", 18: "openpose18" }[V] };
  return { ...found, picture: Boolean(kind), likely: kind ? { 17: "coco17", 26: "halpe26" }[V] : undefined };
}

/** Whose two-dimensional key points a text holds: a row of numbers under one of two keys. */
function keyPoints(text) {
  if (/^:\[(?![[{])/.test(after(text, '"pose_keypoints_2d"'))) return "openpose";
  return /^:\[(?![[{])/.test(after(text, '"keypoints"')) ? "coco" : "";
}

function after(text, word) {
  const at = text.indexOf(word);
  return at < 0 ? "" : text.slice(at + word.length, at + word.length + 40).replace(/[ \n]/g, "");
}

function clipOfJson(given) {
  let value = given;
  if (isTable(value) && !isFrame(value)) {
    const key = [...FRAMES, ...BODIES].find((one) => one in given);
    if (!key && hasAny(value, HANDS)) throw new Unreadable("it shows hands only; this page follows whole bodies.");
    if (!key) {
      const keys = Object.keys(value).slice(0, 9).join(", ");
      throw new Unreadable("it needs lists of frames, or a frame's people or landmarks; " +
        `${keys ? `its keys are ${keys}` : "it is empty"}.`);
    }
    value = value[key];
  }
  if (isFrame(value)) return clipOfFrames([value]);
  if (!Array.isArray(value)) throw new Unreadable("it must be a list of frames.");

  // nested numbers; or frames, whose numbers of bodies may differ
  const [sizes, item] = nesting(value), depth = sizes.length;
  if ((depth === 1 || depth === 2) && typeof item === "number") {
    throw new Unreadable("it is a list of numbers; it must be frames of joints of [x, y, z].");
  }
  const x = depth === 3 || depth === 4 ? wholeArray(value, sizes) : null;
  if (!x || (depth === 4 && sizes[0] > sizes[1])) return clipOfFrames(value);
  return { x, shape: depth === 3 ? [1, ...sizes] : sizes };
}

/** [sizes of the nested lists around the first item that is no list, that item], null without one. */
function nesting(value, deepest = 8) {
  if (!Array.isArray(value) || !deepest) return [[], isEmpty(value) ? null : value];
  for (const one of value) {
    const [sizes, found] = nesting(one, deepest - 1);
    if (found !== null) return [[value.length, ...sizes], found];
  }
  return [[value.length], null];
}

/** The numbers of nested lists in a row, NaN where one is missing; null for lists of different lengths. */
function wholeArray(value, sizes) {
  const out = new Float32Array(sizes.reduce((a, b) => a * b, 1)).fill(NaN);
  let at = 0;
  const fill = (part, [length, ...rest]) => {
    const inner = rest.reduce((a, b) => a * b, 1);
    if (isEmpty(part)) at += length * inner;
    else if (!Array.isArray(part) || part.length !== length) return false;
    else if (rest.length) return part.every((one) => fill(one, rest));
    else {
      for (const number of part) {
        if (number !== null && typeof number !== "number") return false;
        out[at++] = number ?? NaN;
      }
    }
    return true;
  };
  return fill(value, sizes) ? out : null;
}

/** Whether a value is one frame: a table of bodies, or a list of landmarks. */
function isFrame(value) {
  if (isTable(value)) {
    const keys = [...BODIES, ...HANDS].filter((key) => key in value);
    return keys.length > 0 && !keys.some((key) => isCrowd(value[key]));
  }
  const first = Array.isArray(value) ? value.find(holds) : null;
  return isTable(first) && "x" in first;
}

function isCrowd(value) {
  const [sizes, item] = nesting(value), depth = sizes.length;
  return (depth > 2 || (depth === 2 && isTable(item))) && value.length > CROWD;
}

// ---------------------------------------------------------------------------------------------------------------------
// The bodies of a frame
// ---------------------------------------------------------------------------------------------------------------------

/** The bodies of a frame: of a table of bodies, of a list of them, or of the joints of one. */
function bodiesOf(frame) {
  if (isEmpty(frame) || nesting(frame)[1] === null) return [];
  if (isTable(frame)) return bodiesOfTable(frame);
  if (!Array.isArray(frame)) throw new Unreadable("it must be a list of joints or of bodies.");

  // a list of bodies
  const first = frame.find((one) => nesting(one)[1] !== null);
  if ((isTable(first) && !("x" in first)) || nesting(first)[0].length === 2 || isFrame(first)) {
    return frame.flatMap(bodiesOf);
  }

  // the joints of one body
  const joints = frame.map((joint) => (isEmpty(joint) ? null : jointOf(joint)));
  const lengths = new Set(joints.filter(Boolean).map((joint) => joint.length)), [C] = lengths;
  if (lengths.size > 1) throw new Unreadable("it has joints of different lengths.");
  return [{ V: joints.length, C, x: Float32Array.from(joints.flatMap((joint) => joint ?? Array(C).fill(NaN))) }];
}

function bodiesOfTable(frame) {
  if (!BODIES.some((key) => key in frame)) {
    throw new Unreadable(`it has the keys ${Object.keys(frame).slice(0, 9).join(", ")}: none of ${BODIES.join(", ")}.`);
  }
  const key = BODIES.find((one) => holds(frame[one])), value = frame[key];
  if (!key) return [];

  // one body as a list of numbers: OpenPose's, with scores, or COCO's
  if (key.startsWith("pose_keypoints")) return [flatBody(value, key.endsWith("2d") ? 3 : 4)];
  if (key === "keypoints" && Array.isArray(value)) {
    const [sizes, item] = nesting(value);
    if (sizes.length === 1 && typeof item === "number") return [flatBody(value, usualChannels(value.length) || 3)];
  }
  return bodiesOf(value);
}

/** x, y, z, score of a landmark; the numbers of a plain joint; NaN for null. */
function jointOf(joint) {
  let numbers = [joint].flat(9);
  if (isTable(joint)) {
    const key = SCORES.find((one) => !isEmpty(joint[one]));
    numbers = [joint.x ?? null, joint.y ?? null, joint.z === undefined ? 0 : joint.z, key ? joint[key] : 1];
  }
  if (!numbers.every((number) => number === null || typeof number === "number")) {
    throw new Unreadable(`it has the joint ${JSON.stringify(joint).slice(0, 40)}, which must be numbers.`);
  }
  return numbers.map((number) => number ?? NaN);
}

/** x, y, score, x, y, score, ... -> joints of x, y, z, score; without scores, C = 2, of x, y, z. */
function flatBody(numbers, C) {
  const isNumber = (number) => number === null || typeof number === "number";
  if (!Array.isArray(numbers) || !numbers.every(isNumber)) throw new Unreadable("its key points must be numbers.");
  if (numbers.length % C) throw new Unreadable(`it has ${numbers.length} key point numbers, no multiple of ${C}.`);
  const V = numbers.length / C, wide = C === 4 ? 4 : C + 1, x = new Float32Array(V * wide);
  numbers.forEach((number, i) => {
    const c = i % C, to = c < 2 || C === 4 ? c : c + 1;
    x[Math.floor(i / C) * wide + to] = number ?? NaN;
  });
  return { V, C: wide, x };
}

// ---------------------------------------------------------------------------------------------------------------------
// Frames -> rows
// ---------------------------------------------------------------------------------------------------------------------

/** The numbers of frames; a body keeps its row while it stays nearest to where it was in the picture. */
function clipOfFrames(frames) {
  const hands = (frame) => hasAny(frame, HANDS) && !BODIES.some((key) => key in frame);
  let bodies = [], places = [], twice = true; // twice: every body is seen in the picture, too
  frames.forEach((frame, number) => {
    try {
      const found = hands(frame) ? [] : bodiesOf(frame), where = inPicture(frame, found);
      twice &&= where !== found || !found.length;
      const seen = found.map((body, i) => [missingAsZeros(body), where[i]]).filter(([body]) => hasJoint(body));
      bodies.push(seen.map(([body]) => body));
      places.push(seen.map(([, place]) => missingAsZeros(place)));
    } catch (e) {
      throw e instanceof Unreadable ? new Unreadable(`in frame ${number} ${e.message}`) : e;
    }
  });
  [bodies, places] = oneFramePerImage(frames, bodies, places);

  const shape = shapeOfAll(bodies);
  if (!shape) throw new Unreadable(`it shows ${frames.some(hands) ? "hands only" : "no body in any frame"}.`);
  const found = inRows(bodies, places, shape);
  if (!frames.some((frame) => hasAny(frame, WORLD))) return found;

  // the shape of world landmarks, the path of the picture's
  const alike = places.flat().every(({ V, C }) => V === shape.V && C === shape.C);
  return twice && alike ? withPath(found, inRows(places, places, shape)) : { ...found, note: NO_PATH };
}

/** The bodies of a frame as they are in the picture, if it has each of them so; else the bodies themselves. */
function inPicture(frame, bodies) {
  const key = isTable(frame) && PICTURE.find((one) => holds(frame[one]));
  if (!key) return bodies;
  try {
    const seen = bodiesOf({ [key]: frame[key] });
    return seen.length === bodies.length ? seen : bodies;
  } catch (e) {
    if (e instanceof Unreadable) return bodies;
    throw e;
  }
}

function missingAsZeros({ V, C, x }) {
  const out = x.slice();
  for (let v = 0; v < V; v++) {
    const joint = out.subarray(v * C, v * C + C);
    if (joint.some(Number.isNaN)) joint.fill(0);
  }
  return { V, C, x: out };
}

const hasJoint = ({ C, x }) => x.some((number, i) => i % C < 3 && number !== 0);

/** The V and C that all bodies have, null without a body. */
function shapeOfAll(bodies) {
  const all = bodies.flat(), [first] = all;
  const other = all.find(({ V, C }) => V !== first.V || C !== first.C);
  if (other) {
    const words = [first, other].map(({ V, C }) => `${V} joints of ${C} numbers`);
    throw new Unreadable(`its bodies differ: ${words.join(", ")}.`);
  }
  return first ? { V: first.V, C: first.C } : null;
}

/** AlphaPose and COCO write an entry per body: entries of one image_id become one frame, where its first one was. */
function oneFramePerImage(frames, bodies, places) {
  const images = frames.map((frame) => (isTable(frame) ? frame.image_id : null));
  const different = new Set(images);
  if (!images.every((image) => ["string", "number"].includes(typeof image)) || different.size === images.length) {
    return [bodies, places];
  }
  const merged = new Map([...different].map((image) => [image, [[], []]]));
  images.forEach((image, i) => {
    merged.get(image)[0].push(...bodies[i]);
    merged.get(image)[1].push(...places[i]);
  });
  return [0, 1].map((side) => [...merged.values()].map((pair) => pair[side]));
}

/** Each body of a frame in the row whose last body was nearest to it; an unseen body is zeros. */
function inRows(bodies, places, { V, C }) {
  const M = bodies.reduce((most, found) => Math.max(most, found.length), 0), L = bodies.length;
  const x = new Float32Array(M * L * V * C), last = Array(M).fill(null);
  bodies.forEach((found, t) => {
    const centres = places[t].map(centreOf), pairs = [];
    centres.forEach((centre, body) => last.forEach((place, row) => {
      pairs.push({ body, row, far: place ? Math.hypot(...centre.map((value, a) => value - place[a])) : 1e30 });
    }));
    const freeBodies = new Set(centres.keys()), freeRows = new Set(last.keys());
    for (const { body, row } of pairs.sort((a, b) => a.far - b.far)) {
      if (!freeBodies.has(body) || !freeRows.has(row)) continue;
      freeBodies.delete(body);
      freeRows.delete(row);
      x.set(found[body].x, (row * L + t) * V * C);
      last[row] = centres[body];
    }
  });
  return { x, shape: [M, L, V, C] };
}

/** The mean of the joints that are seen. */
function centreOf({ V, C, x }) {
  const sum = [0, 0, 0];
  let count = 0;
  for (let v = 0; v < V; v++) {
    const joint = [0, 1, 2].map((a) => (a < C ? x[v * C + a] : 0));
    if (joint.every((value) => value === 0)) continue;
    joint.forEach((value, a) => { sum[a] += value; });
    count++;
  }
  return sum.map((value) => value / Math.max(1, count));
}

// ---------------------------------------------------------------------------------------------------------------------
// MediaPipe's world landmarks
// ---------------------------------------------------------------------------------------------------------------------

/**
 * World landmarks, moved along the path that the same joints have in the picture. Metres per width and per height of
 * the picture are those that fit its bodies best to the world's; the path is 0 in the middle.
 */
function withPath(world, picture) {
  const [M, L, V, C] = world.shape, seen = [], spread = [0, 0], fit = [0, 0];
  const joint = ({ x }, row, v) => x.subarray((row * V + v) * C, (row * V + v) * C + Math.min(C, 3));
  for (let row = 0; row < M * L; row++) {
    const there = [...Array(V).keys()].filter((v) => joint(world, row, v).some(Boolean) &&
      joint(picture, row, v).some(Boolean));
    const middles = [world, picture].map((clip) => [0, 1].map((a) =>
      there.reduce((sum, v) => sum + joint(clip, row, v)[a], 0) / Math.max(1, there.length)));
    for (const v of there) {
      for (const a of [0, 1]) {
        const [shape, shapeSeen] = [world, picture].map((clip, k) => joint(clip, row, v)[a] - middles[k][a]);
        spread[a] += shapeSeen ** 2;
        fit[a] += shape * shapeSeen;
      }
    }
    seen.push({ any: there.length > 0, middles });
  }

  // metres per unit of the picture; without an extent in it nothing moves
  const scale = fit.map((sum, a) => sum / Math.max(spread[a], 1e-12));
  if (!scale.every((metres) => metres > 0)) return world;
  const path = seen.map(({ middles: [own, inPicture] }) => own.map((value, a) => inPicture[a] * scale[a] - value));
  const origin = [0, 1].map((a) => median(path.filter((_, row) => seen[row].any).map((place) => place[a])));
  const x = world.x.slice();
  for (let i = 0; i < M * L * V; i++) {
    const row = Math.floor(i / V);
    if (!joint(world, row, i % V).some(Boolean)) continue;
    for (const a of [0, 1]) x[i * C + a] += path[row][a] - origin[a];
  }
  return { x, shape: world.shape };
}

// ---------------------------------------------------------------------------------------------------------------------
// AlphaPose
// ---------------------------------------------------------------------------------------------------------------------

const GAPS = 10, MOST = 20; // of picture_json.py and tracked.py

/** Whether the first entry has what AlphaPose adds to COCO's results: the number of a person, or a picture's name. */
function isAlphaPose(value) {
  const entry = Array.isArray(value) ? value[0] : null;
  return isTable(entry) && ["image_id", "keypoints", "score"].every((key) => key in entry) &&
    (typeof entry.image_id === "string" || "idx" in entry);
}

/** The numbers of AlphaPose's entries: a body whose number the file has keeps its row, others keep theirs by place. */
function alphaPose(entries) {
  const names = [...new Set(entries.map((entry) => String(entry?.image_id)))];
  let number = new Map(names.map((name, at) => [name, at]));
  const named = names.filter((name) => /\d/.test(name))
    .map((name) => [name, Number(name.match(/\d+/g).at(-1).slice(-9))]);
  if (new Set(named.map(([, frame]) => frame)).size === names.length) number = new Map(named);

  // pictures without a body are frames without one
  const frames = new Map();
  entries.forEach((entry, at) => {
    const points = entry?.keypoints;
    if (!Array.isArray(points) || !points.length) throw new Unreadable(`entry ${at} has no key points.`);
    const [idx] = [entry.idx].flat(), frame = number.get(String(entry.image_id));
    if (!frames.has(frame)) frames.set(frame, []);
    frames.get(frame).push({ idx: ["string", "number"].includes(typeof idx) ? idx : null, body: flatBody(points, 3) });
  });
  const order = [...frames.keys()].sort((a, b) => a - b), span = order.at(-1) - order[0];
  const placed = Array.from({ length: span < GAPS * order.length ? span + 1 : order.length }, () => []);
  order.forEach((frame, i) => { placed[span < GAPS * order.length ? frame - order[0] : i] = frames.get(frame); });

  // by their numbers, or by where they are
  const shape = shapeOfAll(placed.map((frame) => frame.map(({ body }) => body))), all = placed.flat();
  if (!all.every(({ idx }) => idx !== null)) {
    const bodies = placed.map((frame) => frame.map(({ body }) => missingAsZeros(body)).filter(hasJoint));
    if (!bodies.flat().length) throw new Unreadable("it shows no body in any frame.");
    return inRows(bodies, bodies, shape);
  }
  const times = new Map();
  for (const { idx } of all) times.set(idx, (times.get(idx) ?? 0) + 1);
  const kept = new Set([...times].sort((a, b) => b[1] - a[1]).slice(0, MOST).map(([idx]) => idx));
  const row = new Map([...times.keys()].filter((idx) => kept.has(idx)).map((idx, m) => [idx, m]));
  const { V, C } = shape, x = new Float32Array(row.size * placed.length * V * C);
  placed.forEach((frame, t) => frame.filter(({ idx }) => row.has(idx)).forEach(({ idx, body }) => {
    x.set(body.x, (row.get(idx) * placed.length + t) * V * C);
  }));
  return { x, shape: [row.size, placed.length, V, C] };
}
