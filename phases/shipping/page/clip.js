// Files -> clips, as phases/recordings/readers.py reads them: .npy, .skeleton (NTU RGB+D), .json and .csv.
// A file that cannot be read raises an Unreadable with one sentence for the page. Pure functions, no browser.
import { clipOfTable } from "./csv_clip.js";
import { at, clipOf, seenBodies } from "./joints.js";
import { peopleOfJson } from "./people_json.js";
import { Unreadable } from "./unreadable.js";

export { Unreadable };

export const CLIPS = [".npy", ".skeleton", ".json", ".csv"];
const NO_CLIPS = ["skeleton.json", "labels.csv"];
const NW_UCLA = /^a\d+_s\d+_e\d+_v\d+\.json$/i;

export const suffixOf = (name) => name.slice(name.lastIndexOf(".")).toLowerCase();

/** Whether a file is a clip by its name, which may have folders. */
export const isClip = (name) => CLIPS.includes(suffixOf(name)) && !NO_CLIPS.includes(name.split("/").at(-1));

/**
 * The numbers of a clip's file, and what its format says of them: {x, shape: [M, L, V, C], skeleton, likely, sensor,
 * picture, note}. sensor: they are in metres, y up; picture: in pixels, y down; skeleton: whose joints they are,
 * likely: whose they are if that can be turned. network: {joints: its own; skeleton: another one the file may have}.
 */
export function readNumbers(name, bytes, network = {}) {
  const readers = { ".npy": readNpy, ".skeleton": readNtu, ".json": () => readJson(name, bytes),
    ".csv": () => clipOfTable(bytes, network) };
  const reader = readers[suffixOf(name)];
  if (!reader) throw new Unreadable(`${name} is no clip: a clip ends in ${CLIPS.join(", ")}.`);
  if (!bytes.length) throw new Unreadable(`${name} cannot be read: it is empty.`);
  let found;
  try {
    found = reader(bytes);
    if (found.shape.length === 3) found.shape = [1, ...found.shape];
    const [M, L, V, C] = found.shape;
    if (found.shape.length !== 4 || ![2, 3, 4].includes(C)) {
      throw new Unreadable(`its joints have the shape (${found.shape.join(", ")}); it must be (frames, joints, 3) or ` +
        "(bodies, frames, joints, 3).");
    }
    if (M > 100 || L > 1e6 || V > 1000) {
      throw new Unreadable(`its joints have the shape (${found.shape.join(", ")}): at most 100 bodies, 1000000 ` +
        "frames and 1000 joints are read.");
    }
  } catch (e) {
    if (e instanceof Unreadable) throw new Unreadable(`${name} cannot be read: ${e.message}`);
    throw new Unreadable(`${name} cannot be read: it is damaged, or not what its name says.`);
  }
  if (!found.x.length) throw new Unreadable(`${name} holds no frame.`);
  return found;
}

/**
 * The clip of numbers: everybody that is seen, joints as recorded; those of low score are 0: see leastScore. recorded:
 * channels and min_score of the network's training clips.
 */
export function clipOfNumbers(name, { x, shape: [M, L, V, C] }, recorded = {}) {
  const clip = clipOf(M, L, V), scored = C === 4 || (C === 3 && recorded.channels === "xys");
  const least = scored ? leastOfClip(x.filter((_, i) => i % C === C - 1), recorded.min_score) : 0;
  for (let i = 0; i < M * L * V; i++) {
    const score = scored ? x[i * C + C - 1] : 1;
    if (!(score > 0 && score >= least)) continue;
    const joint = x.slice(i * C, i * C + C - (scored ? 1 : 0));
    if (!joint.some(Number.isNaN)) clip.x.set(joint, i * 3); // a joint with a number that is none is missing
  }
  if (!clip.x.every(Number.isFinite)) throw new Unreadable(`${name}: a coordinate is not a finite number.`);
  if (!clip.x.some((value) => value !== 0)) throw new Unreadable(`${name} shows no body in any frame.`);
  return seenBodies(clip);
}

const PIXELS = 20; // of clips.py: a body larger than this is not in metres

/** Whether the third number of joints is a score: within 0 to 1 where bodies are of many pixels. */
export function hasScore({ x }) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  let some = false;
  for (let i = 0; i < x.length; i += 3) {
    const seen = x[i] !== 0 || x[i + 1] !== 0 || x[i + 2] !== 0;
    some ||= x[i + 2] !== 0;
    for (let a = seen ? 0 : 2; a < 3; a++) { // a missing joint has the score 0
      low[a] = Math.min(low[a], x[i + a]);
      high[a] = Math.max(high[a], x[i + a]);
    }
  }
  return some && low[2] >= 0 && high[2] <= 1.001 && Math.max(high[0] - low[0], high[1] - low[1]) > PIXELS;
}

