// What the page shows: camera, video, picture or clip, until another takes its turn. It gives frames, the network
// answers, the screen shows both.
import { Unreadable } from "./clip.js";
import { blank, clipFrame, overPicture, strip } from "./draw.js";
import { at } from "./joints.js";
import { Live } from "./live.js";
import { RATE, SURE } from "./network.js";
import { PoseEstimator } from "./pose.js";
import { $, NONE, TOP, begins, buildBars, fails, hint, noAnswers, note, percent, showBars, showTimes, state, succeeds,
  times } from "./screen.js";

// What there is. tap(t, joints): is told each frame of a camera or a video, joints null without a body, t null at its
// end. shown: what is on the picture; of a clip, `example` is its joints as recorded and its source, and isDemo whether
// it came with the page; of a video, `film` is its name.
export const page = { networks: [], network: null, clips: [], turn: 0, shown: null, live: null, tap: null };

/** Take the answer off the page: bars, name and strip. */
export function noAnswer() {
  const { network } = page;
  buildBars(network);
  $("answer").textContent = "";
  strip($("strip"), null, network.skeleton, [], network.window / RATE);
}

/**
 * End what is shown, with the list of answers unless what follows `isListed`. Returns the number of the new turn: a
 * source goes on as long as it is the page's turn.
 */
export function stop(isListed = false) {
  if (!isListed) noAnswers();
  const video = $("video");
  endStream(video.srcObject);
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.srcObject = null;
  $("photo").hidden = true;
  $("picture").className = "";
  $("camera").textContent = "Use the camera";
  $("camera").setAttribute("aria-pressed", "false");
  if (page.network) noAnswer();
  hint("");
  for (const list of Object.values(times)) list.length = 0;
  showTimes();
  blank($("skeleton"));
  if (page.live) page.live.network = null; // an answer that is under way is dropped
  page.tap?.(null);
  $("use").hidden = true;
  Object.assign(page, { shown: null, live: null, tap: null });
  state("ready");
  return ++page.turn;
}

const nextPaint = () => new Promise((resolve) => { requestAnimationFrame(resolve); });

/**
 * A clip of a file at RATE frames a second; isBrief: its middle and its answer only; isListed: it is on the list of
 * answers. Of a synthetic clip `action` is what it shows, `skeleton` whose joints. Returns the likeliest
 * {label, p, known}, nothing if something else is shown meanwhile.
 */
export async function playClip(name, bytes, { action, skeleton, isBrief, isListed } = {}) {
  const { network } = page, found = network.source(name, bytes, skeleton), told = found.said;
  const clip = network.fitted(found), turn = stop(isListed), V = clip.V;
  const known = !action || network.classes.includes(action);
  const live = new Live(network, clip.M), started = performance.now(), title = name.replace(/\.npy$/, "");
  page.shown = { again: () => guarded(() => playClip(name, bytes, { action, skeleton })), isDemo: Boolean(action),
    example: { ...found, source: action ?? name } };
  $("clip").selectedIndex = action ? 1 + page.clips.findIndex(({ file }) => file === name) : 0;
  page.live = live;
  $("use").hidden = false;
  state("playing");
  note(action ? `A synthetic clip of “${action}”.` : told);
  $("skeleton").setAttribute("aria-label", `The clip ${title}, moving`);
  for (let l = 0; l < clip.L && !isBrief; l++) {
    do await nextPaint(); while (performance.now() < started + (1000 * l) / RATE);
    if (turn !== page.turn) return;
    const frame = new Float32Array(clip.M * V * 3);
    for (let m = 0; m < clip.M; m++) frame.set(clip.x.subarray(at(clip, m, l, 0), at(clip, m, l, V)), m * V * 3);
    clipFrame($("skeleton"), clip, l, network.skeleton);
    await live.see(l / RATE, frame);
    if (turn !== page.turn) return;
  }
  const { p, known: isKnown } = await network.answer(clip);
  if (turn !== page.turn) return;
  const ranking = network.top(p, TOP), [{ label, p: most }] = ranking;
  showBars(ranking, isKnown);
  page.shown.redraw = () => clipFrame($("skeleton"), clip, isBrief ? clip.L >> 1 : clip.L - 1, network.skeleton);
  if (isBrief) page.shown.redraw();
  $("answer").textContent = isKnown ? label : NONE;
  $("answer").classList.toggle("over", !isKnown || most < SURE);
  const said = isKnown ? `${label}, ${percent(most)}` : `${NONE} (${label} ${percent(most)})`;
  const whole = `The whole clip, ${(clip.L / RATE).toFixed(1)} seconds: ${said}.`;
  const strange = known ? "" : `It shows “${action}”; this network has no action of that name.`;
  note([whole, strange, told].filter(Boolean).join(" "));
  state("played");
  return { label, p: most, known: isKnown };
}

async function estimator() {
  const accuracy = $("accuracy").value;
  if (page.estimator?.accuracy === accuracy) return page.estimator;
  note("The pose estimator starts …");
  const made = Object.assign(new PoseEstimator(), { accuracy });
  try {
    await made.open(accuracy === "full");
  } catch (e) {
    throw new Unreadable(`The pose estimator could not start (${e.message}). Recorded clips still play.`);
  }
  page.estimator = made;
  note("");
  return made;
}

export async function useCamera() {
  if (page.shown?.camera) {
    stop();
    note("The camera is off.");
    return;
  }
  const { turn } = page;
  let stream;
  try {
    stream = await cameraStream("Recorded clips and videos play without one.");
  } catch (e) {
    if (turn !== page.turn) return; // something else was shown meanwhile
    throw e;
  }
  if (turn === page.turn) await showCamera(stream);
  else endStream(stream);
}

