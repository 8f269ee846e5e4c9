// The panel that teaches: examples of named actions are recorded, added, replayed, kept or discarded, saved and opened.
import { CLIPS, Unreadable, isClip, suffixOf } from "./clip.js";
import { examplesIn, filesIn, filesOf, isSame, plainName, storable } from "./exchange.js";
import { counted, drawThumbs, element, showLessons, thumbOf } from "./lessons.js";
import { choose, list, titleOf, unlist } from "./networks.js";
import { showProgress } from "./progress.js";
import { Recorder } from "./recorder.js";
import { Recordings } from "./recordings.js";
import { look, needNonePending, placeReplay, replayed } from "./replay.js";
import { $, begins, fails, note, succeeds, tell } from "./screen.js";
import { guarded, page } from "./sources.js";
import { NOTHING, direction, headFile, headFrom, isTaught, learned, taughtNetwork } from "./teach.js";
import { unzipped, zipped } from "./zip.js";

const recordings = new Recordings(), recorder = new Recorder();
const panel = { base: null, mine: null, isBusy: false, loaded: 0 };
const directions = new WeakMap(); // network -> example -> its direction; not by its number, which may be given again

const OTHER_NOTHING = "Without one: play a clip that is none of your actions, and press “Use the clip shown” with " +
  "the name “nothing”.";
const OTHER_ACTION = "Without one: add clips of it, or play one and press “Use the clip shown”.";
const LONG = 10; // new examples from which on the page says that it learns

/** Say something about teaching, under the buttons that teach. */
const say = (text, trouble = false, details = "") => tell("teach-note", text, trouble, details);

/** Run an action that teaches; what goes wrong becomes a sentence in the panel. What is shown goes on. */
async function lesson(action) {
  begins();
  try {
    await action();
    succeeds();
  } catch (e) {
    fails();
    say(e instanceof Unreadable ? e.message : `Something went wrong: ${e.message}`, true);
    $("teach-note").scrollIntoView({ block: "nearest" });
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What the examples teach
// ---------------------------------------------------------------------------------------------------------------------

/** Learn anew from what is kept; isChosen: then what was learned answers. */
async function learn(isChosen) {
  const { base } = panel, known = directions.get(base) ?? new WeakMap(), examples = [];
  directions.set(base, known);
  const fresh = recordings.list.filter((example) => !known.has(example)).length;
  if (fresh >= LONG) $("lesson-note").textContent = `Learning from ${counted(fresh, "example")} …`;
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
      `${counted(head.classes.length, "action")}${head.nothing.length ? " and nothing" : ""}, ` +
      `${counted(examples.length, "example")} · on ${titleOf(base)}`);
    const answers = isChosen || page.network === before;
    if (answers) choose(panel.mine);
  } else if (before) {
    panel.mine = null;
    unlist(before);
  }
  showProgress(recordings, head, examples);
}

/** Show what is kept, and learn from it. gone: what was just deleted, as showLessons takes it. */
async function refresh(isChosen = true, gone = null) {
  const { byAction } = recordings;
  showLessons(byAction, { look: lookAt, rename: (action, name) => lesson(() => rename(action, name)),
    remove: (action) => lesson(() => forget((example) => example.action === action, action)),
    undo: () => lesson(() => undo(gone)) }, gone);
  placeReplay();
  drawThumbs(byAction, panel.base);
  $("saving").hidden = !recordings.list.length;
  $("known-actions").replaceChildren(...[...byAction.keys()].map((action) => new Option(action)));
  await learn(isChosen);
}

/**
 * Delete those examples of which `which` is true, all of them of `of`; one of them that is looked at is closed. Until
 * something else changes, their place brings them back.
 */
async function forget(which, of) {
  if (replayed.example && !replayed.isPending && which(replayed.example)) look(null);
  const { action } = recordings.list.find(which), at = [...recordings.byAction.keys()].indexOf(action);
  const height = document.querySelectorAll("#lessons > li:not(.gone)")[at].offsetHeight;
  const examples = await recordings.remove(which), said = `Deleted ${of}, ${counted(examples.length, "example")}.`;
  const isLeft = recordings.byAction.has(action); // with other examples: then it stands below them
  const isAlone = isLeft || !recordings.list.length;
  say("");
  const done = refresh(true, { examples, said, at: at + isLeft, height: isAlone ? 0 : height });
  document.querySelector("#lessons .undo").focus({ preventScroll: true });
  await done;
}

/** Bring back what was deleted. */
async function undo({ examples }) {
  await recordings.restore(examples);
  const done = refresh(), [{ action }] = examples;
  [...document.querySelectorAll("#lessons .remove")].find((button) => button.dataset.action === action)
    .focus({ preventScroll: true });
  await done;
}

