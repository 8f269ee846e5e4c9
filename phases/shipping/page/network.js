// An exported network: its metadata, its reading of a clip, its answer, and when the answer is sure, as in
// phases/shipping/exported.py and live.py. The caller passes the ONNX runtime, so that all but `open` and `answer`
// needs no browser.
import { Unreadable, clipOfNumbers, hasScore, readNumbers, withoutScore } from "./clip.js";
import { AXES, METRES, PLACE, at, bodySize, clipOf, guess, inMetres, isFlat, isSeen, mainTwo, retargeted,
  seenBodies, trunkVector } from "./joints.js";
import { alike, guessedSkeleton, withReordered } from "./skeleton_guess.js";
import { SKELETONS } from "./skeletons.js";
import { spelled } from "./spelling.js";

const FORMAT = "LAST 2"; // of a file's metadata
export const SURE = 0.8, HOLD = 5; // of `just predict stream=true`
export const RATE = 30; // frames a second of the recordings that networks are trained on

/** {key: value} of the metadata in an ONNX file: field 14 of ModelProto, pairs of strings. */
export function metadata(bytes) {
  const text = new TextDecoder(), found = {};
  for (const [field, value] of fields(bytes)) {
    if (field !== 14) continue;
    const pair = Object.fromEntries(fields(value));
    found[text.decode(pair[1])] = text.decode(pair[2]);
  }
  return found;
}

/** A constant of an ONNX file as numbers in float32, null if it has none of that name: an initializer of its graph. */
export function constant(bytes, name) {
  const text = new TextDecoder();
  for (const [field, graph] of fields(bytes)) {
    if (field !== 7) continue;
    for (const [kind, tensor] of fields(graph)) {
      if (kind !== 5) continue;
      const { 8: title, 9: raw } = Object.fromEntries(fields(tensor));
      if (raw && text.decode(title) === name) return new Float32Array(raw.slice().buffer);
    }
  }
  return null;
}

/** [number, bytes] of the fields of a protobuf message that carry bytes. */
function fields(bytes) {
  const found = [];
  let i = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      if (i >= bytes.length) throw new Error("cut off");
      const byte = bytes[i++];
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (i < bytes.length) {
    const key = varint(), kind = key % 8, size = { 0: 0, 1: 8, 2: 0, 5: 4 }[kind];
    if (size === undefined) throw new Error("no protobuf");
    if (kind === 0) varint();
    const length = kind === 2 ? varint() : size;
    if (i + length > bytes.length) throw new Error("cut off");
    if (kind === 2) found.push([Math.floor(key / 8), bytes.subarray(i, i + length)]);
    i += length;
  }
  return found;
}

const NO_DEPTH = "It has no depth, and this network was trained with depth: its answers are not made for that.";

/** Sentences, of which some are empty, as one text. */
const told = (sentences) => sentences.filter(Boolean).join(" ");

/** That a clip's joints were guessed to be of a skeleton, as a sentence. */
const guessed = ({ V }, source, others) =>
  `Read as the ${V} joints of ${source}, by the lengths of their bones; ${others.join(" and ")} has as many.`;

/** The upright axis that the trunk of a clip's first body shows, y if none. */
function upOf(clip, trunk) {
  const { up } = guess(trunkVector(clip, trunk));
  return AXES[up] ? up : "y";
}

export class Network {
  constructor(name, bytes) {
    let about = {};
    try {
      about = metadata(bytes);
    } catch {
      throw new Unreadable(`${name} is not an ONNX file that can be used.`);
    }
    if (about.format?.startsWith("LAST ") && about.format !== FORMAT) {
      throw new Unreadable(`${name} has the format ${about.format}, this page reads ${FORMAT}: export it again with ` +
        "“just phase4”.");
    }
    if (about.format !== FORMAT) {
      throw new Unreadable(`${name} carries no metadata of this project: export it with “just phase4”.`);
    }
    const parsed = (key, otherwise) => JSON.parse(about[key] ?? otherwise);
    Object.assign(this, { name, bytes, about, skeleton: parsed("skeleton"), classes: parsed("classes"),
      view: parsed("view"), threshold: parsed("threshold") });
    this.retarget = withReordered(parsed("retarget", "{}"), this.skeleton);
    this.recorded = { unit: "m", up: "y", channels: "xyz", min_score: 0, reference: [], ...parsed("recorded", "{}") };
    this.knowsPictures = "taught" in about ||
      parsed("pictures", String(this.skeleton.name === "body16" || !(this.recorded.unit in METRES)));
    this.trunk = this.skeleton.trunk?.map((joints) => joints[0]) ?? null;
    this.window = Math.max(this.view.frames, 2 * RATE); // frames
  }

