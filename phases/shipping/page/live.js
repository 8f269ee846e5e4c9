// Recognition of a stream of frames: what the network makes of the last seconds, on bars, picture and strip.
import { strip } from "./draw.js";
import { Listener } from "./movements.js";
import { RATE, SURE, Watcher, Window } from "./network.js";
import { $, TOP, showBars, showEvents, showTimes, times } from "./screen.js";

/** The last seconds of one source. ofCamera: its joints are a camera's; mirrored: its picture is. */
export class Live {
  constructor(network, bodies, { ofCamera = false, mirrored = false } = {}) {
    Object.assign(this, { bodies, ofCamera, mirrored, first: null });
    $("heard").replaceChildren();
    this.restart(network);
  }

  restart(network) {
    this.network = network;
    this.window = new Window(this.bodies, this.ofCamera ? 33 : network.skeleton.joints.length, network.window);
    this.watcher = new Watcher();
    this.listener = this.ofCamera ? new Listener(network, this.bodies, true) : null;
    this.past = [];
    $("answer").textContent = "";
  }

  /** A frame at t seconds: joints (M, V, 3), zeros for a body that is not there. */
  async see(t, joints) {
    const { network, watcher, past, listener } = this;
    this.first ??= t;
    const events = await listener?.add(t - this.first, joints);
    if (this.network !== network) return;
    showEvents(events ?? []);
    this.window.push(t, joints);
    times.frames.push(performance.now());
    const raw = this.window.clip();
    if (!this.window.seen) {
      this.draw(null, t);
      return;
    }
    const clip = this.ofCamera ? network.fromCamera(raw) : raw;
    const { p, known: isKnown, ms } = await network.answer(clip);
    if (this.network !== network) return;

    // people who stand do nothing; but a taught action may be a pose
    const known = isKnown && (Boolean(network.base) || !listener?.isQuiet(t - this.first));
    const ranking = network.top(p, TOP), said = watcher.see(p, known);
    times.network.push(ms);
    showBars(ranking, known);
    if (said !== null) $("answer").textContent = network.classes[said];
    $("answer").classList.toggle("over", !watcher.holds);
    past.push({ t, p: ranking[0].p, sure: known && ranking[0].p >= SURE });
    while (past.length > 1 && past[1].t < t - network.window / RATE) past.shift();
    this.draw(clip, t);
    showTimes();
  }

  /** The source has ended. */
  async end() {
    if (this.listener) showEvents(await this.listener.end());
  }

  draw(clip, t) {
    const { network, past, mirrored } = this;
    strip($("strip"), clip, network.skeleton, past.map((moment) => ({ ...moment, ago: t - moment.t })),
      network.window / RATE, mirrored);
  }
}
