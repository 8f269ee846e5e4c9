// When somebody moves: frames at their times -> movements from rest to rest -> the network's answer to each, as
// phases/shipping/movements.py and events.py find them; told when a movement has ended. No page.
import { at, bodySize, clipOf, isSeen, seenBodies } from "./joints.js";
import { RATE, Window } from "./network.js";

const SPAN = 0.2, SLACK = 1e-3, STILL = 0.4, FAST = 2, LEAST = 0.1, REACH = 0.3, PAUSE = 0.8; // of movements.py
const SIZES = [0.3, 2];
const MARGIN = 0.2, LONG = 2, HOPS = 4, LIKELY = 0.5; // of events.py

// ---------------------------------------------------------------------------------------------------------------------
// Speed
// ---------------------------------------------------------------------------------------------------------------------

/** How many of the times, which rise, are below a time. */
const below = (times, time) => times.filter((t) => t < time).length;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The speed of the fastest body of a clip in frame i of those at `times`: of its second fastest joint, in m/s. */
export function speed(clip, times, i, trunk) {
  const first = Math.min(below(times, times[i] - SPAN - SLACK), Math.max(i - 1, 0));
  const end = Math.max(below(times, times[i] + SPAN - SLACK), i + 1);
  if (first === i) return 0; // the first frame
  const low = Math.max(first - 1, 0), high = Math.min(end + 1, clip.L);

  // from the mean place before the frame to that after it
  let fastest = 0;
  for (let m = 0; m < clip.M; m++) {
    const ways = Array.from({ length: clip.V }, (_, v) => {
      const before = meanPlace(clip, m, v, [first, i], [low, high]);
      const after = meanPlace(clip, m, v, [i, end], [low, high]);
      return before && after ? Math.hypot(...before.map((x, a) => after[a] - x)) : 0;
    }).sort((a, b) => b - a);
    fastest = Math.max(fastest, ways[Math.min(1, clip.V - 1)]);
  }

  // at an end there are fewer frames, whose mean is noisier
  const apart = mean(times.slice(i, end)) - mean(times.slice(first, i)), size = bodySize(seenBodies(clip), trunk);
  return fastest / Math.max(apart, SPAN) / Math.min(Math.max(size, SIZES[0]), SIZES[1]);
}

/** The mean place of a joint in the frames from..to that show it, without spikes; null if none does. */
function meanPlace(clip, m, v, [from, to], [low, high]) {
  const sum = [0, 0, 0];
  let count = 0;
  for (let l = from; l < to; l++) {
    if (!isSeen(clip, m, l, v)) continue;
    count += 1;
    const whole = l > low && l + 1 < high && isSeen(clip, m, l - 1, v) && isSeen(clip, m, l + 1, v);
    for (let a = 0; a < 3; a++) {
      const value = (frame) => clip.x[at(clip, m, frame, v) + a];
      sum[a] += whole ? middle(value(l - 1), value(l), value(l + 1)) : value(l);
    }
  }
  return count ? sum.map((x) => x / count) : null;
}

const middle = (a, b, c) => Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));

// ---------------------------------------------------------------------------------------------------------------------
// Movements
// ---------------------------------------------------------------------------------------------------------------------

/** Speeds in the order of time -> [start, end] of each movement, as soon as it has ended: Tracker of movements.py. */
export class Tracker {
  constructor() {
    Object.assign(this, { start: null, last: 0, fast: -Infinity, moved: 0, before: null });
  }

  get isMoving() {
    return this.start !== null && this.moved >= LEAST - SLACK;
  }

  add(time, speed) {
    const step = this.before === null ? SPAN : Math.min(time - this.before, SPAN);
    this.before = time;

    // at rest for long enough
    if (speed <= STILL) return time - this.last > PAUSE - SLACK ? this.end() : null;

    // what is slow belongs to a movement that is fast soon
    this.start ??= time;
    this.last = time;
    if (speed > FAST * STILL) {
      if (!this.moved) this.start = Math.max(this.start, time - REACH);
      this.fast = time;
      this.moved += step;
    }
    return null;
  }