  /** Clip of a file in metres, y up, in the network's joints, and a sentence about what was done to it, or "". */
  read(name, bytes, skeleton) {
    const found = this.source(name, bytes, skeleton);
    return { clip: this.fitted(found), said: found.said };
  }

  /**
   * Clip of a file in metres, y up, in its own joints: {clip, skeleton, said, guess}, said what is done to it, as a
   * sentence; guess: the part of it that tells which of several skeletons with as many joints it was taken for.
   * `skeleton`: whose joints it has, if its format does not say; isMetric: then they are in metres, y up.
   */
  source(name, bytes, skeleton, isMetric = true) {
    const V = this.skeleton.joints.length, mine = this.skeleton.name;
    const numbers = readNumbers(name, bytes, { joints: this.skeleton.joints,
      skeleton: skeleton === mine ? undefined : skeleton });
    const theirs = this.known(numbers, skeleton), { sensor, picture, note = "" } = numbers;
    const isKnown = Boolean(sensor || (skeleton && isMetric && !picture));
    const { clip, asRead, isScored } = this.people(name, numbers, theirs, isKnown);
    const depth = isFlat(clip) && !this.knowsPictures ? NO_DEPTH : "";
    const { source, others = [] } = this.sourceOf(name, asRead, theirs);
    if (source && isKnown) {
      const said = told([`Joints of ${source} are turned into the network's ${mine}.`, depth]);
      return { clip, skeleton: source, said };
    }
    if (source) {
      const { unit, up } = this.measured(clip, source, picture);
      const guess = others.length ? guessed(clip, source, others) : "";
      const said = [`Joints of ${source} (${unit}, ${up} up) are turned into the network's ${mine}.`, guess, note,
        depth];
      const scaled = inMetres(clip, { unit, up }, this.retarget[source].trunk);
      return { clip: scaled, skeleton: source, guess, said: told(said) };
    }
    if (theirs && theirs !== mine) {
      throw new Unreadable(`${name} shows the skeleton ${theirs}; this network knows ${mine} (${V} joints).`);
    }
    if (clip.V !== V) {
      const counts = new Set([V, ...Object.values(this.retarget).map(({ joints }) => joints)]);
      const last = [...counts].sort((a, b) => a - b), most = last.pop();
      const able = last.length ? `${last.join(", ")} or ${most}` : most;
      throw new Unreadable(`${name} has ${clip.V} joints; this network can read clips of ${able} joints.`);
    }
    if (isKnown) return { clip, skeleton: mine, said: told([note, depth]) };

    // pixels are not metres, whatever the training clips were
    const up = isScored ? upOf(clip, this.trunk) : "-y", isPicture = isScored || picture;
    const pixels = { ...this.recorded, unit: "px", up, reference: [] };
    const recorded = isPicture && this.recorded.unit in METRES ? pixels : this.recorded;
    const said = [note, isScored ? `The third number of a joint is a score: read as pixels, ${up} up.` : "",
      isPicture ? "" : this.doubts(clip), depth];
    return { clip: inMetres(clip, recorded, this.trunk), skeleton: mine, said: told(said) };
  }

  /** The skeleton that a file's format or its folder says, as this network calls it; undefined if neither does. */
  known({ skeleton, likely }, described) {
    const own = this.skeleton.joints.map(spelled).join();
    if (skeleton) return SKELETONS[skeleton].joints.join() === own ? this.skeleton.name : skeleton;
    return described ?? (likely in this.retarget ? likely : undefined);
  }

  /**
   * Which other skeleton a clip has that can be turned into the network's own, by the one that is known or by as many
   * joints: {source, others}. source: undefined if it has none; others: those that it may have too, if it is a guess.
   */
  sourceOf(name, clip, theirs) {
    const able = Object.keys(this.retarget).filter((other) => this.retarget[other].joints === clip.V);
    if (theirs) return { source: able.find((other) => other === theirs) };
    if (clip.V === this.skeleton.joints.length) return {};
    const usual = alike(clip.V).map((skeleton) => skeleton.name);
    if (!able.length || usual.length < 2) return { source: able[0] };

    const source = guessedSkeleton(name, clip);
    if (able.includes(source)) return { source, others: usual.filter((other) => other !== source) };
    throw new Unreadable(`${name}: its ${clip.V} joints move as those of ${source}, which cannot be turned into the ` +
      `network's ${this.skeleton.name}.`);
  }

