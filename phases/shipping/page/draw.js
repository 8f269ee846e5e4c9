// What stands on the canvases: a body over the picture, and the strip of the last seconds.
import { at, isSeen } from "./joints.js";
import { BONES } from "./pose.js";

const REGION_INKS = ["--left-arm", "--right-arm", "--left-leg", "--right-leg", "--torso"]; // in a skeleton's order

const HEAD = 0.09; // metres, half a head
const CASING = "rgb(255 255 255 / 0.8)";

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A canvas as sharp as the screen, empty; its context counts CSS pixels. */
function cleared(canvas) {
  const ratio = devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.lineCap = context.lineJoin = "round";
  return { context, width, height };
}

function line(context, a, b) {
  context.beginPath();
  context.moveTo(a.x, a.y);
  context.lineTo(b.x, b.y);
  context.stroke();
}

/** Bones [{a, b, ink}] between points in pixels, on a casing that keeps them apart from what lies below. */
function bones(context, parts, width, casing) {
  const visible = parts.filter(({ a, b }) => a && b);
  if (casing) {
    context.strokeStyle = casing;
    context.lineWidth = width + 3;
    for (const { a, b } of visible) line(context, a, b);
  }
  context.lineWidth = width;
  for (const part of visible) {
    context.strokeStyle = part.ink;
    line(context, part.a, part.b);
  }
}

export function blank(canvas) {
  cleared(canvas);
}

/** The landmarks of a picture of that width and height, which is shown as large as fits into the canvas. */
export function overPicture(canvas, landmarks, pictureWidth, pictureHeight) {
  const { context, width, height } = cleared(canvas);
  if (!landmarks) return;
  const scale = Math.min(width / pictureWidth, height / pictureHeight);
  const left = (width - pictureWidth * scale) / 2, top = (height - pictureHeight * scale) / 2;
  const points = landmarks.map((p) => (p.visibility < 0.4 ? null : {
    x: left + p.x * pictureWidth * scale, y: top + p.y * pictureHeight * scale }));
  const inks = REGION_INKS.map(ink);
  const inkOf = (v) => inks[v < 13 || v === 23 || v === 24 ? 4 : 1 - (v % 2) + (v > 24 ? 2 : 0)];
  bones(context, BONES.map(([a, b]) => ({ a: points[a], b: points[b], ink: inkOf(b) })), 4, CASING);
  points.forEach((point, v) => {
    if (!point) return;
    context.beginPath();
    context.arc(point.x, point.y, v < 11 ? 2.5 : 4, 0, 2 * Math.PI);
    context.fillStyle = inkOf(v);
    context.strokeStyle = CASING;
    context.lineWidth = 1.5;
    context.stroke();
    context.fill();
  });
}

/** {x, y}: lowest and highest over a clip as the camera saw it, or null if nothing is seen. */
export function box(clip, mirrored) {
  const found = { left: Infinity, right: -Infinity, low: Infinity, high: -Infinity };
  for (let m = 0; m < clip.M; m++) {
    for (let l = 0; l < clip.L; l++) {
      for (let v = 0; v < clip.V; v++) {
        if (!isSeen(clip, m, l, v)) continue;
        const i = at(clip, m, l, v), x = clip.x[i] * (mirrored ? -1 : 1), y = clip.x[i + 1];
        found.left = Math.min(found.left, x);
        found.right = Math.max(found.right, x);
        found.low = Math.min(found.low, y);
        found.high = Math.max(found.high, y);
      }
    }
  }
  return found.left <= found.right ? found : null;
}