  end() {
    const ended = this.isMoving ? [this.start, Math.min(this.last, this.fast + REACH)] : null;
    this.start = null;
    this.moved = 0;
    return ended;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Actions
// ---------------------------------------------------------------------------------------------------------------------

/** The windows of a long movement, in the order of time -> its actions: Windows of events.py, told when they end. */
class Windows {
  constructor(start, seconds) {
    Object.assign(this, { seconds, next: start + seconds, since: start, looks: [], odd: null });
  }

  add(look) {
    this.next += this.seconds / HOPS;
    if (!this.looks.length || nameOf(look) === nameOf(this.looks[0])) {
      this.looks.push(look);
      this.odd = null;
      return [];
    }
    if (!this.odd) {
      this.odd = look;
      return [];
    }

    // the second odd one: another action began between the windows' middles
    const change = (this.looks.at(-1).time + this.odd.time - this.seconds) / 2;
    const event = this.end(Math.max(change, this.since));
    this.since = event.end;
    this.looks = nameOf(look) === nameOf(this.odd) ? [this.odd, look] : [{ ...look, known: false }];
    this.odd = null;
    return [event];
  }

  end(time) {
    const { label } = this.looks.at(-1), known = nameOf(this.looks[0]) !== null && this.looks.length > 1;
    return { start: this.since, end: time, label, p: mean(this.looks.map(({ p }) => p)), known };
  }
}

/** The label of a look; null if it shows none of the classes, or is not likely to. */
const nameOf = ({ label, p, known }) => (known && p >= LIKELY ? label : null);

/**
 * Frames in the order of their times -> events {start, end, label, p, known} of the movements that have ended. Frames
 * are in the network's joints, or a camera's.
 */
export class Listener {
  constructor(network, bodies, ofCamera) {
    Object.assign(this, { network, bodies, ofCamera, frames: [], judged: -Infinity, windows: null });
    this.tracker = new Tracker();
    this.V = ofCamera ? 33 : network.skeleton.joints.length;
    this.seconds = network.window / RATE;
  }

  /** Whether nobody has moved in the window that ends at t. */
  isQuiet(t) {
    return t - this.tracker.fast > this.seconds + SPAN;
  }

  /** The events that a frame completes. */
  async add(t, x) {
    if (this.frames.length && t <= this.frames.at(-1).t) this.frames = [];
    this.frames.push({ t, x });
    const events = await this.moved(t - SPAN), { tracker } = this;
    if (tracker.isMoving && tracker.last - tracker.start > LONG * this.seconds) {
      events.push(...await this.windowByWindow(tracker.last));
    }

    // frames that no clip will show
    let keep = t - SPAN - REACH;
    if (tracker.moved) keep = this.windows ? this.windows.next - this.seconds : tracker.start;
    const oldest = Math.min(keep, t - SPAN) - SPAN - MARGIN;
    this.frames = this.frames.filter((frame) => frame.t >= oldest);
    return events;
  }

  /** The source has ended: the events that were going on. */
  async end() {
    const events = await this.moved(Infinity), ended = this.tracker.end();
    if (ended) events.push(...await this.finished(...ended));
    this.frames = [];
    return events;
  }

  /** Follow the speeds of frames until a time, and finish the movements that end there. */
  async moved(until) {
    const pending = this.frames.filter(({ t }) => t > this.judged && t <= until + SLACK), events = [];
    if (!pending.length) return events;
    const from = pending[0].t - 2 * SPAN, around = this.frames.filter(({ t }) => t >= from);
    const clip = this.joints(around), times = around.map(({ t }) => t);
    for (const { t } of pending) {
      this.judged = t;
      const ended = this.tracker.add(t, speed(clip, times, times.indexOf(t), this.network.trunk));
      if (ended) events.push(...await this.finished(...ended));
    }
    return events;
  }

  async finished(start, end) {
    if (!this.windows) {
      const look = await this.seen(start, end, end + MARGIN);
      return [{ start, end, label: look.label, p: look.p, known: nameOf(look) !== null }];
    }
    const events = await this.windowByWindow(end);
    if (this.windows.looks.length) events.push(this.windows.end(end));
    this.windows = null;
    return events;
  }

  async windowByWindow(until) {
    this.windows ??= new Windows(this.tracker.start, this.seconds);
    const events = [], { windows } = this;
    while (windows.next <= until + SLACK) {
      events.push(...windows.add(await this.seen(windows.next - this.seconds + MARGIN, windows.next, windows.next)));
    }
    return events;
  }

  /** The network's answer to the frames from shortly before `start` to `last`. */
  async seen(start, time, last) {
    const window = new Window(this.bodies, this.V, 3600);
    for (const { t, x } of this.frames) if (t >= start - MARGIN && t <= last + SLACK) window.push(t, x);
    const { network } = this;
    if (!window.seen) return { time, label: network.classes[0], p: 0, known: false };
    const clip = window.clip(), { p, known } = await network.answer(this.ofCamera ? network.fromCamera(clip) : clip);
    const best = p.indexOf(Math.max(...p));
    return { time, label: network.classes[best], p: p[best], known };
  }

  /** Frames as a clip in the network's joints. */
  joints(frames) {
    const clip = clipOf(this.bodies, frames.length, this.V), size = this.V * 3;
    frames.forEach(({ x }, l) => {
      for (let m = 0; m < this.bodies; m++) clip.x.set(x.subarray(m * size, (m + 1) * size), at(clip, m, l, 0));
    });
    return this.ofCamera ? this.network.fromCamera(clip) : clip;
  }
}