  /**
   * The main two people of a file's numbers as recorded: {clip, asRead, isScored}, isScored: a third number was a
   * score, which asRead still has.
   */
  people(name, numbers, theirs, isKnown) {
    const { sensor, picture } = numbers, { channels, min_score } = this.recorded, mine = this.skeleton.name;
    if (sensor) { // named, and chosen by their reader
      const clip = clipOfNumbers(name, numbers);
      return { clip, asRead: clip, isScored: false };
    }
    const isOwn = numbers.shape[2] === this.skeleton.joints.length && (theirs ?? mine) === mine;
    const clip = clipOfNumbers(name, numbers, { min_score, channels: isOwn && !picture ? channels : "xyz" });
    const isScored = !isKnown && !picture && hasScore(clip);
    const asRead = mainTwo(clip);
    return { clip: isScored ? mainTwo(withoutScore(clip, min_score)) : asRead, asRead, isScored };
  }

  /**
   * A clip in metres, y up, of a skeleton in the network's joints; null if they cannot be turned into them. camera: its
   * joints are a camera's pose.
   */
  fitted({ clip, skeleton, camera }) {
    if (camera) return this.ofCamera ? this.fromCamera(clip) : null;
    if (skeleton === this.skeleton.name && clip.V === this.skeleton.joints.length) return clip;
    const how = this.retarget[skeleton];
    return how?.joints === clip.V ? retargeted(clip, how.means) : null;
  }

  /** What speaks against a clip being recorded as the training clips were: a sentence, or "". */
  doubts(clip) {
    const { length, unit, up } = guess(trunkVector(clip, this.trunk)), { recorded } = this;
    const odd = [];
    if (unit && recorded.unit in METRES && unit !== recorded.unit) odd.push(`a trunk is ${length.toPrecision(3)} long`);
    if (up && up !== recorded.up) odd.push(`bodies stand along ${up}`);
    if (!odd.length) return "";
    return `In it ${odd.join(" and ")}; the network was trained on clips in ${recorded.unit} with ${recorded.up} up.`;
  }

  /** Unit and upright axis of another skeleton's clip: its trunk shows them, or it is a picture's. */
  measured(clip, source, isPicture) {
    const { trunk } = this.retarget[source];
    const unit = isFlat(clip) ? "px" : guess(trunkVector(clip, trunk)).unit || "body";
    return { unit, up: isPicture ? "-y" : upOf(clip, trunk) };
  }

  /** How a camera's pose (mediapipe33) becomes the network's joints: a table of means, or null if it cannot. */
  get ofCamera() {
    if (this.skeleton.name === "mediapipe33") return this.skeleton.joints.map((_, v) => [v]);
    return this.retarget.mediapipe33?.means ?? null;
  }

  /** A camera's clip of mediapipe33 in metres as the network's training clips were: joints, size, place and depth. */
  fromCamera(clip) {
    const out = retargeted(clip, this.ofCamera), reference = this.recorded.reference;
    const right = this.recorded.up === "-y" ? 1 : -1; // where x runs in flat clips of this network
    if (this.recorded.unit === "px") out.x.forEach((value, i) => { out.x[i] = [right, 1, 0][i % 3] * value; });
    const scale = METRES[this.recorded.unit] ? 1 : 1 / bodySize(out, this.trunk);
    for (let l = 0; l < out.L; l++) {
      const origin = [0, 1, 2].map((a) => reference.reduce((sum, v) => sum + out.x[at(out, 0, l, v) + a], 0));
      for (let v = 0; v < out.V; v++) {
        const i = at(out, 0, l, v);
        if (!isSeen(out, 0, l, v)) continue;
        for (let a = 0; a < 3; a++) {
          const place = reference.length ? PLACE[a] : 0;
          out.x[i + a] = scale * (out.x[i + a] - origin[a] / Math.max(1, reference.length)) + place;
        }
      }
    }
    return out;
  }

  async open(ort) {
    const weightOnly = this.about.form === "w8";
    try {
      this.session = await ort.InferenceSession.create(this.bytes, { executionProviders: ["wasm"],
        extra: { session: { disable_quant_qdq: weightOnly ? "1" : "0" } } });
    } catch {
      throw new Unreadable(`${this.name} could not be opened by the ONNX runtime.`);
    }
    this.ort = ort;
  }

  /** What features are multiplied with before they are compared: a constant of the file. */
  get featureScale() {
    this.scale ??= constant(this.bytes, "feature_scale");
    if (!this.scale) throw new Unreadable(`${this.name} cannot be taught: export it again with “just phase4”.`);
    return this.scale;
  }