/** A clip of x, y, score as one of x, y, 0; joints of low score are missing. */
export function withoutScore(clip, minScore) {
  const least = leastOfClip(clip.x.filter((_, i) => i % 3 === 2), minScore), out = clipOf(clip.M, clip.L, clip.V);
  for (let i = 0; i < clip.x.length; i += 3) {
    if (clip.x[i + 2] > 0 && clip.x[i + 2] >= least) out.x.set(clip.x.subarray(i, i + 2), i);
  }
  return out;
}

/** The least score of a joint that counts, as a float32, which scores are; minScore: the network's, or 0. */
const leastOfClip = (scores, minScore) => Math.fround(minScore || leastScore(scores));

const STEP = 0.05, BORDER = 0.5, FEW = 0.01; // as in phases/recordings/scores.py

/** The least score of a joint that counts, by the scores of a clip: the border of a group of low ones; 0 without it. */
export function leastScore(scores) {
  const sorted = Float64Array.from(scores.filter((score) => score > 0 && score < Infinity)).sort();
  if (!sorted.length) return 0;
  const place = 0.95 * (sorted.length - 1), below = sorted[Math.floor(place)];
  const high = below + (place % 1) * (sorted[Math.ceil(place)] - below), bins = Math.round(BORDER / STEP);
  const count = Array(bins).fill(0);
  for (const score of sorted) {
    if (score / high <= BORDER) count[Math.min(bins - 1, Math.floor(score / high / STEP))]++;
  }
  const first = 1 + count.slice(1).indexOf(Math.min(...count.slice(1)));
  let last = first;
  while (last + 1 < bins && count[last + 1] <= count[first]) last++;
  const sum = count.slice(0, first).reduce((a, b) => a + b, 0), low = sum / sorted.length;
  if (low < FEW || low > 1 - BORDER || count[first] > sum / first / 2) return 0;
  return Number(((STEP * (first + last + 1)) / 2 * high).toPrecision(2));
}

const NUMBERS = { // numpy's type -> [bytes, reader of a DataView]
  f4: [4, "getFloat32"], f8: [8, "getFloat64"], i1: [1, "getInt8"], u1: [1, "getUint8"], i2: [2, "getInt16"],
  u2: [2, "getUint16"], i4: [4, "getInt32"], u4: [4, "getUint32"], i8: [8, "getBigInt64"], u8: [8, "getBigUint64"],
};

function readNpy(bytes) {
  if (bytes[0] !== 0x93 || String.fromCharCode(...bytes.subarray(1, 6)) !== "NUMPY") {
    throw new Unreadable("it is not a numpy file, whatever its name says.");
  }
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), wide = bytes[6] > 1;
  const start = wide ? 12 : 10, end = start + (wide ? data.getUint32(8, true) : data.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, end));
  const type = /'descr': *'([<>|=])(\w\d+)'/.exec(header), shape = /'shape': *\(([^)]*)\)/.exec(header);
  if (!type || !NUMBERS[type[2]] || !shape) {
    throw new Unreadable("its numbers are of a type that this page does not know; save it as float32.");
  }
  const sizes = shape[1].split(",").filter((word) => word.trim()).map(Number), little = type[1] !== ">";
  const [width, get] = NUMBERS[type[2]], count = sizes.reduce((a, b) => a * b, 1);
  if (end + count * width > bytes.length) throw new Unreadable("it ends too early.");
  const values = new Float32Array(count), fortran = /'fortran_order': *True/.test(header);
  for (let i = 0; i < count; i++) {
    values[fortran ? inOrder(i, sizes) : i] = Number(data[get](end + i * width, little));
  }
  return { x: values, shape: sizes };
}

/** Place in C order of the i-th number in Fortran's order, in which the first index runs fastest. */
function inOrder(i, sizes) {
  let place = 0, stride = sizes.reduce((a, b) => a * b, 1);
  for (const size of sizes) {
    stride /= size;
    place += (i % size) * stride;
    i = Math.floor(i / size);
  }
  return place;
}

/** Frames of any kind; of Northwestern-UCLA by its name, or that of the recording in it. */
function readJson(name, bytes) {
  const text = new TextDecoder().decode(bytes), start = text.slice(0, 1000);
  const isSensor = start.includes('"skeletons"') && (start.includes('"file_name"') || NW_UCLA.test(name));
  return { ...peopleOfJson(text), ...(isSensor ? { sensor: true, skeleton: "kinect20" } : {}) };
}

