// From joints as recorded to those that a network takes, in JavaScript: phases/recordings/metres.py and
// skeletons.retargeted. The network's file does the rest.
// A clip is {x: Float32Array, M, L, V}: bodies, frames, joints, and x[((m·L + l)·V + v)·3 + axis].
// A joint at 0, 0, 0 is missing. Pure functions, no browser.

export const METRES = { m: 1, cm: 0.01, mm: 0.001 };
export const AXES = { // axis of y-up coordinates -> [recorded axis, sign]
  y: [[0, 1], [1, 1], [2, 1]], "-y": [[0, -1], [1, -1], [2, 1]],
  z: [[0, 1], [2, 1], [1, -1]], "-z": [[0, 1], [2, -1], [1, 1]],
};
export const PLACE = [0, 0, 2];
const TRUNK = 0.5, HEIGHT = 1.7;
const CLEARLY = 1.2, RAPID = 0.05; // of clips.py

export const clipOf = (M, L, V) => ({ x: new Float32Array(M * L * V * 3), M, L, V });

/** Where joint v of body m in frame l begins in clip.x. */
export const at = (clip, m, l, v) => ((m * clip.L + l) * clip.V + v) * 3;

export function isSeen(clip, m, l, v) {
  const i = at(clip, m, l, v);
  return clip.x[i] !== 0 || clip.x[i + 1] !== 0 || clip.x[i + 2] !== 0;
}

/** Whether a clip has no depth, as a picture's. */
export const isFlat = ({ x }) => x.every((value, i) => i % 3 !== 2 || value === 0);

/** The clip without bodies that are never seen; if none is seen, as it was. */
export function seenBodies(clip) {
  const size = clip.L * clip.V * 3, parts = [];
  for (let m = 0; m < clip.M; m++) {
    const body = clip.x.subarray(m * size, (m + 1) * size);
    if (body.some((value) => value !== 0)) parts.push(body);
  }
  if (parts.length === clip.M || !parts.length) return clip;
  const out = clipOf(parts.length, clip.L, clip.V);
  parts.forEach((body, m) => out.x.set(body, m * size));
  return out;
}

