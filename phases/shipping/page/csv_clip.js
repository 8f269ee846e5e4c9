// Clips of tables, as phases/recordings/csv_clips.py, tables.py and tidy_tables.py read them: a row per frame with a
// column per coordinate (left_elbow_x, or numbers only), or a row per frame and joint. No browser.
import { median } from "./joints.js";
import { SKELETONS } from "./skeletons.js";
import { spelled } from "./spelling.js";
import { Unreadable } from "./unreadable.js";

export const SCORES = ["visibility", "vis", "confidence", "conf", "score", "likelihood", "v", "c", "s"];
const COUNTS = [17, 18, 20, 25, 26, 33]; // joints of usual skeletons, for numbers without names
const MISSING = ["", "nan", "-nan", "null", "none", "na", "n/a", "#n/a", "<na>"];
const NOT_A_NUMBER = /^[-+]?(nan(\(\w*\))?|1[.,]#(qnan|snan|ind)0*)$/;
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i, ENDLESS = /^[-+]?inf(inity)?$/i;
const LARGEST = 3.4e38; // of a float32

// a column is left_elbow_x, x_elbow or ELBOWX; a joint without a name is joint7
const inAnyCase = (text) => text.replace(/[a-z]/g, (c) => `[${c}${c.toUpperCase()}]`);
const AXES = inAnyCase(["x", "y", "z", ...SCORES].join("|"));
const JOINT_AXIS = new RegExp(`^(.+?)(?:[_. /-]|(?<=\\d)|(?<=[a-z])(?=[A-Z]))(${AXES})` +
  `(?:[_. ]${inAnyCase("pos")}(?:${inAnyCase("ition")})?)?$`);
const AXIS_JOINT = new RegExp(`^(${AXES})[_. /-]?(\\d+|(?<=[_. /-]).+)$`);
const CAPITALS = /^([A-Z0-9_ ]{2,}[A-Z])([XYZ])$/;
const NUMBERED = /^((key ?)?point|joint|landmark|marker|part|kp|j|p)? ?\d+$/;

const WORDS = { // of a row per joint: what a column holds
  frame: ["frame", "frame id", "frame no", "frame number", "frame index", "frame idx", "image", "image id", "time",
    "timestamp", "t"],
  joint: ["joint", "landmark", "keypoint", "key point", "kpt", "marker", "point", "bodypart", "body part", "part",
    "node"],
  body: ["body", "body id", "person", "person id", "track", "track id", "skeleton", "skeleton id", "id", "idx"],
  x: ["x"], y: ["y"], z: ["z"], score: SCORES,
};
const UNITS = ["s", "sec", "secs", "second", "seconds", "ms", "msec", "millis", "milliseconds", "us", "µs", "usec",
  "microseconds", "ns", "nsec", "nanoseconds"];
const TIMES = ["time", "t", "timestamp", "time stamp"];

/**
 * The numbers of a table: {x, shape: [M, L, V, C], skeleton}, skeleton the known one whose joints it names. Joints with
 * a missing number are zeros. own: the network's joints, named: another skeleton that a skeleton.json says.
 */
export function clipOfTable(bytes, { joints: own = [], skeleton: named } = {}) {
  const [header, body] = rowsOf(textOf(bytes)), tidy = tidyColumns(header);
  const columns = header.length && !tidy ? namedColumns(header) : new Map();
  const found = (tidy ? jointsOfRows(body, tidy) : [...columns.keys()]).filter((joint) => !NUMBERED.test(joint));
  const skeleton = skeletonOf(found, own.map(spelled));
  const names = SKELETONS[skeleton ?? named]?.joints ?? own.map(spelled);
  if (tidy) return { ...clipOfJointRows(body, tidy, names), skeleton };

  const order = columns.size ? inOrderOf(names, [...columns.keys()]).map((joint) => columns.get(joint)) : null;
  return { ...clipOfFrameRows(header, body, order ?? plainColumns(body)), skeleton };
}

/** The largest known skeleton of which all joints are named; none if all of the network's own are. */
function skeletonOf(found, own) {
  const has = (joints) => joints.every((joint) => found.includes(joint));
  if (!found.length || (own.length && has(own))) return undefined;
  const known = Object.values(SKELETONS).filter(({ joints }) => has(joints));
  return known.sort((a, b) => b.joints.length - a.joints.length)[0]?.name;
}

/** How many numbers a joint has if n numbers are a usual skeleton: 3, 2 or 4; 0 if they are none. */
export const usualChannels = (n) => [3, 2, 4].find((C) => n % C === 0 && COUNTS.includes(n / C)) ?? 0;

// ---------------------------------------------------------------------------------------------------------------------
// Text -> cells
// ---------------------------------------------------------------------------------------------------------------------

/** UTF-8, UTF-16 where the file begins with its mark, else Latin-1 as Windows writes it. */
function textOf(bytes) {
  const wide = { "255,254": "utf-16le", "254,255": "utf-16be" }[bytes.subarray(0, 2).join()];
  if (wide) return new TextDecoder(wide).decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

/** [names of the columns, or none; the rows below] of a table. */
function rowsOf(text) {
  const rows = cellsOf(text.split(/\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/));
  const filled = rows.flatMap((row, at) => (row.every(isMissing) ? [] : [at]));
  const first = filled[0] ?? 0, top = rows[first] ?? [];

  // the first row has names, or pandas's 0, 1, 2, ... (after an empty cell, if pandas wrote an index), or a frame
  const header = top.some(isNumber) ? [] : top, cells = top.map((cell) => cell.trim());
  const counted = cells.every((cell, k) => cell === String(k)) ||
    cells.every((cell, k) => cell === (k ? String(k - 1) : ""));
  const body = rows.slice(header.length || counted ? first + 1 : 0, (filled.at(-1) ?? 0) + 1);
  if (!body.length) throw new Unreadable("it holds no frame.");
  if (new Set([...body, ...(header.length ? [header] : [])].map((row) => row.length)).size !== 1) {
    throw new Unreadable("its rows differ in length.");
  }
  return [header, body];
}

/** The cells of a table without its empty lines. Decimal commas become points, also in quotes between commas. */
function cellsOf(lines) {
  const mark = markOf(lines.find((line) => /[^ ,;\t]/.test(line)) ?? "");
  const rows = lines.map((line) => cellsOfLine(line, mark)).filter((row) => row.length > 1 || row[0].trim());
  const isDecimal = (cell) => /^[-+]?\d*,\d+(e[-+]?\d+)?$/i.test(cell.trim()) &&
    !/^[-+]?[1-9]\d{0,2},\d{3}$/.test(cell.trim());
  if (mark === "," && !rows.some((row) => row.some(isDecimal))) return rows;
  return rows.map((row) => row.map(withPoint));
}

/** What separates the cells of a first line. In a line of numbers with ; or tabs a comma is a decimal mark. */
function markOf(line) {
  for (const mark of ";\t,") {
    const filled = line.split(mark).filter((cell) => !isMissing(cell));
    if (line.includes(mark) && filled.map((cell) => (mark === "," ? cell : withPoint(cell))).every(isNumber)) {
      return mark;
    }
  }
  const count = (mark) => line.split(mark).length;
  return [...",;\t"].reduce((best, mark) => (count(mark) > count(best) ? mark : best));
}

function cellsOfLine(line, mark) {
  if (!line.includes('"')) return line.split(mark);
  const cells = [];
  let cell = "", isQuoted = false, isFresh = true;
  for (let i = 0; i < line.length; i++) {
    if (isQuoted && line[i] === '"' && line[i + 1] === '"') cell += line[i++];
    else if (line[i] === '"' && (isQuoted || isFresh)) isQuoted = !isQuoted;
    else if (line[i] === mark && !isQuoted) {
      cells.push(cell);
      cell = "";
      isFresh = true;
      continue;
    } else cell += line[i];
    isFresh = false;
  }
  return [...cells, cell];
}

const withPoint = (cell) => cell.replace(/^(\s*[-+]?\d*),(?=\d)/, "$1."); // 1,5 -> 1.5

function isMissing(cell) {
  const word = cell.trim().toLowerCase();
  return MISSING.includes(word) || NOT_A_NUMBER.test(word);
}

const isNumber = (cell) => NUMBER.test(cell.trim()) && Number.isFinite(Number(cell));

/** The number in a cell, NaN if it is missing; `where`: what messages call the cell. */
function numberOf(cell, where) {
  const word = cell.trim();
  if (isMissing(word)) return NaN;
  const number = NUMBER.test(word) ? Number(word) : NaN;
  if (ENDLESS.test(word) || Math.abs(number) > LARGEST) {
    throw new Unreadable(`${where}: “${word}” is not finite; an empty cell means that the joint is missing.`);
  }
  if (Number.isNaN(number)) throw new Unreadable(`${where}: “${word.slice(0, 40)}” is not a number.`);
  return number;
}

/** The joints of a table in the order of the skeleton's names if it has all of these. */
function inOrderOf(wanted, found) {
  const lacking = wanted.filter((name) => !found.includes(name));
  if (found.length === wanted.length && lacking.length && lacking.length < wanted.length) {
    const others = found.filter((name) => !wanted.includes(name)).join(", ");
    throw new Unreadable(`it has no columns for the joint ${lacking[0]}, but for ${others}: name them as the ` +
      "network's skeleton does.");
  }
  return wanted.length && !lacking.length ? wanted : found;
}

// ---------------------------------------------------------------------------------------------------------------------
// A row per frame
// ---------------------------------------------------------------------------------------------------------------------

/** The numbers of rows per frame; joints: the columns of each. */
function clipOfFrameRows(header, body, joints) {
  const V = joints.length, C = joints[0].length, isScored = header.length > 0 &&
    SCORES.includes(jointAndAxis(header[joints[0].at(-1)])[1]);
  const values = body.flatMap((row, t) => joints.map((columns) => columns.map((column) =>
    numberOf(row[column], `frame ${t}${header.length ? `, ${header[column]}` : ""}`))));
  return numbersOf(values, [1, body.length, V, C], isScored && C === 3);
}

/** Numbers of joints in a row; one of them that is NaN makes a joint zeros. flat: x, y, score get a z of 0. */
function numbersOf(joints, [M, L, V, C], flat) {
  const wide = C + (flat ? 1 : 0), x = new Float32Array(M * L * V * wide);
  joints.forEach((joint, i) => {
    if (!joint || joint.some(Number.isNaN)) return;
    x.set(flat ? [joint[0], joint[1], 0, joint[2]] : joint, i * wide);
  });
  return { x, shape: [M, L, V, wide] };
}

/** {joint: columns of x, y, then z and score if it has them}, in the order of the table. */
function namedColumns(header) {
  const joints = new Map();
  header.forEach((column, number) => {
    const [joint, axis] = jointAndAxis(column);
    if (!joint) return;
    const name = spelled(joint), kind = SCORES.includes(axis) ? "score" : axis;
    if (!joints.has(name)) joints.set(name, {});
    joints.get(name)[kind] ??= number;
  });

  // what has no x and y, such as speed_v, is no joint; all joints must have the same axes
  const whole = [...joints].filter(([, axes]) => "x" in axes && "y" in axes);
  const kinds = new Set(whole.map(([, axes]) => Object.keys(axes).sort().join()));
  if (kinds.size !== 1) {
    const what = kinds.size ? "its joints have different axes" : "no joint has columns for x and y";
    throw new Unreadable(`${what}; columns must be like left_elbow_x, left_elbow_y, left_elbow_z, or x0, y0, z0.`);
  }
  return new Map(whole.map(([name, axes]) => [name, ["x", "y", "z", "score"].filter((axis) => axis in axes)
    .map((axis) => axes[axis])]));
}

/** ["left_elbow", "x"] of left_elbow_x, ["0", "x"] of x0; ["", ""] of another column, such as frame. */
function jointAndAxis(column) {
  const word = column.trim().replace(/\s*[[(][^[(]*[\])]$/, ""); // left elbow x [mm]
  let hit = JOINT_AXIS.exec(word);
  if (hit) return [hit[1], hit[2].toLowerCase()];
  hit = AXIS_JOINT.exec(word);
  if (hit) return [hit[2], hit[1].toLowerCase()];
  hit = CAPITALS.exec(word);
  return hit ? [hit[1], hit[2].toLowerCase()] : ["", ""];
}

/** The columns of each joint in a table of numbers only; a first column that counts frames is left out. */
function plainColumns(rows) {
  const indexed = indexedColumns(rows);
  if (indexed) return indexed;
  const width = rows[0].length, counted = countsFrames(rows.map((row) => row[0]));
  for (const first of counted ? [1, 0] : [0, 1]) {
    const n = width - first, C = usualChannels(n) || (n % 3 ? 0 : 3);
    if (C && n > 0) return Array.from({ length: n / C }, (_, v) => inRow(first + v * C, C));
  }
  throw new Unreadable(`it has ${width} columns of numbers; it must have 2, 3 or 4 for each joint, or a first line ` +
    "that names them: left_elbow_x, left_elbow_y, ...");
}

const inRow = (first, length) => Array.from({ length }, (_, k) => first + k);

/** The columns of each joint in a table that puts its number before its coordinates: t, 0, x, y, z, 1, ...; or null. */
function indexedColumns(rows) {
  const row = rows.find((one) => !one.every(isMissing)) ?? rows[0], width = row.length;
  for (let first = 0; first < Math.min(4, width); first++) {
    for (const C of [3, 2, 4]) {
      const at = Array.from({ length: Math.ceil((width - first) / (C + 1)) }, (_, v) => first + v * (C + 1));
      if (at.length < 3 || (width - first) % (C + 1) || !at.every((column) => isNumber(row[column]))) continue;
      const start = Number(row[first]);
      if (![0, 1].includes(start) || !at.every((column, v) => Number(row[column]) === start + v)) continue;

      // the same in all rows; a row without a body may lack them
      const same = (other) => at.every((column) => other[column] === row[column] || isMissing(other[column]));
      if (rows.every(same)) return at.map((column) => inRow(column + 1, C));
    }
  }
  return null;
}

/** Whether numbers rise like frame numbers or times, give or take lost frames and rounded milliseconds. */
function countsFrames(column) {
  if (column.length < 2 || !column.every(isNumber)) return false;
  const steps = column.slice(1).map((cell, i) => Number(cell) - Number(column[i]));
  if (!steps.every((one) => one > 0)) return false;

  // nearly every step is the usual one, and the others are multiples of it
  const step = median(steps), whole = steps.every((one) => one % 1 === 0), tolerance = whole ? 1 : 0.1 * step;
  const even = steps.every((one) => Math.abs(one - Math.round(one / step) * step) <= tolerance);
  const usual = steps.filter((one) => Math.abs(one - step) <= tolerance).length;
  if (!even || usual / steps.length < 0.5) return false;

  // whole steps of 2 to 7 that vary are the pixels of a body that walks
  return !whole || step === 1 || step > 7 || steps.every((one) => one === steps[0]);
}

// ---------------------------------------------------------------------------------------------------------------------
// A row per frame and joint
// ---------------------------------------------------------------------------------------------------------------------

/** {key of WORDS: column} of a table with a row per joint; null for another table. */
function tidyColumns(header) {
  const columns = {};
  header.forEach((name, number) => {
    // x [mm], Joint_Name
    const word = name.trim().replace(/\s*[[(][^[(]*[\])]$/, "").replace(/(?<=[a-z])(?=[A-Z])/g, " ")
      .replace(/[_\s.-]+/g, " ").toLowerCase();
    for (const [key, words] of Object.entries(WORDS)) {
      const plain = key === "joint" ? word.replace(/ (name|id|index|idx|no|number)$/, "") : word;
      if (words.includes(word) || words.includes(plain)) columns[key] ??= number;
    }
  });
  const time = header.findIndex(isTime);
  if (time >= 0) columns.frame ??= time;
  return ["frame", "joint", "x", "y"].every((key) => key in columns) ? columns : null;
}

/** Whether a column tells times: time, t, timestamp, with a unit or without, or a unit alone but for s. */
function isTime(name) {
  const parted = name.trim().replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ");
  const words = parted.trim().split(" ");
  if (TIMES.includes(words.join(" "))) return true;
  return UNITS.includes(words.at(-1)) && (words.length === 1 ? words[0] !== "s" : TIMES.includes(words.slice(0, -1)
    .join(" ")));
}

/** The joint of a row: a name as `spelled`, or a number; empty if the row has none. */
function jointWord(row, columns) {
  const word = row[columns.joint].trim();
  return /^\d{1,9}$/.test(word) ? String(Number(word)) : spelled(word);
}

/** The joints of a table: numbers in their order, without gaps; names as they come. */
function jointsOfRows(body, columns) {
  const found = [...new Set(body.map((row) => jointWord(row, columns)))].filter(Boolean);
  if (!found.every((word) => /^\d+$/.test(word))) return found;
  const numbers = found.map(Number).sort((a, b) => a - b), [first] = numbers, last = numbers.at(-1);
  if ((first === 0 || first === 1) && last < 2 * numbers.length) return inRow(first, last - first + 1).map(String);
  return numbers.map(String);
}

/** The joints in the skeleton's order; joints of the skeleton that no row has are among them. */
function jointOrder(found, wanted) {
  if (wanted.length && found.every((joint) => wanted.includes(joint))) return wanted;
  if (["0", "1"].includes(found[0]) && /^\d+$/.test(found.at(-1))) {
    const first = Number(found[0]), last = Math.max(Number(found.at(-1)), first + wanted.length - 1);
    return inRow(first, last - first + 1).map(String);
  }
  return inOrderOf(wanted, found);
}

/** The frame of each row, from 0: by numbers that count frames, by times in their order, or by names as they come. */
function frameOrder(words) {
  const different = [...new Set(words)];
  if (!different.every(isNumber)) return words.map((word) => different.indexOf(word));
  const found = [...new Set(different.map(Number))].sort((a, b) => a - b);
  const rank = new Map(found.map((number, t) => [number, t]));
  const steps = found.slice(1).map((number, i) => number - found[i]);
  const counts = found.length > 1 && found.every((number) => number % 1 === 0) && median(steps) === 1;
  return words.map((word) => (counts ? Number(word) - found[0] : rank.get(Number(word))));
}

/** The numbers of rows that each hold a joint; zeros where no row has one. */
function clipOfJointRows(rows, columns, names) {
  const body = rows.filter((row) => jointWord(row, columns));
  if (!body.length) throw new Unreadable("it has a column for joints, but names none.");
  const joints = new Map(jointOrder(jointsOfRows(body, columns), names).map((joint, v) => [joint, v]));
  const frames = frameOrder(body.map((row) => row[columns.frame].trim()));
  const persons = body.map((row) => ("body" in columns ? row[columns.body].trim() : ""));
  const number = new Map([...new Set(persons)].map((person, m) => [person, m]));

  // a place takes one joint
  const axes = ["x", "y", "z", "score"].filter((key) => key in columns).map((key) => columns[key]);
  const M = number.size, L = frames.reduce((a, b) => Math.max(a, b), 0) + 1, V = joints.size;
  if (M > 100 || L > 1e6 || V > 1000) {
    throw new Unreadable(`it has ${M} bodies, ${L} frames and ${V} joints: at most 100, 1000000 and 1000 are read.`);
  }
  const found = Array(M * L * V);
  body.forEach((row, i) => {
    const at = (number.get(persons[i]) * L + frames[i]) * V + joints.get(jointWord(row, columns));
    const where = `frame ${row[columns.frame].trim()}, joint ${row[columns.joint].trim()}`;
    if (found[at]) throw new Unreadable(`${where} is there twice: a column “person” tells bodies apart.`);
    found[at] = axes.map((column) => numberOf(row[column], where));
  });
  return numbersOf(found, [M, L, V, axes.length], "score" in columns && !("z" in columns));
}