  /** 1 - the mean cosine of two of the classes that it was trained on: network_gap of taught.py. */
  get gap() {
    if (this.about.gap) return JSON.parse(this.about.gap);
    const C = this.featureScale.length, all = constant(this.bytes, "class_means") ?? [], means = [];
    for (let i = 0; i < all.length; i += C) means.push(all.slice(i, i + C));
    const known = means.filter((mean) => mean.some(Boolean)); // zeros: a class that was kept from it
    if (known.length < 2) throw new Unreadable(`${this.name} cannot be taught: export it again with “just phase4”.`);
    const cosines = known.flatMap((a, k) => known.slice(0, k).map((b) => a.reduce((sum, v, i) => sum + v * b[i], 0)));
    return 1 - cosines.reduce((a, b) => a + b, 0) / cosines.length;
  }

  /** The outputs for a clip in metres, and the milliseconds that took; one clip at a time. */
  run(clip) {
    this.last = (this.last ?? Promise.resolve()).catch(() => {}).then(async () => {
      const started = performance.now(), { x, M, L, V } = seenBodies(clip);
      const joints = new this.ort.Tensor("float32", x, [M, L, V, 3]);
      const found = await this.session.run({ joints }, ["probabilities", "features", "likeness"]);
      return { p: Array.from(found.probabilities.data), features: Array.from(found.features.data),
        likeness: found.likeness.data[0], ms: performance.now() - started };
    });
    return this.last;
  }

  /**
   * Of a clip in metres: the probabilities p of the classes, whether it is known (if not, it shows none of them), and
   * the milliseconds that took.
   */
  async answer(clip) {
    const { p, likeness, ms } = await this.run(clip);
    return { p, known: likeness >= this.threshold, ms };
  }

  /** The k likeliest: [{label, p}], the likeliest first. */
  top(p, k) {
    const order = p.map((_, c) => c).sort((a, b) => p[b] - p[a] || a - b);
    return order.slice(0, k).map((c) => ({ label: this.classes[c], p: p[c] }));
  }
}

/** Says a class as soon as it has led for HOLD frames with a probability of at least SURE, then when another does. */
export class Watcher {
  constructor() {
    this.leads = [];
    this.said = null;
  }

  /** The class that has just become sure, or null. In a window that is not known, none leads. */
  see(p, known = true) {
    const best = p.indexOf(Math.max(...p));
    this.leads.push(known && p[best] >= SURE ? best : -1);
    if (this.leads.length > HOLD) this.leads.shift();
    const one = this.leads.length === HOLD && this.leads.every((lead) => lead === this.leads[0]);
    if (!one || this.leads[0] === -1 || this.leads[0] === this.said) return null;
    this.said = this.leads[0];
    return this.said;
  }

  /** Whether the class said last has led in one of the last HOLD frames. */
  get holds() {
    return this.said !== null && this.leads.includes(this.said);
  }
}

/** The newest frames of a stream: each {t: seconds, x: Float32Array of (M, V, 3)}, at whatever rate they come. */
export class Window {
  constructor(M, V, frames) {
    Object.assign(this, { M, V, frames, kept: [] });
  }

  /** Keep a frame. After a second without any, what came before is forgotten. */
  push(t, x) {
    const last = this.kept.at(-1);
    if (last && (t - last.t > 1 || t < last.t)) this.kept = [];
    this.kept.push({ t, x });
    const start = t - (this.frames - 1) / RATE + 1e-9;
    while (this.kept.length > 1 && this.kept[1].t <= start) this.kept.shift();
  }

  get seen() {
    return this.kept.some((frame) => frame.x.some((value) => value !== 0));
  }

  /** The window as a clip of RATE frames a second: a joint between two frames lies on the line between them. */
  clip() {
    const first = this.kept[0].t, last = this.kept.at(-1).t, size = this.V * 3;
    const L = Math.min(this.frames, Math.round((last - first) * RATE) + 1), clip = clipOf(this.M, L, this.V);
    let k = 0;
    for (let l = 0; l < L; l++) {
      const t = last - (L - 1 - l) / RATE;
      while (k < this.kept.length - 2 && this.kept[k + 1].t <= t) k++;
      const a = this.kept[k], b = this.kept[Math.min(k + 1, this.kept.length - 1)];
      const share = b.t > a.t ? Math.min(1, Math.max(0, (t - a.t) / (b.t - a.t))) : 0;
      for (let m = 0; m < this.M; m++) {
        for (let v = 0; v < this.V; v++) {
          const i = m * size + v * 3, to = at(clip, m, l, v);
          const there = (x) => x[i] !== 0 || x[i + 1] !== 0 || x[i + 2] !== 0;
          const both = there(a.x) && there(b.x), nearer = share < 0.5 ? a.x : b.x;
          for (let c = 0; c < 3; c++) {
            clip.x[to + c] = both ? a.x[i + c] + share * (b.x[i + c] - a.x[i + c]) : nearer[i + c];
          }
        }
      }
    }
    return clip;
  }
}
