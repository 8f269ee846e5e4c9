// The panel that teaches: examples of named actions are recorded, replayed, kept or discarded, saved and opened.
import { Unreadable } from "./clip.js";
import { clipFrame } from "./draw.js";
import { examplesIn, filesOf, plainName, storable } from "./exchange.js";
import { RATE } from "./network.js";
import { choose, list, titleOf, unlist } from "./networks.js";
import { Recorder } from "./recorder.js";
import { Recordings } from "./recordings.js";
import { $, note } from "./screen.js";
import { guarded, page, stop } from "./sources.js";
import { NOTHING, direction, headFile, headFrom, learned, taughtNetwork } from "./teach.js";
import { unzipped, zipped } from "./zip.js";

const recordings = new Recordings(), recorder = new Recorder();
const panel = { base: null, mine: null, isBusy: false, pending: null, looked: null, loaded: 0 };
const directions = new WeakMap(); // network -> example -> its direction; not by its number, which may be given again

const LONG = 10; // new examples from which on the page says that it learns

const counted = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// ---------------------------------------------------------------------------------------------------------------------
// What the examples teach
// ---------------------------------------------------------------------------------------------------------------------

/** Learn anew from what is kept; isChosen: then what was learned answers. */
async function learn(isChosen) {
  const { base } = panel, known = directions.get(base) ?? new WeakMap(), examples = [];
  directions.set(base, known);
  const fresh = recordings.list.filter((example) => !known.has(example)).length;
  if (fresh >= LONG) $("lesson-note").textContent = `Learning from ${fresh} examples …`;
  for (const example of recordings.list) {
    const clip = base.fitted(example);
    if (!clip) continue;
    if (!known.has(example)) known.set(example, direction((await base.run(clip)).features, base.featureScale));
    examples.push({ action: example.action, d: known.get(example) });
  }
  if (base !== panel.base) return; // another network was chosen meanwhile

  // what was learned is one more network of the page
  const head = examples.length ? learned(examples, base.gap) : null, before = panel.mine;
  if (head) {
    panel.mine = taughtNetwork(base, head);
    list(panel.mine, "network-mine", "Your actions",
      `${counted(head.classes.length, "action")}, ${counted(examples.length, "example")} · on ${titleOf(base)}`);
    const answers = isChosen || page.network === before;
    if (answers && page.shown?.isDemo) stop(); // what came along says nothing of these
    if (answers) choose(panel.mine);
  } else if (before) {
    panel.mine = null;
    unlist(before);
  }
  tell(head, examples);
}

/** How far the lessons are, in a sentence or two. */
function tell(head, examples) {
  const actions = [...recordings.byAction.keys()], unfit = recordings.list.length - examples.length;
  const said = [];
  if (head) {
    const { tried } = head, names = actions.filter((action) => action !== NOTHING).join(", ");
    const single = head.classes.find((action, k) => head.counts[k] < 3);
    said.push(`It knows ${names}.`);
    if (!page.shown) said.push("Try it: use the camera, or open a clip that it has not seen.");
    if (tried.of && head.classes.length > 1) {
      const confused = tried.confused ? `; it confuses ${tried.confused.join(" and ")} most` : "";
      said.push(`Each example tried on the others: ${tried.right} of ${tried.of} named rightly${confused}.`);
    }
    if (single) said.push(`More examples of ${single} make it surer: three to five are good.`);
    if (!actions.includes(NOTHING)) said.push("Show it “nothing” too, and it errs less.");
  } else if (actions.length) {
    said.push(actions[0] === NOTHING ? "Now name an action and show it." :
      `Now name a second action, or show it “nothing”: then it tells ${actions[0]} from that.`);
  }
  if (unfit) said.push(`${counted(unfit, "example")} cannot be turned into this network's joints, and do not count.`);
  if (!recordings.isKept) said.push("This browser does not keep recordings: save them before you leave the page.");
  $("lesson-note").textContent = said.join(" ");
}

/** Show what is kept, and learn from it. */
async function refresh(isChosen = true) {
  showLessons();
  await learn(isChosen);
}

// ---------------------------------------------------------------------------------------------------------------------
// Recording
// ---------------------------------------------------------------------------------------------------------------------

/** The action that the user has named: as one of the same name is spelled, if there is one. */
function namedAction() {
  const name = plainName($("action").value);
  const same = [NOTHING, ...recordings.byAction.keys()].find((action) => action.toLowerCase() === name.toLowerCase());
  return same ?? name;
}