/** The stream of a camera; what is shown goes on. `otherwise`: what works without one, as a sentence. */
export async function cameraStream(otherwise) {
  if (!navigator.mediaDevices?.getUserMedia) throw new Unreadable(`${CAMERA.None} ${otherwise}`);
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: false,
      video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } } });
  } catch (e) {
    throw new Unreadable(`${CAMERA[e.name] ?? `The camera could not be used (${e.message}).`} ${otherwise}`);
  }
}

export const endStream = (stream) => stream?.getTracks().forEach((track) => track.stop());

/** Show a camera's stream in place of what is shown, until something else is. */
export async function showCamera(stream) {
  const turn = stop(), video = $("video");
  page.shown = { camera: true };
  state("starting");
  video.srcObject = stream;
  $("clip").selectedIndex = 0;
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    if (turn !== page.turn) return;
    stop();
    note("The camera stopped. Press “Use the camera” when it is back.", true);
  });
  $("picture").className = "moving mirrored";
  $("camera").textContent = "Stop the camera";
  $("camera").setAttribute("aria-pressed", "true");
  await watch(video, turn, "camera");
}

const CAMERA = {
  None: "No camera here: browsers give one only to pages from this machine (127.0.0.1) or from https.",
  NotAllowedError: "The browser was not allowed to use the camera: allow it in the address bar, then press the " +
    "button again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program: close that, then press the button again.",
};

export async function playVideo(file) {
  const turn = stop(), video = $("video");
  page.shown = { again: () => guarded(() => playVideo(file)), film: file.name };
  state("starting");
  $("clip").selectedIndex = 0;
  $("picture").className = "moving";
  const opened = new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new Unreadable(`${file.name} cannot be played: the browser cannot decode it.`));
  });
  video.src = URL.createObjectURL(file);
  await opened;
  await watch(video, turn, "video");
  if (turn !== page.turn) return;
  page.tap?.(null);
  await page.live.end();
  if (turn !== page.turn) return;
  note("The video has ended.");
  state("played");
}

/** The next frame of a video: true, or false if none came for two seconds or it has ended. */
function nextFrame(video) {
  return new Promise((resolve) => {
    const end = (came) => {
      clearTimeout(late);
      video.removeEventListener("ended", ended);
      resolve(came);
    };
    const ended = () => end(false), late = setTimeout(ended, 2000);
    video.addEventListener("ended", ended);
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(() => end(true));
    else requestAnimationFrame(() => end(true));
  });
}

/** Follow the body in a video, until it ends or something else is shown. */
async function watch(video, turn, kind) {
  const pose = await estimator();
  if (turn !== page.turn) return;
  // a short video may end before its start is reported
  await video.play().catch((e) => { if (!video.ended) throw e; });
  pose.reset();
  const live = new Live(page.network, 1, { ofCamera: true, mirrored: kind === "camera" });
  page.live = live;
  state(kind);
  while (turn === page.turn && !video.ended) {
    if (!await nextFrame(video)) {
      if (!video.ended && turn === page.turn) hint(`No picture comes from the ${kind}.`);
      continue;
    }
    const { videoWidth: width, videoHeight: height } = video;
    if (turn !== page.turn || !width) continue;
    const found = await pose.look(video, width, height);
    if (turn !== page.turn) return;
    const t = kind === "video" ? video.currentTime : performance.now() / 1000;
    times.pose.push(found.ms);
    showBody(found, width, height);
    page.tap?.(t, found.joints ?? null);
    await live.see(t, found.joints ?? new Float32Array(99));
  }
}

function showBody(found, width, height) {
  overPicture($("skeleton"), found.image, width, height);
  const hips = found.image ? Math.min(found.image[23].visibility, found.image[24].visibility) : 0;
  hint(!found.image ? "No body in the picture." : hips < 0.5 ? "Step back, until your hips are in the picture." : "");
  const told = found.image ? "A body, its joints drawn over the picture" : "No body in the picture";
  $("skeleton").setAttribute("aria-label", told);
  $("skeleton").dataset.joints = found.image ? found.image.length : 0;
}

export async function showPhoto(file) {
  const turn = stop(), photo = $("photo");
  state("starting");
  $("clip").selectedIndex = 0;
  photo.src = URL.createObjectURL(file);
  try {
    await photo.decode();
  } catch {
    throw new Unreadable(`${file.name} is no picture that this browser can show.`);
  }
  photo.hidden = false;
  const pose = await estimator();
  if (turn !== page.turn) return;
  pose.reset();
  const found = await pose.look(photo, photo.naturalWidth, photo.naturalHeight);
  if (turn !== page.turn) return;
  times.pose.push(found.ms);
  showTimes();
  page.shown = { redraw: () => showBody(found, photo.naturalWidth, photo.naturalHeight) };
  page.shown.redraw();
  note(found.image ? "A picture shows joints, but no action: that takes movement." : "");
  state("photo");
}

/** Run something; what goes wrong becomes a sentence on the page. */
export async function guarded(action) {
  try {
    await action();
  } catch (e) {
    fails();
    stop();
    note(e instanceof Unreadable ? e.message : `Something went wrong: ${e.message}`, true);
    state("trouble");
  }
}

/** Run what the user asks for. */
export function asked(action) {
  begins();
  return guarded(async () => {
    await action();
    succeeds();
  });
}
