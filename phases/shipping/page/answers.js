// Several clips that are opened at once: each is named, and listed beside the answer.
import { Unreadable } from "./clip.js";
import { $, NONE, note, percent } from "./screen.js";
import { asked, guarded, page, playClip, stop } from "./sources.js";

/** Name the clips of files [{name, bytes}], one after the other. Another network names them anew. */
export async function nameClips(files) {
  const again = () => guarded(() => nameClips(files)), rows = files.map((file) => rowOf(file, again));
  let turn = stop();
  $("answers").replaceChildren(...rows);
  $("answers").hidden = false;
  for (const [i, { name, bytes }] of files.entries()) {
    try {
      const answer = await playClip(name, bytes, { isBrief: true, isListed: true });
      if (!answer) return;
      turn = page.turn;
      say(rows[i], answer);
    } catch (e) {
      if (!(e instanceof Unreadable)) throw e;
      refuse(rows[i], e.message);
    }
    await new Promise((resolve) => { setTimeout(resolve); }); // the row shows before the next clip is read
    if (turn !== page.turn) return;
  }
  if (page.shown) page.shown.again = again;
  note(`${files.length} clips are named in the list. Press one to see it move.`);
}

/** A row of the list: the file, which plays it, and room for its answer. */
function rowOf({ name, bytes }, again) {
  const [row, button, said] = ["li", "button", "span"].map((tag) => document.createElement(tag));
  button.type = "button";
  button.textContent = name;
  button.addEventListener("click", () => asked(async () => {
    const playing = playClip(name, bytes, { isListed: true });
    page.shown.again = again;
    await playing;
  }));
  said.textContent = "…";
  row.append(button, said);
  return row;
}

function say(row, { label, p, known }) {
  row.lastElementChild.textContent = known ? `${label}, ${percent(p)}` : `${NONE} (${label} ${percent(p)})`;
  row.classList.toggle("known", known);
}

function refuse(row, why) {
  row.firstElementChild.disabled = true;
  row.lastElementChild.textContent = why;
}