function complain() {
  note("Name the action first: write what you will do, for example wave.", true);
  $("action").focus();
}

/** Take the clip that is shown as an example of the named action. */
function useClip() {
  const action = namedAction();
  if (!action) complain();
  else look({ action, ...storable(page.shown.example, panel.base) }, true);
}

/** Record examples of an action. A single one waits to be kept; several are kept as they come. */
async function record(action, times) {
  if (panel.isBusy) {
    recorder.cancel();
    return;
  }
  if (!action) {
    complain();
    return;
  }
  look(null);
  busy(true);
  $("picture").scrollIntoView({ block: "nearest" });
  try {
    for (let i = 1; i <= times; i++) {
      const found = await recorder.take(times > 1 ? `${action}, ${i} of ${times}` : action);
      if (!found) break;
      const example = { action, ...storable(found, panel.base) };
      if (times === 1) {
        look(example, true);
        break;
      }
      await recordings.add(example);
      await refresh();
    }
  } catch (e) {
    if (!(e instanceof Unreadable)) throw e;
    note(e.message, true);
  } finally {
    busy(false);
  }
}

function busy(isBusy) {
  panel.isBusy = isBusy;
  $("record").textContent = isBusy ? "Stop" : "Record";
  for (const id of ["idle", "examples", "action", "times"]) $(id).disabled = isBusy;
}

/** Keep the examples of files: of clips in folders by action, of others those of the named action. */
export async function addFiles(files) {
  const { examples, lost, guesses } = examplesIn(files, panel.base, namedAction());
  for (const example of examples) await recordings.add(example);
  if (!examples.length && !lost.length) throw new Unreadable("There is no clip in it: a clip is a .npy, " +
    ".skeleton, .json or .csv file, best in a folder with its action's name.");
  const actions = [...new Set(examples.map(({ action }) => action))], of = actions.length === 1 ? ` of ${actions}` : "";
  if (examples.length) $("action").value = ""; // the next clips are of another action
  note([examples.length ? `${counted(examples.length, "example")}${of} added.` : "", ...guesses, ...lost.slice(0, 3),
    lost.length > 3 ? `${lost.length - 3} more cannot be used.` : ""].filter(Boolean).join(" "), lost.length > 0);
  await refresh();
  $(lost.length ? "note" : "lesson-note").scrollIntoView({ block: "nearest" });
}

/** The same from a .zip archive. */
export async function addArchive(name, bytes) {
  await addFiles(await unzipped(bytes, name));
}

// ---------------------------------------------------------------------------------------------------------------------
// Replay
// ---------------------------------------------------------------------------------------------------------------------

/** Show an example as a moving figure: one to be kept or discarded, or one that is kept; null: none. */
function look(example, isPending = false) {
  panel.pending = isPending ? example : null;
  panel.looked = example;
  $("replay").hidden = !example;
  if (!example) return;
  $("keep").textContent = isPending ? "Keep" : "Close";
  $("discard").textContent = isPending ? "Discard" : "Delete it";
  const seconds = (example.clip.L / RATE).toFixed(1);
  $("replay-title").textContent = `${example.action}, ${seconds} s${isPending ? ": is it good?" : ""}`;
  $("figure").setAttribute("aria-label", `A figure that does ${example.action}`);
  $("replay").scrollIntoView({ block: "nearest" });
  $("keep").focus();
  animate(example);
}

function animate(example) {
  const clip = panel.base.fitted(example), { skeleton } = panel.base, started = performance.now();
  const isOnce = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const paint = (now) => {
    if (panel.looked !== example || !clip) return;
    const frame = Math.floor((Math.max(0, now - started) * RATE) / 1000);
    clipFrame($("figure"), clip, isOnce ? Math.min(frame, clip.L - 1) : frame % clip.L, skeleton);
    if (!isOnce || frame < clip.L) requestAnimationFrame(paint);
  };
  requestAnimationFrame(paint);
}

async function keep() {
  const { pending } = panel;
  look(null);
  $("record").focus();
  if (!pending) return;
  await recordings.add(pending);
  await refresh();
}

async function discard() {
  const { pending, looked } = panel;
  look(null);
  $("record").focus();
  if (pending) return;
  await recordings.remove((example) => example === looked);
  await refresh();
}

