// The list of what was taught: each action with its examples; it is renamed, deleted and brought back here.
import { clipFrame } from "./draw.js";
import { plainName } from "./exchange.js";
import { $ } from "./screen.js";

export const counted = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

const thumbs = new WeakMap(); // example -> its button

/** The small figure of an example that is listed. */
export const thumbOf = (example) => thumbs.get(example);

export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * The actions {action: examples}, each example a small figure. on: {look, rename, remove, undo}, what a press does.
 * gone: what was just deleted, {said, at: its row, height: of that row}, or null.
 */
export function showLessons(byAction, on, gone) {
  const actions = [...byAction.keys()];
  const rows = [...byAction].map(([action, examples]) => {
    const clips = examples.map((example, i) => {
      const button = element("button", { type: "button", className: "thumb" }, element("canvas", {}));
      button.setAttribute("aria-label", `${action}, example ${i + 1}: look at it`);
      button.addEventListener("click", () => on.look(example));
      thumbs.set(example, button);
      return element("li", {}, button);
    });
    const remove = element("button", { type: "button", className: "remove", textContent: "Delete" });
    remove.dataset.action = action;
    remove.setAttribute("aria-label", `Delete ${action}`);
    remove.addEventListener("click", () => on.remove(action));
    const title = element("div", { className: "title" }, nameOf(action, actions, on.rename),
      ` ${counted(examples.length, "example")}`);
    return element("li", {}, title, remove, element("ul", { className: "thumbs" }, ...clips));
  });
  if (gone) rows.splice(gone.at, 0, placeOf(gone, on.undo));
  $("lesson-note").before($("replay")); // out of the row that it may stand in
  $("lessons").replaceChildren(...rows);
}

/** What stands where something was deleted, and brings it back; as high, so that no other row moves. */
function placeOf({ said, height }, undo) {
  const button = element("button", { type: "button", className: "undo", textContent: "Undo" });
  button.setAttribute("aria-label", `Undo: ${said}`);
  button.addEventListener("click", undo);
  const row = element("li", { className: "gone" }, element("span", { textContent: said }), button);
  row.style.minHeight = `${height}px`;
  return row;
}

/** Each example in the middle of its movement. */
export function drawThumbs(byAction, network) {
  const examples = [...byAction.values()].flat();
  document.querySelectorAll(".thumb canvas").forEach((canvas, i) => {
    const clip = network.fitted(examples[i]);
    if (clip) clipFrame(canvas, clip, clip.L >> 1, network.skeleton);
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Names
// ---------------------------------------------------------------------------------------------------------------------

/** The name of an action: pressed, it can be edited. Enter renames, Escape does not; another action's name asks. */
function nameOf(action, actions, rename) {
  const button = element("button", { type: "button", className: "name", title: "Rename" },
    element("strong", { textContent: action }));
  button.setAttribute("aria-label", `Rename ${action}`);
  const form = element("form", { className: "naming", hidden: true });
  const field = element("input", { type: "text", maxLength: 40, autocomplete: "off" });
  const done = element("button", { textContent: "Rename" });
  const leave = element("button", { type: "button", textContent: "Cancel" });
  field.setAttribute("aria-label", `The new name of ${action}`);
  form.append(field, done, leave);
  const edit = (isEdited) => {
    button.hidden = isEdited;
    form.hidden = !isEdited;
    done.textContent = "Rename";
    if (isEdited) field.value = action;
    (isEdited ? field : button).focus();
  };
  button.addEventListener("click", () => edit(true));
  leave.addEventListener("click", () => edit(false));
  field.addEventListener("input", () => { done.textContent = "Rename"; });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    edit(false);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = plainName(field.value);
    const same = actions.find((other) => other !== action && other.toLowerCase() === name.toLowerCase());
    if (!name || name === action) edit(false);
    else if (same && !done.textContent.startsWith("Put")) done.textContent = `Put it together with ${same}?`;
    else rename(action, same ?? name);
  });
  return element("div", {}, button, form);
}
