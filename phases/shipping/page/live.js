// Recognition of a stream of frames: what the network makes of the last seconds, on bars, picture and strip.
import { strip } from "./draw.js";
import { RATE, SURE, Watcher, Window } from "./network.js";
import { $, TOP, showBars, showTimes, times } from "./screen.js";

/** The last seconds of one source. ofCamera: its joints are a camera's; mirrored: its picture is. */
export class Live {
  constructor(network, bodies, { ofCamera = false, mirrored = false } = {}) {
    Object.assign(this, { bodies, ofCamera, mirrored });
    this.restart(network);
  }

  restart(network) {
    this.network = network;
    this.window = new Window(this.bodies, this.ofCamera ? 33 : network.skeleton.joints.length, network.window);
    this.watcher = new Watcher();
    this.past = [];
    $("answer").textContent = "";
  }

  /** A frame at t seconds: joints (M, V, 3), zeros for a body that is not there. */
  async see(t, joints) {
    const { network, watcher, past } = this;
    this.window.push(t, joints);
    times.frames.push(performance.now());
    const raw = this.window.clip();
    if (!this.window.seen) {
      this.draw(null, t);
      return;
    }
    const clip = this.ofCamera ? network.fromCamera(raw) : raw;
    const { p, known, ms } = await network.answer(clip);
    if (this.network !== network) return;
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

  draw(clip, t) {
    const { network, past, mirrored } = this;
    strip($("strip"), clip, network.skeleton, past.map((moment) => ({ ...moment, ago: t - moment.t })),
      network.window / RATE, mirrored);
  }
}
