// Recordings as files: a folder per action, as `just adopt` and `just teach` read it and as anyone brings it. No page.
import { Unreadable, isClip, suffixOf } from "./clip.js";
import { RATE } from "./network.js";

const HIDDEN = /(^|\/)(\.|__MACOSX)/;
const MOST = 2000; // clips that are given at once

/** A name that can be a folder on every system; "" if nothing is left of it. */
export function plainName(text) {
  const spaced = text.normalize("NFC").replace(/[\\/:*?"<>|\p{Cc}\s]+/gu, " ");
  return spaced.replace(/^[. ]+/, "").slice(0, 40).replace(/[. ]+$/, "");
}

// ---------------------------------------------------------------------------------------------------------------------
// Recordings -> files
// ---------------------------------------------------------------------------------------------------------------------

/** The files [{name, bytes}] of examples. Those of several skeletons are turned into the network's. */
export function filesOf(examples, network) {
  const same = examples.every(({ skeleton }) => skeleton === examples[0].skeleton);
  const usable = same ? examples : examples.filter((example) => network.fitted(example));
  const clips = usable.map((example) => (same ? example.clip : network.fitted(example)));
  const about = { skeleton: same ? examples[0].table ?? examples[0].skeleton : tableOf(network),
    classes: [...new Set(usable.map(({ action }) => action))].sort(), unit: "m", up: "y", fps: RATE,
    camera: same && examples.every(({ camera }) => camera) };

  const counts = new Map(), files = usable.map(({ action }, i) => {
    counts.set(action, (counts.get(action) ?? 0) + 1);
    return { name: `${action}/${String(counts.get(action)).padStart(2, "0")}.npy`, bytes: npy(clips[i]) };
  });
  return [{ name: "skeleton.json", bytes: new TextEncoder().encode(JSON.stringify(about)) }, ...files];
}

/** A network's skeleton as skeleton.json has it. */
export function tableOf({ skeleton: { name, joints, parents, regions, pairs } }) {
  return { name, joints, parents, regions, pairs };
}

/** A clip as numpy saves it, in float32: (frames, joints, 3), of several bodies (bodies, frames, joints, 3). */
export function npy({ x, M, L, V }) {
  const shape = (M > 1 ? [M, L, V, 3] : [L, V, 3]).join(", ");
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape}), }`;
  const head = new TextEncoder().encode(`${text.padEnd(117)}\n`); // with what stands before it two times 64 bytes
  const out = new Uint8Array(10 + head.length + 4 * x.length), data = new DataView(out.buffer);
  out.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, head.length & 255, head.length >> 8]);
  out.set(head, 10);
  x.forEach((value, i) => data.setFloat32(10 + head.length + 4 * i, value, true));
  return out;
}

// ---------------------------------------------------------------------------------------------------------------------
// Files -> recordings
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The examples in files [{name, bytes}], each with its file as `source`; a sentence about each that cannot be used, and
 * about skeletons that were guessed; and the actions that are named after files: {examples, lost, guesses, named}. A
 * clip's action is the folder that it is in; without a folder it is `action`, or else what its name says, as wave-1.npy
 * does.
 */
export function examplesIn(files, network, action) {
  const examples = [], lost = [], guesses = new Set(), named = new Set(), unnamed = [];
  const described = new Map(files.filter(({ name }) => name.split("/").at(-1) === "skeleton.json")
    .map(({ name, bytes }) => [name.slice(0, -"skeleton.json".length), saidBy(bytes)]));
  const clips = files.filter(({ name }) => isClip(name) && !HIDDEN.test(name));
  const inOrder = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
  const byFile = namesOf(clips.map(({ name }) => name).filter((name) => !name.includes("/")));
  for (const { name, bytes } of clips.sort(inOrder)) {
    const folders = name.split("/"), title = folders.pop();
    const given = plainName(folders.at(-1) ?? "") || action, own = given || byFile.get(name);
    try {
      const { guess, ...example } = exampleOf(title, bytes, network, nearest(described, folders));
      if (!own) {
        unnamed.push(title);
        continue;
      }
      examples.push({ action: own, ...example, source: title });
      if (guess) guesses.add(guess);
      if (!given) named.add(own);
    } catch (e) {
      if (!(e instanceof Unreadable)) throw e;
      lost.push(isText(title) ? e.message.replace(" cannot be read: ", " is no clip: ") : e.message);
    }
  }
  if (unnamed.length) {
    const [first, ...rest] = unnamed, names = rest.length ? `${first} and ${rest.length} more` : first;
    lost.unshift(`Which action is it? Write its name into the field “Action”, then add ${names} again.`);
  }
  return { examples, lost, guesses: [...guesses], named: [...named] };
}

/** Whether a file may be anything by its name. */
const isText = (title) => [".csv", ".json"].includes(suffixOf(title));

/**
 * {file: the action in its name}, of files that say one: words before a number, as in wave-1.npy. A code such as
 * a27_s3_t1 says none, and neither do several files of which no two have a name in common.
 */
function namesOf(files) {
  const found = new Map();
  for (const file of files) {
    const hit = /^([^\d]*\p{L}{2}[^\d]*?)[-_. (]*\d+\)?\.\w+$/u.exec(file);
    const name = hit ? plainName(hit[1].replace(/[-_]+/g, " ")) : "";
    if (name) found.set(file, name);
  }
  return found.size > 1 && new Set(found.values()).size === found.size ? new Map() : found;
}

/** Whether two clips have the same joints. */
export const isSame = (a, b) => a.M === b.M && a.L === b.L && a.V === b.V && a.x.every((value, i) => value === b.x[i]);

/** The example in a clip's file, and `guess`, which `source` of a network tells. */
export function exampleOf(name, bytes, network, { skeleton, isMetric = true, camera = false } = {}) {
  const found = network.source(name, bytes, skeleton, isMetric);
  const example = storable({ ...found, camera: camera && found.skeleton === "mediapipe33" }, network);
  return { guess: found.guess, ...example };
}

/** An example without what is said of it, with the table of a skeleton that only this network knows. */
export function storable({ clip, skeleton, camera = false }, network) {
  const table = skeleton === network.skeleton.name ? tableOf(network) : null;
  return { clip, skeleton, table, camera };
}

/** What a skeleton.json says: {skeleton, isMetric, camera}; a damaged one says nothing. */
function saidBy(bytes) {
  try {
    const { skeleton, unit, up, camera } = JSON.parse(new TextDecoder().decode(bytes));
    const name = typeof skeleton === "string" ? skeleton : skeleton?.name;
    return { skeleton: name, isMetric: unit === "m" && up === "y", camera: camera === true };
  } catch {
    return {};
  }
}

/** What the nearest skeleton.json says of a clip in these folders. */
function nearest(described, folders) {
  for (let depth = folders.length; depth >= 0; depth--) {
    const found = described.get(folders.slice(0, depth).map((folder) => `${folder}/`).join(""));
    if (found) return found;
  }
  return {};
}

/** The entries of what is dropped, read at once, as browsers want it: files, and folders where they give them. */
export function entriesOf(transfer) {
  return [...transfer.items].filter(({ kind }) => kind === "file").map((item) => {
    const entry = item.webkitGetAsEntry?.();
    return entry?.isDirectory ? entry : item.getAsFile();
  }).filter(Boolean);
}

/** The files [{name, bytes}] in files and folders, each name with its folders: clips, and what tells of them. */
export async function filesIn(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isDirectory) await walk(entry, "", found);
    else await take(entry, entry.webkitRelativePath || entry.name, found);
  }
  return found;
}

async function take(file, name, found) {
  if (!isClip(name) && !name.endsWith("skeleton.json")) return;
  if (found.length >= MOST) throw new Unreadable(`There are more than ${MOST} clips in it: give a smaller folder.`);
  found.push({ name, bytes: new Uint8Array(await file.arrayBuffer()) });
}

async function walk(folder, path, found) {
  const reader = folder.createReader(), inside = `${path}${folder.name}/`;
  for (;;) {
    const entries = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!entries.length) return; // a reader gives a hundred at a time
    for (const entry of entries) {
      if (HIDDEN.test(entry.name)) continue;
      if (entry.isDirectory) {
        await walk(entry, inside, found);
        continue;
      }
      const file = await new Promise((resolve, reject) => { entry.file(resolve, reject); });
      await take(file, inside + entry.name, found);
    }
  }
}
