// The page's beginning: what it listens to, which file is what, and what it shows first.
import { CLIPS, Unreadable, suffixOf } from "./clip.js";
import { entriesOf, filesIn } from "./exchange.js";
import { addNetwork, choose } from "./networks.js";
import { $, note, state } from "./screen.js";
import { guarded, page, playClip, playVideo, showPhoto, stop, useCamera } from "./sources.js";
import { isTaught } from "./teach.js";
import { addArchive, addFiles, openTaught, startTeaching } from "./teaching.js";

const FILMS = [".mp4", ".webm", ".mov", ".mkv", ".avi"];

// ---------------------------------------------------------------------------------------------------------------------
// Files
// ---------------------------------------------------------------------------------------------------------------------

const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());

async function openFile(file) {
  const suffix = suffixOf(file.name);
  const taught = suffix === ".json" ? parsedTaught(await file.text()) : null;
  if (taught) openTaught(file.name, taught);
  else if (CLIPS.includes(suffix)) await playClip(file.name, await bytesOf(file));
  else if (suffix === ".zip") await addArchive(file.name, await bytesOf(file));
  else if (suffix === ".onnx") {
    const network = await addNetwork(file.name, await bytesOf(file));
    note(`${file.name} is one of the networks now.`);
    choose(network);
  } else if (file.type.startsWith("image/")) await showPhoto(file);
  else if (file.type.startsWith("video/") || FILMS.includes(suffix)) await playVideo(file);
  else throw new Unreadable(`${file.name} is nothing that this page reads. It takes a video, a picture, a clip ` +
    `(${CLIPS.join(", ")}), clips in a .zip, or a network (.onnx).`);
}

/** What a .json file holds, if it was taught on a page; else null. */
function parsedTaught(text) {
  try {
    const parsed = JSON.parse(text);
    return isTaught(parsed) ? parsed : null;
  } catch {
    return null;
  }
}

/** Files and folders that the user gives: several clips, or clips for the lesson, are examples; else one is shown. */
async function take(entries, isLesson) {
  const [first] = entries, archive = entries.length === 1 && suffixOf(first.name) === ".zip";
  const clips = entries.every((entry) => entry.isDirectory || CLIPS.includes(suffixOf(entry.name)));
  if (clips && (isLesson || entries.length > 1 || first.isDirectory)) await addFiles(await filesIn(entries));
  else if (!isLesson || archive) await openFile(first);
  else throw new Unreadable(`${first.name} is no clip (${CLIPS.join(", ")}, or a .zip of them). A video is ` +
    "opened first, then “Record” takes two seconds of it.");
}

// ---------------------------------------------------------------------------------------------------------------------
// Start
// ---------------------------------------------------------------------------------------------------------------------

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Unreadable(`The page is not whole: it lacks ${address}. Write it again with “just page”.`);
  return bytesOf(answer);
}

async function playChosen() {
  const { file, title, skeleton } = page.clips[$("clip").selectedIndex];
  await playClip(file, await fetched(`clips/${file}`), title, skeleton);
}

function listen() {
  $("camera").addEventListener("click", () => guarded(useCamera));
  $("play").addEventListener("click", () => guarded(playChosen));
  $("clip").addEventListener("change", () => guarded(playChosen));
  for (const id of ["file", "examples"]) {
    $(id).addEventListener("change", () => {
      const entries = [...$(id).files];
      if (entries.length) guarded(() => take(entries, id === "examples"));
      $(id).value = "";
    });
  }
  $("accuracy").addEventListener("change", () => {
    if (!page.shown?.camera) return;
    stop();
    guarded(useCamera);
  });
  const dragged = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    const entries = entriesOf(event.dataTransfer), isLesson = Boolean(event.target.closest?.("#teach"));
    if (entries.length) guarded(() => take(entries, isLesson));
  });
  addEventListener("resize", () => page.shown?.redraw?.());
}

async function start() {
  state("loading");
  const list = JSON.parse(new TextDecoder().decode(await fetched("page.json")));
  page.clips = list.clips;
  $("clip").replaceChildren(...list.clips.map(({ title }) => new Option(title)));
  for (const name of list.networks) await addNetwork(name, await fetched(`networks/${name}`));
  if (innerWidth > 700) $("accuracy").value = "full"; // a phone starts with the fast estimator
  choose(page.networks[0]);
  listen();
  await startTeaching();
  state("ready");
  $("clip").selectedIndex = list.start ?? 0;
  if (list.start !== null && !matchMedia("(prefers-reduced-motion: reduce)").matches) await playChosen();
}

guarded(start);