// ---------------------------------------------------------------------------------------------------------------------
// NTU RGB+D
// ---------------------------------------------------------------------------------------------------------------------

function readNtu(bytes) {
  const lines = new TextDecoder().decode(bytes).split("\n");
  while (lines.length && !lines[lines.length - 1].trim()) lines.pop();
  let line = 0;
  const fail = (why) => new Unreadable(`line ${line}: ${why}`);
  const take = () => {
    if (line >= lines.length) throw fail("the file ends here, in the middle of a frame.");
    return lines[line++].trim();
  };
  const count = (what, most) => {
    const word = take();
    if (!/^\d+$/.test(word) || Number(word) > most) throw fail(`“${word.slice(0, 40)}” is not a number of ${what}.`);
    return Number(word);
  };
  const frames = count("frames", 1e6), tracks = new Map(); // body id -> {frames: [], joints: []}
  for (let t = 0; t < frames; t++) {
    for (let n = count("bodies", 20); n > 0; n--) {
      const head = take().split(/\s+/);
      if (head.length !== 10) throw fail(`a body has 10 fields, this line has ${head.length}.`);
      const joints = count("joints", 1000);
      if (joints !== 25) throw fail(`a body has 25 joints, this one has ${joints}.`);
      if (!tracks.has(head[0])) tracks.set(head[0], { frames: [], joints: [] });
      const track = tracks.get(head[0]);
      if (track.frames.at(-1) === t) throw fail(`body ${head[0]} appears twice in frame ${t}.`);
      track.frames.push(t);
      for (let v = 0; v < 25; v++) {
        const words = take().split(/\s+/);
        if (words.length !== 12) throw fail(`a joint has 12 numbers, this line has ${words.length}.`);
        const xyz = words.slice(0, 3).map(Number);
        if (!xyz.every(Number.isFinite)) throw fail(`“${words.slice(0, 3).join(" ")}” are not three coordinates.`);
        track.joints.push(...xyz.map(Math.fround));
      }
    }
  }
  if (line < lines.length) throw new Unreadable(`line ${line + 1}: text after the last of ${frames} frames.`);
  if (!tracks.size) throw new Unreadable("it shows no body in any frame.");
  const { x, M, L, V } = actors([...tracks.values()]);
  return { x, shape: [M, L, V, 3], sensor: true, skeleton: "ntu25" };
}

/** One or two actors of the tracks of a clip: ntu.clean_bodies. */
function actors(tracks) {
  const motion = ({ joints }) => {
    let sum = 0;
    for (let a = 0; a < 3; a++) {
      const axis = joints.filter((_, i) => i % 3 === a), mean = axis.reduce((s, x) => s + x, 0) / axis.length;
      sum += axis.reduce((s, x) => s + (x - mean) ** 2, 0) / axis.length;
    }
    return sum;
  };
  const extent = (track, f, a) => {
    const values = Array.from({ length: 25 }, (_, v) => track.joints[(f * 25 + v) * 3 + a]);
    return Math.max(...values) - Math.min(...values);
  };
  const long = (track) => track.frames.length > 11;
  const plausible = (track) => {
    const wide = track.frames.filter((_, f) => extent(track, f, 0) > 0.8 * extent(track, f, 1)).length;
    return wide / track.frames.length < 0.69754;
  };
  for (const track of tracks) track.motion = motion(track);
  tracks.sort((a, b) => b.motion - a.motion);
  for (const good of [long, plausible]) {
    const kept = tracks.filter(good);
    if (tracks.length > 1) tracks = kept.length ? kept : tracks.slice(0, 1);
  }
  const cast = []; // of each actor its tracks
  for (const track of tracks) {
    const free = cast.find((own) => !own.some((other) => track.frames.some((t) => other.frames.includes(t))));
    if (free) free.push(track);
    else if (cast.length < 2) cast.push([track]);
  }
  const seen = [...new Set(cast.flat().flatMap((track) => track.frames))].sort((a, b) => a - b);
  const clip = clipOf(cast.length, seen.length, 25), place = new Map(seen.map((t, l) => [t, l]));
  cast.forEach((own, m) => own.forEach((track) => track.frames.forEach((t, f) => {
    clip.x.set(track.joints.slice(f * 75, f * 75 + 75), at(clip, m, place.get(t), 0));
  })));
  return clip;
}
