// What one reads on the page beside its canvases: the note, the hint on the picture, bars and times.
import { median } from "./joints.js";

export const $ = (id) => document.getElementById(id);
export const TOP = 5;
const EVENTS = 4; // that are listed
export const NONE = "none of these"; // a clip that shows no class of the network
export const times = { pose: [], network: [], frames: [] };

// ---------------------------------------------------------------------------------------------------------------------
// Lines that tell
// ---------------------------------------------------------------------------------------------------------------------

const SHOWN = ["playing", "camera", "video", "photo"]; // states in which something is shown
const red = new Map(); // the id of a line that tells of trouble -> what marks that trouble
let before = []; // [id, mark] of the lines that were red before what the user does now

/** Say something in a line of the page; of trouble in red, until something else succeeds; details folded away. */
export function tell(id, text, trouble = false, details = "") {
  $(id).textContent = text;
  if (details) {
    const [folded, title, more] = ["details", "summary", "p"].map((tag) => document.createElement(tag));
    title.textContent = "Details";
    more.textContent = details;
    folded.append(title, more);
    $(id).append(folded);
  }
  $(id).classList.toggle("trouble", trouble);
  if (trouble) red.set(id, {});
  else red.delete(id);
}

export const note = (text, trouble = false) => tell("note", text, trouble);

/** The user does something. */
export function begins() {
  before = [...red];
}

/** It went well: what was red before is over. */
export function succeeds() {
  for (const [id, mark] of before) if (red.get(id) === mark) tell(id, "");
  before = [];
}

/** It did not. */
export function fails() {
  before = [];
}

export function state(name) {
  document.body.dataset.state = name;
  if (SHOWN.includes(name)) succeeds();
}

export function hint(text) {
  $("hint").textContent = text;
  $("hint").hidden = !text;
}

export const percent = (p) => `${Math.round(100 * p)} %`;

/** The five likeliest actions, and how many percent each; of a clip that is not known, the nearest. */
export function showBars(ranking, known) {
  $("verdict").textContent = known ? "It looks like" : `It looks like ${NONE}; nearest`;
  $("bars").classList.toggle("unknown", !known);
  const items = $("bars").children;
  ranking.forEach(({ label, p }, i) => {
    const [name, share, track] = items[i].children;
    name.textContent = label;
    share.textContent = percent(p);
    track.firstElementChild.style.width = `${100 * p}%`;
    items[i].dataset.p = p.toFixed(6);
  });
}

/** Movements that have ended, the newest first. */
export function showEvents(events) {
  for (const { start, end, label, p, known } of events) {
    const item = document.createElement("li"), sure = percent(p);
    const said = known ? `${label} (${sure})` : `${NONE} (${label} ${sure})`;
    item.textContent = `${start.toFixed(1)} to ${end.toFixed(1)} s: ${said}`;
    item.classList.toggle("known", known);
    $("heard").prepend(item);
    if ($("heard").children.length > EVENTS) $("heard").lastChild.remove();
  }
}

/** Take the list of files and their answers off the page. */
export function noAnswers() {
  $("answers").hidden = true;
  $("answers").replaceChildren();
}

export function buildBars(network) {
  $("verdict").textContent = "It looks like";
  $("bars").classList.remove("unknown");
  $("bars").replaceChildren(...Array.from({ length: Math.min(TOP, network.classes.length) }, () => {
    const item = document.createElement("li"), track = document.createElement("span");
    track.className = "track";
    track.append(document.createElement("i"));
    item.append(document.createElement("span"), document.createElement("span"), track);
    item.children[0].textContent = "–";
    return item;
  }));
}

export function showTimes() {
  const recent = (list) => (list.length ? `${median(list.slice(-30)).toFixed(1)} ms` : "–");
  $("pose-ms").textContent = recent(times.pose);
  $("network-ms").textContent = recent(times.network);
  const frames = times.frames.slice(-30), seconds = (frames.at(-1) - frames[0]) / 1000;
  $("rate").textContent = frames.length > 2 && seconds ? ((frames.length - 1) / seconds).toFixed(0) : "–";
  for (const list of Object.values(times)) list.splice(0, list.length - 300);
}

export function kilobytes(bytes) {
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
