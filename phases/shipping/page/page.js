// The page's beginning: what it listens to, which file is what, and what it shows first.
import { nameClips } from "./answers.js";
import { CLIPS, Unreadable, suffixOf } from "./clip.js";
import { entriesOf } from "./exchange.js";
import { addNetwork, choose } from "./networks.js";
import { $, kilobytes, note, state } from "./screen.js";
import { asked, guarded, page, playClip, playVideo, showPhoto, stop, useCamera } from "./sources.js";
import { openTaught, parsedTaught, startTeaching, teachBy } from "./teaching.js";

const FILMS = [".mp4", ".webm", ".mov", ".mkv", ".avi"];

// ---------------------------------------------------------------------------------------------------------------------
// Files
// ---------------------------------------------------------------------------------------------------------------------

const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());

async function openFile(file) {
  const suffix = suffixOf(file.name);
  if (!file.size) throw new Unreadable(`${file.name} cannot be read: it is empty.`);
  const taught = suffix === ".json" ? parsedTaught(await file.text()) : null;
  if (taught) openTaught(file.name, taught);
  else if (CLIPS.includes(suffix)) await playClip(file.name, await bytesOf(file));
  else if (suffix === ".zip") await teachBy([file]);
  else if (suffix === ".onnx") {
    const network = await addNetwork(file.name, await bytesOf(file));
    note(`${file.name} is one of the networks now, until you reload the page.`);
    choose(network);
  } else if (file.type.startsWith("image/")) await showPhoto(file);
  else if (file.type.startsWith("video/") || FILMS.includes(suffix)) await playVideo(file);
  else throw new Unreadable(`This page cannot read ${file.name}. It takes a video, a picture, a clip ` +
    `(${CLIPS.join(", ")}), examples in a .zip, a recogniser (.json) that it saved, or a network (.onnx).`);
}

/** Files and folders that the user gives to be shown: folders teach, and several clips are named and listed. */
async function openAll(entries) {
  const folders = entries.filter(({ isDirectory }) => isDirectory), files = entries.filter((e) => !e.isDirectory);
  if (folders.length) await teachBy(folders);
  if (files.length === 1) {
    await openFile(files[0]);
    return;
  }
  const clips = [];
  for (const file of files) {
    const suffix = suffixOf(file.name), isTaught = suffix === ".json" && parsedTaught(await file.text());
    if (CLIPS.includes(suffix) && !isTaught) clips.push({ name: file.name, bytes: await bytesOf(file) });
    else await openFile(file);
  }
  if (clips.length) await nameClips(clips);
}

// ---------------------------------------------------------------------------------------------------------------------
// Start
// ---------------------------------------------------------------------------------------------------------------------

async function fetched(address, tell) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Unreadable(`The page is not whole: it lacks ${address}. Write it again with “just page”.`);
  tell?.(Number(answer.headers.get("Content-Length")));
  return bytesOf(answer);
}

/** Play the synthetic clip that is chosen; without one what is shown once more, or else the first one. */
async function playChosen() {
  const chosen = $("clip").selectedIndex - 1; // after “choose …”
  if (chosen < 0 && page.shown?.again) {
    await page.shown.again();
    return;
  }
  const { file, title, skeleton } = page.clips[Math.max(0, chosen)];
  await playClip(file, await fetched(`clips/${file}`), { action: title, skeleton });
}

function listen() {
  $("camera").addEventListener("click", () => asked(useCamera));
  $("play").addEventListener("click", () => asked(playChosen));
  $("clip").addEventListener("change", () => { if ($("clip").selectedIndex) asked(playChosen); });
  for (const [id, take] of [["file", openAll], ["examples", teachBy], ["folders", teachBy]]) {
    $(id).addEventListener("change", () => {
      const entries = [...$(id).files];
      if (entries.length) asked(() => take(entries));
      $(id).value = "";
    });
  }
  $("accuracy").addEventListener("change", () => {
    if (!page.shown?.camera) return;
    stop();
    asked(useCamera);
  });
  const dragged = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (isDragged) => {
    $("drop").hidden = !isDragged;
    $("teach").classList.toggle("target", isDragged);
  };
  addEventListener("dragover", (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(false); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    const entries = entriesOf(event.dataTransfer), take = event.target.closest?.("#teach") ? teachBy : openAll;
    if (entries.length) asked(() => take(entries));
  });
  addEventListener("resize", () => page.shown?.redraw?.());
}

async function start() {
  state("loading");
  const list = JSON.parse(new TextDecoder().decode(await fetched("page.json")));
  page.clips = list.clips;
  $("clip").replaceChildren(new Option("choose …"), ...list.clips.map(({ title }) => new Option(title)));
  for (const name of list.networks) {
    await addNetwork(name, await fetched(`networks/${name}`, (size) => {
      $("loading").textContent = `Loading the network${size ? `, ${kilobytes(size)}` : ""} …`;
    }));
  }
  $("loading").hidden = true;
  if (innerWidth > 700) $("accuracy").value = "full"; // a phone starts with the fast estimator
  choose(page.networks[0]);
  listen();
  await startTeaching();
  state("ready");
  $("clip").selectedIndex = 1 + (list.start ?? 0);
  if (list.start !== null && !matchMedia("(prefers-reduced-motion: reduce)").matches) await playChosen();
}

guarded(start).finally(() => { $("loading").hidden = true; });