// ---------------------------------------------------------------------------------------------------------------------
// What is kept
// ---------------------------------------------------------------------------------------------------------------------

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The actions with their examples, each a small figure. */
function showLessons() {
  $("lessons").replaceChildren(...[...recordings.byAction].map(([action, examples]) => {
    const clips = examples.map((example, i) => {
      const button = element("button", { type: "button", className: "thumb" }, element("canvas", {}));
      button.setAttribute("aria-label", `${action}, example ${i + 1}: look at it`);
      button.addEventListener("click", () => look(example));
      return element("li", {}, button);
    });
    const remove = element("button", { type: "button", className: "remove" });
    remove.dataset.action = action;
    twice(remove, "Delete", `Delete ${counted(examples.length, "example")}?`, () =>
      recordings.remove((example) => example.action === action).then(() => refresh()));
    remove.setAttribute("aria-label", `Delete ${action}`);
    const name = element("strong", { textContent: action });
    const title = element("p", {}, name, ` ${counted(examples.length, "example")}`);
    return element("li", {}, title, remove, element("ul", { className: "thumbs" }, ...clips));
  }));
  drawThumbs();
  $("saving").hidden = !recordings.list.length;
  $("known-actions").replaceChildren(...[...recordings.byAction.keys()].map((action) => new Option(action)));
}

/** Each figure in the middle of its movement. */
function drawThumbs() {
  const examples = [...recordings.byAction.values()].flat();
  document.querySelectorAll("#lessons canvas").forEach((canvas, i) => {
    const clip = panel.base.fitted(examples[i]);
    if (clip) clipFrame(canvas, clip, clip.L >> 1, panel.base.skeleton);
  });
}

/** A button that asks once before it does something that cannot be undone. */
function twice(button, first, second, action) {
  const reset = () => {
    button.textContent = first;
    delete button.dataset.asked;
  };
  reset();
  button.addEventListener("blur", reset);
  button.addEventListener("click", () => {
    if (button.dataset.asked) {
      reset();
      action();
      return;
    }
    button.dataset.asked = "yes";
    button.textContent = second;
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Saving
// ---------------------------------------------------------------------------------------------------------------------

function download(name, parts, type) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob(parts, { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function saveClips() {
  download("my-actions.zip", [zipped(filesOf(recordings.list, panel.base))], "application/zip");
  note("my-actions.zip holds a folder per action: “just teach”, “just adopt” and this page take it as it is.");
}

function saveTaught() {
  if (!panel.mine) {
    note("There is nothing to save yet: it takes two actions, or one and “nothing”.", true);
    return;
  }
  download("my-actions.json", [headFile(panel.mine.head, panel.base)], "application/json");
  note(`my-actions.json holds what was learned, without recordings. Open it on a page with ${titleOf(panel.base)}.`);
}

/** Let what a file of `saveTaught` holds answer. */
export function openTaught(name, parsed) {
  const { head, base } = headFrom(parsed, name, page.networks.filter((network) => !network.base));
  const network = taughtNetwork(base, head), title = name.replace(/\.json$/i, "");
  panel.loaded += 1;
  list(network, `network-taught-${panel.loaded}`, title, `${head.classes.join(", ")} · on ${titleOf(base)}`);
  choose(network);
  note(`${name} is one of the networks now; it knows ${head.classes.join(", ")}.`);
}

// ---------------------------------------------------------------------------------------------------------------------
// Start
// ---------------------------------------------------------------------------------------------------------------------

/** Another network was chosen: lessons go on with that. */
function onChosen(network) {
  const base = network.base ?? network;
  if (base === panel.base) return;
  panel.base = base;
  look(null);
  drawThumbs();
  $("record").disabled = $("idle").disabled = !base.ofCamera;
  guarded(() => learn(false));
}

/** Show what the browser has kept. */
export async function startTeaching() {
  panel.base = page.network;
  page.onChosen = onChosen;
  await recordings.open();
  await refresh();

  $("lesson").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(() => record(namedAction(), Number($("times").value)));
  });
  $("idle").addEventListener("click", () => guarded(() => record(NOTHING, Number($("times").value))));
  $("use").addEventListener("click", () => guarded(useClip));
  $("keep").addEventListener("click", () => guarded(keep));
  $("discard").addEventListener("click", () => guarded(discard));
  $("save-clips").addEventListener("click", () => guarded(saveClips));
  $("save-taught").addEventListener("click", () => guarded(saveTaught));
  twice($("forget"), "Delete all", "Delete all for good?", () => guarded(async () => {
    await recordings.remove(() => true);
    await refresh();
  }));
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (panel.isBusy) recorder.cancel();
    else if (panel.looked) look(null);
  });
  addEventListener("resize", drawThumbs);
}