export function median(values) {
  const sorted = Float64Array.from(values).sort(), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** [x, y, z] from the middle of the hips to that of the shoulders, the median over frames of body 0; null without. */
export function trunkVector(clip, trunk) {
  if (!trunk) return null;
  const found = [[], [], []];
  for (let l = 0; l < clip.L; l++) {
    if (!trunk.every((v) => isSeen(clip, 0, l, v))) continue;
    const [ls, rs, lh, rh] = trunk.map((v) => at(clip, 0, l, v));
    for (let a = 0; a < 3; a++) {
      found[a].push((clip.x[ls + a] + clip.x[rs + a] - clip.x[lh + a] - clip.x[rh + a]) / 2);
    }
  }
  return found[0].length ? found.map(median) : null;
}

/** Recorded units per metre: by the trunk of body 0, else by the longest side of its joints' box. */
export function bodySize(clip, trunk) {
  const vector = trunkVector(clip, trunk);
  const size = vector ? Math.hypot(...vector) / TRUNK : 0;
  if (size > 0) return size;
  const sides = [];
  for (let l = 0; l < clip.L; l++) {
    const low = [Infinity, Infinity, Infinity], high = low.map((x) => -x);
    let joints = 0;
    for (let v = 0; v < clip.V; v++) {
      if (!isSeen(clip, 0, l, v)) continue;
      joints++;
      const i = at(clip, 0, l, v);
      for (let a = 0; a < 3; a++) {
        low[a] = Math.min(low[a], clip.x[i + a]);
        high[a] = Math.max(high[a], clip.x[i + a]);
      }
    }
    if (joints > 1) sides.push(Math.max(...high.map((x, a) => x - low[a])));
  }
  const box = sides.length ? median(sides) / HEIGHT : 1;
  return box > 0 ? box : 1;
}

/** Joints as recorded -> metres, y up; a missing joint stays 0, 0, 0. */
export function inMetres(clip, recorded, trunk) {
  const reference = recorded.reference ?? [];
  if (recorded.unit === "m" && recorded.up === "y" && !reference.length) return clip;
  const out = clipOf(clip.M, clip.L, clip.V), axes = AXES[recorded.up];
  for (let i = 0; i < clip.x.length; i += 3) {
    for (let a = 0; a < 3; a++) out.x[i + a] = clip.x[i + axes[a][0]] * axes[a][1];
  }
  const scale = METRES[recorded.unit] ?? 1 / bodySize(out, trunk);
  for (let m = 0; m < clip.M; m++) {
    for (let l = 0; l < clip.L; l++) {
      let anyone = false;
      for (let v = 0; v < clip.V; v++) anyone ||= isSeen(clip, m, l, v);
      for (let v = 0; v < clip.V; v++) {
        const i = at(clip, m, l, v), there = isSeen(clip, m, l, v) || (anyone && reference.includes(v));
        for (let a = 0; a < 3; a++) {
          out.x[i + a] = there ? out.x[i + a] * scale + (reference.length ? PLACE[a] : 0) : 0;
        }
      }
    }
  }
  return out;
}

/** {length, unit, up} of a trunk as recorded; "" where it does not tell. */
export function guess(trunk) {
  const length = trunk ? Math.hypot(...trunk) : 0;
  if (!(length > 0)) return { length: 0, unit: "", up: "" };
  const shares = trunk.map((x) => x / length);
  const axis = shares.reduce((best, x, a) => (Math.abs(x) > Math.abs(shares[best]) ? a : best), 0);
  const units = trunk[2] ? METRES : { m: 1 };
  const unit = Object.keys(units).find((u) => length * units[u] > 0.15 && length * units[u] < 1.5) ?? "px";
  return { length, unit, up: Math.abs(shares[axis]) > 0.6 ? (shares[axis] < 0 ? "-" : "") + "xyz"[axis] : "" };
}

/** Joints of another skeleton: each a mean of those in its line of the table that are seen. */
export function retargeted(clip, table) {
  const out = clipOf(clip.M, clip.L, table.length);
  for (let m = 0; m < clip.M; m++) {
    for (let l = 0; l < clip.L; l++) {
      table.forEach((of, v) => {
        const seen = of.filter((u) => isSeen(clip, m, l, u)), to = at(out, m, l, v);
        for (let a = 0; a < 3; a++) {
          const sum = seen.reduce((total, u) => total + clip.x[at(clip, m, l, u) + a], 0);
          out.x[to + a] = sum / Math.max(1, seen.length);
        }
      });
    }
  }
  return out;
}

/** The main two of several bodies, the main one first, as main_bodies in phases/recordings/clips.py finds them. */
export function mainTwo(clip) {
  if (clip.M < 2) return clip;
  const bodies = Array.from({ length: clip.M }, (_, m) => ({ m, ...activityOf(clip, m) }));
  const longest = Math.max(...bodies.map((body) => body.seen));
  for (const body of bodies) body.stays = 2 * body.seen >= longest;
  bodies.sort((a, b) => b.stays - a.stays || b.active - a.active || a.m - b.m);

  // about as active: in the order of the file
  const [first, second] = bodies, inOrder = second.m < first.m && second.stays;
  const two = inOrder && first.active <= CLEARLY * second.active ? [second.m, first.m] : [first.m, second.m];
  const out = clipOf(2, clip.L, clip.V), size = clip.L * clip.V * 3;
  two.forEach((from, m) => out.x.set(clip.x.subarray(from * size, (from + 1) * size), m * size));
  return out;
}

/**
 * How far the joints of body m get from their mean places, and the frames in which it is seen: `activity` in clips.py.
 * The variance of a joint's places, less half its mean squared step, which is its noise.
 */
function activityOf(clip, m) {
  let spread = 0, noise = 0, joints = 0;
  const shown = new Set();
  for (let v = 0; v < clip.V; v++) {
    const found = [];
    for (let l = 0; l < clip.L; l++) if (isSeen(clip, m, l, v)) found.push(l);
    if (!found.length) continue;
    joints += 1;

    let squares = 0, steps = 0;
    for (let a = 0; a < 3; a++) {
      const place = (l) => clip.x[at(clip, m, l, v) + a];
      const mean = found.reduce((sum, l) => sum + place(l), 0) / found.length;
      spread += found.reduce((sum, l) => sum + (place(l) - mean) ** 2, 0) / found.length;
    }
    found.forEach((l, i) => {
      shown.add(l);
      if (!i || found[i - 1] !== l - 1) return;
      const to = at(clip, m, l, v), from = at(clip, m, l - 1, v);
      for (let a = 0; a < 3; a++) squares += (clip.x[to + a] - clip.x[from + a]) ** 2;
      steps += 1;
    });
    noise += squares / Math.max(1, steps) / 2;
  }
  const active = Math.max(spread - noise, RAPID * spread) / Math.max(1, joints);
  return { active: Math.sqrt(active), seen: shown.size };
}
