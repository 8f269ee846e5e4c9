// .zip archives: written without compression, read also as other programs write them. Pure functions, no page.
import { Unreadable } from "./clip.js";

const MOST = 500e6; // bytes of an archive unpacked
const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50; // "PK", and what follows
const UTF8 = 1 << 11, YEAR_1980 = 0x21; // names are UTF-8; a date, which zip wants
const STORED = 0, DEFLATED = 8;

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** The checksum CRC-32 of bytes, as zip and PNG have it. */
export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/** An archive of files [{name, bytes}]; a name has folders before slashes. */
export function zipped(files) {
  const parts = [], central = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const path = new TextEncoder().encode(name), crc = crc32(bytes);
    const about = [[20, 2], [UTF8, 2], [STORED, 2], [0, 2], [YEAR_1980, 2], [crc, 4], [bytes.length, 4],
      [bytes.length, 4], [path.length, 2], [0, 2]];
    const head = numbers([[LOCAL, 4], ...about]);
    central.push(numbers([[CENTRAL, 4], [20, 2], ...about, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), path);
    parts.push(head, path, bytes);
    offset += head.length + path.length + bytes.length;
  }

  // the table of contents comes last
  const size = central.reduce((sum, part) => sum + part.length, 0), count = files.length;
  const end = numbers([[END, 4], [0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [offset, 4], [0, 2]]);
  return joined([...parts, ...central, end]);
}

/** Numbers [[value, bytes]], the lowest byte first. */
function numbers(values) {
  const out = [];
  for (const [value, width] of values) {
    for (let i = 0; i < width; i++) out.push((value >>> (8 * i)) & 255);
  }
  return Uint8Array.from(out);
}

function joined(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** The files [{name, bytes}] of an archive. An Unreadable says what is wrong with it. */
export async function unzipped(archive, title) {
  try {
    return await members(archive);
  } catch (e) {
    const why = e instanceof Unreadable ? e.message : "it is a damaged archive.";
    throw new Unreadable(`${title} cannot be read: ${why}`);
  }
}

async function members(archive) {
  const data = new DataView(archive.buffer, archive.byteOffset, archive.byteLength), files = [];

  // where the table of contents is: a comment may follow its end
  let end = archive.length - 22;
  while (end >= 0 && data.getUint32(end, true) !== END) end--;
  if (end < 0) throw new Unreadable("it is no .zip archive, or is cut off.");
  let at = data.getUint32(end + 16, true), size = 0;

  for (let left = data.getUint16(end + 10, true); left > 0; left--) {
    if (data.getUint32(at, true) !== CENTRAL) throw new Error("no entry");
    const way = data.getUint16(at + 10, true), crc = data.getUint32(at + 16, true);
    const packed = data.getUint32(at + 20, true), full = data.getUint32(at + 24, true);
    const [name, extra, comment] = [28, 30, 32].map((place) => data.getUint16(at + place, true));
    const path = new TextDecoder().decode(archive.subarray(at + 46, at + 46 + name));
    const local = data.getUint32(at + 42, true);
    at += 46 + name + extra + comment;
    size += full;
    if (size > MOST) throw new Unreadable(`it holds more than ${MOST / 1e6} MB.`);
    if (path.endsWith("/")) continue;

    // the file itself, behind a header of its own
    const begin = local + 30 + data.getUint16(local + 26, true) + data.getUint16(local + 28, true);
    const part = archive.subarray(begin, begin + packed);
    const bytes = way === STORED ? part : await inflated(part, way, full);
    if (bytes.length !== full || crc32(bytes) !== crc) throw new Unreadable(`${path} in it is damaged.`);
    files.push({ name: path, bytes });
  }
  return files;
}

/** The bytes of a compressed file: no more than it says that it has. */
async function inflated(part, way, full) {
  if (way !== DEFLATED) throw new Unreadable("it is compressed in a way that this page does not know.");
  const reader = new Blob([part]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader(), found = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return joined(found);
    size += value.length;
    if (size > full) throw new Error("longer than it says");
    found.push(value);
  }
}
