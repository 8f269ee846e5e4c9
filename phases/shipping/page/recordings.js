// The examples that a user recorded, kept in the browser (IndexedDB) until they are deleted.
// An example: {id, action, clip: {x, M, L, V} in metres, y up, 30 frames a second, skeleton: its name, table: the
// skeleton itself unless its name is a known one, camera: whether a camera's pose gave it}.

const DATABASE = "last-page", STORE = "examples";

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

export class Recordings {
  constructor() {
    this.list = [];     // in the order in which they were recorded
    this.isKept = true; // whether the browser keeps them
  }

  /** What the browser has kept. One that keeps nothing, as in a private window, keeps a page going all the same. */
  async open() {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
      this.database = await settled(request);
      this.list = await settled(this.store("readonly").getAll());
    } catch {
      this.isKept = false;
    }
  }

  store(mode) {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }

  /** Write to the browser's store; a full disk is no reason to lose what the page has. */
  async write(change) {
    if (!this.isKept) return;
    try {
      await settled(change(this.store("readwrite")));
    } catch {
      this.isKept = false;
    }
  }

  /** Keep an example; it gets a number. */
  async add(example) {
    if (!this.list.length) navigator.storage?.persist?.().catch(() => {});
    const kept = { ...example, id: Math.max(0, ...this.list.map(({ id }) => id)) + 1 };
    this.list.push(kept);
    await this.write((store) => store.put(kept));
    return kept;
  }

  /** Delete those examples of which `which` is true. Returns them. */
  async remove(which) {
    const gone = this.list.filter(which);
    this.list = this.list.filter((example) => !which(example));
    for (const { id } of gone) await this.write((store) => store.delete(id));
    return gone;
  }

  /** Keep examples again that `remove` has given, each in its place. */
  async restore(gone) {
    this.list = [...this.list, ...gone].sort((a, b) => a.id - b.id);
    for (const example of gone) await this.write((store) => store.put(example));
  }

  /** Give the examples of an action another name. */
  async rename(action, name) {
    for (const example of this.list.filter((other) => other.action === action)) {
      example.action = name;
      await this.write((store) => store.put(example));
    }
  }

  /** {action: its examples}, in the order of the first ones. */
  get byAction() {
    const found = new Map();
    for (const example of this.list) {
      if (!found.has(example.action)) found.set(example.action, []);
      found.get(example.action).push(example);
    }
    return found;
  }
}