/** Frame l: `place` puts a joint on the paper, `scale` is pixels a metre. */
function body(context, clip, l, skeleton, place, scale, width) {
  const region = new Map();
  Object.values(skeleton.regions).forEach((joints, r) => joints.forEach((v) => region.set(v, r)));
  for (let m = clip.M - 1; m >= 0; m--) {
    const inks = REGION_INKS.map((name) => (m ? `color-mix(in srgb, ${ink(name)} 50%, ${ink("--paper")})` : ink(name)));
    const points = [...Array(clip.V).keys()].map((v) => (isSeen(clip, m, l, v) ? place(at(clip, m, l, v)) : null));
    const parts = skeleton.parents.map((parent, v) => ({ a: points[v], b: parent === v ? null : points[parent],
      ink: inks[region.get(v) % inks.length] }));
    bones(context, parts, width, null);
    const head = skeleton.joints.findIndex((name) => /head|nose/.test(name));
    if (points[head]) {
      context.fillStyle = inks[region.get(head) % inks.length];
      context.beginPath();
      context.arc(points[head].x, points[head].y, HEAD * scale, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

/** Frame l of a clip in metres, as large as the whole clip allows. */
export function clipFrame(canvas, clip, l, skeleton) {
  const { context, width, height } = cleared(canvas), limits = box(clip, true); // x runs to the camera's left
  if (!limits) return;
  const margin = 0.1 * Math.min(width, height), wide = limits.right - limits.left, tall = limits.high - limits.low;
  const scale = Math.min((width - 2 * margin) / Math.max(wide, 1e-3), (height - 2 * margin) / Math.max(tall, 1e-3));
  const middle = (limits.left + limits.right) / 2, floor = (height + tall * scale) / 2;
  context.strokeStyle = ink("--line");
  context.lineWidth = 1.5;
  line(context, { x: margin, y: floor + 6 }, { x: width - margin, y: floor + 6 });
  const place = (i) => ({ x: width / 2 + (-clip.x[i] - middle) * scale,
    y: floor - (clip.x[i + 1] - limits.low) * scale });
  body(context, clip, l, skeleton, place, scale, Math.max(height < 200 ? 2.5 : 4, height / 75));
}

/** The window as a row of poses, oldest first, and under it how probable the likeliest action was at each moment.
 *
 * past: [{ago: seconds, p, sure}], oldest first; flipped: like the mirror that the picture of a camera is.
 */
export function strip(canvas, clip, skeleton, past, seconds, flipped = false) {
  const { context, width, height } = cleared(canvas), curve = 16, room = height - curve - 6;
  context.fillStyle = ink("--line");
  context.fillRect(0, height - 1, width, 1);
  if (clip) {
    const mirrored = !flipped, limits = box(clip, mirrored);
    const cells = Math.max(4, Math.floor(width / 64));
    const tall = limits ? limits.high - limits.low : 0, full = Math.max(clip.L, 1) - 1;
    const wide = limits ? limits.right - limits.left : 0;
    const scale = Math.min((room - 8) / Math.max(tall, 1e-3), (1.6 * width) / cells / Math.max(wide, 1e-3));
    for (let k = 0; limits && k < cells; k++) {
      const l = full - Math.round(((cells - 1 - k) / cells) * seconds * 30);
      if (l < 0) continue;
      const seen = [...Array(clip.V).keys()].filter((v) => isSeen(clip, 0, l, v));
      if (!seen.length) continue;
      const middle = seen.reduce((sum, v) => sum + clip.x[at(clip, 0, l, v)], 0) / seen.length;
      const x = ((k + 0.5) / cells) * width;
      context.globalAlpha = 0.3 + (0.7 * (k + 1)) / cells;
      body(context, clip, l, skeleton, (i) => ({ x: x + (clip.x[i] - middle) * scale * (mirrored ? -1 : 1),
        y: room - (clip.x[i + 1] - limits.low) * scale + 2 }), scale, 1.8);
    }
    context.globalAlpha = 1;
  }
  const inks = [ink("--muted"), ink("--accent")], x = (ago) => width * (1 - Math.min(ago, seconds) / seconds);
  past.forEach(({ ago, p, sure }, i) => { // each moment lasts until the next
    const until = i + 1 < past.length ? past[i + 1].ago : ago - 1 / 30;
    context.fillStyle = inks[Number(sure)];
    context.fillRect(x(ago), height - 1 - p * curve, Math.max(1.5, x(until) - x(ago)), p * curve);
  });
}
