// An example from a camera or a video: a countdown, seconds of joints, a clip. It sees what the page's source gives.
import { Unreadable } from "./clip.js";
import { RATE, Window } from "./network.js";
import { $ } from "./screen.js";
import { cameraStream, endStream, guarded, page, showCamera } from "./sources.js";

export const SECONDS = 2; // of a recording
const LONGEST = 10, COUNT = 3; // seconds of a whole video at most, and of the countdown
const JOINTS = 33, FEWEST = 8, SLOW = 3; // pictures of an example, and how much longer it may take to see them

export class Recorder {
  /**
   * The next example {clip, skeleton, camera}, null if the user or the source has ended it. An Unreadable, if no
   * body was seen or there is no camera: then what is shown goes on. `title`: what is recorded, as the picture tells;
   * `otherwise`: what works without a camera.
   */
  async take(title, otherwise) {
    this.isCancelled = false;
    const { shown } = page, isWhole = shown?.film && document.body.dataset.state === "played";
    if (isWhole) shown.again(); // a video that has ended plays once more, all of it an example
    else if (!shown?.film && !shown?.camera) {
      const stream = await this.camera(otherwise);
      if (!stream) return null;
      guarded(() => showCamera(stream));
    }
    try {
      const isReady = shown?.film || await this.countdown(title);
      const frames = isReady ? await this.frames(title, isWhole ? LONGEST : SECONDS) : [];
      return this.isCancelled || !frames.length ? null : exampleOf(frames);
    } finally {
      show("");
    }
  }

  /** End what goes on, without an example. */
  cancel() {
    this.isCancelled = true;
    this.leave?.();
    page.tap?.(null);
  }

  /** A camera's stream; null if the user ends the wait for it. */
  async camera(otherwise) {
    const asked = cameraStream(otherwise), left = new Promise((resolve) => { this.leave = () => resolve(null); });
    const stream = await Promise.race([asked, left]);
    if (!stream) asked.then(endStream, () => {}); // it may come all the same
    return stream;
  }

  /** The next frame {t, joints} of the source, null at its end. */
  next() {
    return new Promise((resolve) => {
      page.tap = (t, joints) => {
        page.tap = null;
        resolve(t === null ? null : { t, joints });
      };
    });
  }

  /** Three seconds for the user to get ready; false if that was ended. It begins with the camera's first picture. */
  async countdown(title) {
    const first = await this.next(), { turn } = page;
    if (!first) return false;
    for (let left = COUNT; left > 0; left--) {
      show(left, title);
      await new Promise((resolve) => { setTimeout(resolve, 1000); });
      if (this.isCancelled || turn !== page.turn) return false;
    }
    return true;
  }

  /** The frames of so many seconds, fewer if the source ends; of more seconds where pictures come slowly. */
  async frames(title, seconds) {
    const found = [];
    show("●", title);
    for (;;) {
      const frame = await this.next();
      if (!frame) return found;
      found.push(frame);
      const passed = frame.t - found[0].t;
      if (passed >= seconds && (found.length >= FEWEST || passed >= SLOW * seconds)) return found;
    }
  }
}

/** What stands large on the picture while an example is recorded. */
function show(sign, title = "") {
  $("count").hidden = !sign;
  $("count").firstElementChild.textContent = sign;
  $("count").lastElementChild.textContent = title;
  $("count").classList.toggle("now", sign === "●");
}

/** The example that frames of a camera's pose make. */
function exampleOf(frames) {
  const seen = frames.filter(({ joints }) => joints).length;
  if (frames.length < FEWEST) {
    throw new Unreadable(`Only ${frames.length} pictures came while it recorded, too few to learn from: choose the ` +
      "fast pose, or close other programs, and record it again.");
  }
  if (2 * seen < frames.length) {
    throw new Unreadable("No body was seen for most of the recording: step back until your hips are in the picture, " +
      "and record it again.");
  }
  const window = new Window(1, JOINTS, LONGEST * RATE);
  for (const { t, joints } of frames) window.push(t, joints ?? new Float32Array(3 * JOINTS));
  return { clip: window.clip(), skeleton: "mediapipe33", camera: true };
}
