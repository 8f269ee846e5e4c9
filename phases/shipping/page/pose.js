// MediaPipe's pose estimator: a picture -> 33 joints of one body, in the coordinates of a Kinect.
import { clipOf } from "./joints.js";

const FOLDER = "lib/pose/", DEPTH = 3; // metres to the camera: the estimator does not measure them
export const BONES = [[11, 12], [11, 13], [13, 15], [15, 17], [15, 19], [15, 21], [17, 19], [12, 14], [14, 16],
  [16, 18], [16, 20], [16, 22], [18, 20], [11, 23], [12, 24], [23, 24], [23, 25], [25, 27], [27, 29], [27, 31],
  [29, 31], [24, 26], [26, 28], [28, 30], [28, 32], [30, 32]];

export class PoseEstimator {
  /** accurate: the full network, else the lite one, for phones. */
  async open(accurate) {
    const onGpu = hasGpu();
    if (!globalThis.Pose) await script(`${FOLDER}pose.js`);
    this.pose = new globalThis.Pose({ locateFile: (file) => FOLDER + file });
    this.pose.setOptions({ modelComplexity: accurate ? 1 : 0, smoothLandmarks: true,
      ...(onGpu ? {} : { useCpuInference: true }) });
    this.pose.onResults((found) => { this.found = found; });
    await this.pose.initialize();
    this.scale = 0;
  }

  /** What a picture shows: {ms}, and if there is a body {image: [{x, y, visibility}] in shares of it, joints}. */
  look(picture, width, height) {
    this.last = (this.last ?? Promise.resolve()).catch(() => {}).then(() => this.lookNow(picture, width, height));
    return this.last; // one picture at a time
  }

  async lookNow(picture, width, height) {
    const started = performance.now();
    this.found = null;
    await this.pose.send({ image: picture });
    const { poseLandmarks: image, poseWorldLandmarks: world } = this.found ?? {};
    const ms = performance.now() - started;
    if (!image || !world) return { ms };
    this.scale = smoothScale(this.scale, metresPerWidth(world, image, height / width));
    return { ms, image, joints: joints(world, image, height / width, this.scale) };
  }

  /** Forget the body that was followed: the next picture is of something else. */
  reset() {
    this.scale = 0;
    this.pose.reset();
  }
}

/** Metres that the width of a picture spans at the body's distance: the spread of its joints in metres and in it. */
export function metresPerWidth(world, image, aspect) {
  const spread = (points, of) => {
    const mean = points.reduce((sum, p) => sum + of(p), 0) / points.length;
    return points.reduce((sum, p) => sum + (of(p) - mean) ** 2, 0);
  };
  const metres = spread(world, (p) => p.x) + spread(world, (p) => p.y);
  const shares = spread(image, (p) => p.x) + spread(image, (p) => p.y * aspect);
  return Math.sqrt(metres / Math.max(shares, 1e-9));
}

/** A body's distance changes slowly: an average over some ten pictures. */
const smoothScale = (old, now) => (old ? old + 0.1 * (now - old) : now);

/** Joints (33, 3) in metres as a Kinect gives them: x to the camera's left, y up, z away from it.
 *
 * World landmarks are metres from the middle of the hips, x right, y down, z away. Where the hips are in the picture
 * says how the whole body moves, which sitting down and jumping are made of.
 */
export function joints(world, image, aspect, scale) {
  const out = clipOf(1, 1, world.length).x;
  const hips = { x: (image[23].x + image[24].x) / 2 - 0.5, y: ((image[23].y + image[24].y) / 2 - 0.5) * aspect };
  world.forEach((p, v) => {
    out[v * 3] = -(p.x + hips.x * scale);
    out[v * 3 + 1] = -(p.y + hips.y * scale);
    out[v * 3 + 2] = p.z + DEPTH;
  });
  return out;
}

/** Whether WebGL 2 is drawn by a GPU. Where the CPU draws it, the estimator is 10 to 30 times as fast without it. */
function hasGpu() {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) throw new Error("this browser has no WebGL 2");
  const about = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(about ? about.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|software|basic render/i.test(name);
}

function script(address) {
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src: address, onload: resolve });
    element.onerror = () => reject(new Error(`${address} did not load`));
    document.head.append(element);
  });
}