/** Give an action another name; that of another one puts the two together. */
async function rename(action, name) {
  const isThere = recordings.byAction.has(name);
  if (!replayed.isPending) look(null);
  else if (replayed.example.action === action) {
    look({ ...replayed.example, action: name }, panel.base, true, replayed.source);
  }
  await recordings.rename(action, name);
  say(isThere ? `${action} is part of ${name} now.` : `${action} is called ${name} now.`);
  await refresh();
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

/** The action that the user has named. An Unreadable without one. */
function neededAction() {
  const action = namedAction();
  if (action) return action;
  $("action").focus();
  throw new Unreadable("Write the action's name first, for example wave.");
}

/** After examples were added: the name stays, and what is written next takes its place. */
function selectName() {
  $("action").focus({ preventScroll: true });
  $("action").select();
}

/** Take the clip that is shown as an example of the named action. */
function useClip() {
  needNonePending();
  const action = neededAction(), { example } = page.shown;
  look({ action, ...storable(example, panel.base) }, panel.base, true, example.source);
}

/** Record examples of an action, or of the named one. A single one waits to be kept; several are kept as they come. */
async function record(given = null) {
  if (panel.isBusy) {
    recorder.cancel();
    return;
  }
  needNonePending();
  const action = given ?? neededAction(), times = Number($("times").value);
  look(null);
  say("");
  busy(true);
  $("picture").scrollIntoView({ block: "nearest" });
  try {
    for (let i = 1; i <= times; i++) {
      const title = times > 1 ? `${action}, ${i} of ${times}` : action;
      const found = await recorder.take(title, action === NOTHING ? OTHER_NOTHING : OTHER_ACTION);
      if (!found) break;
      const example = { action, ...storable(found, panel.base) };
      if (times === 1) {
        look(example, panel.base, true);
        break;
      }
      await recordings.add(example);
      say(`Recorded ${action}, ${i} of ${times}.`);
      await refresh();
    }
    // a source that could not go on is told here, once
    if (document.body.dataset.state === "trouble" && !recorder.isCancelled) {
      say($("note").textContent, true);
      note("");
    }
  } finally {
    busy(false);
  }
}

function busy(isBusy) {
  panel.isBusy = isBusy;
  $("record").textContent = isBusy ? "Stop" : "Record";
  for (const id of ["idle", "examples", "folders", "action", "times"]) $(id).disabled = isBusy;
}

/** What a .json file holds, if it was taught on a page; else null. */
export function parsedTaught(text) {
  try {
    const parsed = JSON.parse(text);
    return isTaught(parsed) ? parsed : null;
  } catch {
    return null;
  }
}

/** Learn from files and folders: of clips in folders by action, of others the named action. Also what was taught. */
export const teachBy = (entries) => lesson(async () => {
  const groups = [], clips = [], strangers = [];
  say("Reading …");
  for (const entry of entries) {
    const isFolder = entry.isDirectory || Boolean(entry.webkitRelativePath);
    const suffix = isFolder ? "" : suffixOf(entry.name);
    const taught = suffix === ".json" ? parsedTaught(await entry.text()) : null;
    if (taught) openTaught(entry.name, taught, say);
    else if (suffix === ".zip") groups.push(await unzipped(new Uint8Array(await entry.arrayBuffer()), entry.name));
    else if (isFolder || CLIPS.includes(suffix)) clips.push(entry);
    else strangers.push(`${entry.name} is no clip (${CLIPS.join(", ")}, or a .zip of them). A video is opened first, ` +
      "then “Record” takes two seconds of it.");
  }
  if (clips.length) groups.unshift(await filesIn(clips));
  if (groups.length || strangers.length) await addGroups(groups, strangers);
});

/** Keep the examples in groups of files that are not there yet, and say what became of them. */
async function addGroups(groups, strangers) {
  const count = groups.flat().filter(({ name }) => isClip(name)).length;
  if (count) {
    say(`Reading ${counted(count, "clip")} …`);
    await new Promise((resolve) => { setTimeout(resolve, 30); }); // it shows
  }
  const found = groups.map((files) => examplesIn(files, panel.base, namedAction()));
  const [examples, lost, guesses, named] = ["examples", "lost", "guesses", "named"].map((key) =>
    found.flatMap((one) => one[key]));
  const { fresh, doubles } = await added(examples), known = examples.length - fresh.length;
  const trouble = [...lost, ...strangers];
  if (!examples.length && !trouble.length) throw new Unreadable("There is no clip in it: a clip is a .npy, " +
    ".skeleton, .json or .csv file, best in a folder with its action's name.");

  const actions = [...new Set(fresh.map(({ action }) => action))], of = actions.length === 1 ? ` of ${actions}` : "";
  const names = named.map((name) => `“${name}”`).join(" and "), them = named.length > 1 ? "them" : "it";
  if (fresh.length) selectName();
  else if (trouble.some((words) => words.startsWith("Which action"))) $("action").focus();
  const said = [fresh.length ? `${counted(fresh.length, "example")}${of} added.` : "",
    known ? `${counted(known, "example")} ${known === 1 ? "was" : "were"} here already.` : "", ...doubles,
    named.length ? `Named ${names} after the files: rename ${them} here if that is wrong.` : "",
    ...trouble.slice(0, 3),
    trouble.length > 3 ? `${trouble.length - 3} more cannot be used.` : ""];
  if (!examples.length) fails();
  say(said.filter(Boolean).join(" "), trouble.length > 0, [...new Set(guesses)].join(" "));
  await refresh();
  $(trouble.length ? "teach-note" : "lesson-note").scrollIntoView({ block: "nearest" });
}

/**
 * Keep those of some examples whose joints no example of the same action has: {fresh: these, doubles: for each other
 * action that has the joints of some of these, a sentence}.
 */
async function added(examples) {
  const fitted = new Map(), fresh = [], twice = new Map(); // twice: another action -> the sources of its examples
  const joints = (example) => {
    if (!fitted.has(example)) fitted.set(example, panel.base.fitted(example) ?? example.clip);
    return fitted.get(example);
  };
  for (const { source, ...example } of examples) {
    const same = new Set(recordings.list.filter((other) => isSame(joints(other), joints(example)))
      .map(({ action }) => action));
    if (same.has(example.action)) continue;
    fresh.push(await recordings.add(example));
    for (const action of same) twice.set(action, [...twice.get(action) ?? [], source]);
  }
  const doubles = [...twice].map(([action, [first, ...rest]]) => (rest.length ?
    `${first} and ${rest.length} more are also examples of ${action}.` : `${first} is also an example of ${action}.`));
  return { fresh, doubles };
}

// ---------------------------------------------------------------------------------------------------------------------
// Replay
// ---------------------------------------------------------------------------------------------------------------------

const lookAt = (example) => lesson(() => {
  needNonePending();
  look(example, panel.base);
});

/** Close what is looked at; the focus goes back to where it was opened. */
function close() {
  const { example, isPending } = replayed;
  look(null);
  (isPending ? $("record") : thumbOf(example)).focus({ preventScroll: true });
}

async function keep() {
  const { example, isPending, source } = replayed;
  close();
  if (!isPending) return;
  if (source) selectName();
  const { fresh, doubles } = await added([{ ...example, source }]);
  say([fresh.length ? `1 example of ${example.action} added.` : "1 example was here already.", ...doubles].join(" "));
  await refresh();
}

async function discard() {
  const { example, isPending } = replayed;
  close();
  if (!isPending) await forget((other) => other === example, example.action);
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
  say("Saved my-actions.zip, a folder per action. Add it here another time, or give it to “just teach”.");
}

function saveTaught() {
  download("my-actions.json", [headFile(panel.mine.head, panel.base)], "application/json");
  say("Saved my-actions.json. Open it with “Open a file”.");
}

/** Let what a file of `saveTaught` holds answer; `inform` takes the sentence about it. */
export function openTaught(name, parsed, inform = note) {
  const { head, base } = headFrom(parsed, name, page.networks.filter((network) => !network.base));
  const network = taughtNetwork(base, head), title = name.replace(/\.json$/i, "");
  panel.loaded += 1;
  list(network, `network-taught-${panel.loaded}`, title, `${head.classes.join(", ")} · on ${titleOf(base)}`);
  choose(network);
  inform(`${name} is one of the networks now, until you reload the page; it knows ${head.classes.join(", ")}.`);
}

// ---------------------------------------------------------------------------------------------------------------------
// Start
// ---------------------------------------------------------------------------------------------------------------------

/** Another network was chosen: lessons go on with that. */
function onChosen(network) {
  const base = network.base ?? network;
  if (base === panel.base) return;
  panel.base = base;
  look(replayed.isPending ? replayed.example : null, base, replayed.isPending, replayed.source);
  drawThumbs(recordings.byAction, base);
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
    lesson(() => record());
  });
  $("idle").addEventListener("click", () => lesson(() => record(NOTHING)));
  const buttons = { use: useClip, keep, discard, "save-clips": saveClips, "save-taught": saveTaught,
    forget: () => forget(() => true, "all") };
  for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", () => lesson(action));
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (panel.isBusy) recorder.cancel();
    else if (replayed.example) close();
  });
  addEventListener("resize", () => drawThumbs(recordings.byAction, panel.base));
}
