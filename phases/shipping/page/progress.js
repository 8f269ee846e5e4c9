// How far the lessons are: what the examples teach, and what would help most.
import { counted, element } from "./lessons.js";
import { $ } from "./screen.js";
import { page } from "./sources.js";
import { NOTHING } from "./teach.js";

/** Say it, a sentence a line. head: what those `examples` teach that count, null for too few. */
export function showProgress(recordings, head, examples) {
  const actions = [...recordings.byAction.keys()], unfit = recordings.list.length - examples.length;
  const said = head ? whatItKnows(head, actions) : [];
  if (!head && actions.length) {
    said.push(actions[0] === NOTHING ? "Now name an action and show it." :
      `Now name a second action, or show it “nothing”: then it tells ${actions[0]} from that.`);
  }
  if (unfit) said.push(`${counted(unfit, "example")} cannot be turned into this network's joints, and do not count.`);
  $("lesson-note").replaceChildren(...said.map((text) => element("p", { textContent: text })));
  $("lesson-note").classList.toggle("ready", Boolean(head));
  $("save-taught").disabled = !head;
  $("kept").textContent = !recordings.list.length ? "" : recordings.isKept ?
    "Kept in this browser until you delete them." :
    "This browser does not keep them: save them before you leave the page.";
}

/** Sentences about what was learned. */
function whatItKnows({ classes, counts, nothing, tried }, actions) {
  const names = actions.filter((action) => action !== NOTHING).join(", ");
  const others = nothing.length ? `, and what is none of them (${counted(nothing.length, "example")})` : "";
  const said = [`Ready: it knows ${names}${others}.`];
  if (!page.shown || page.shown.isDemo) said.push("Try it: use the camera, or open a clip that it has not seen.");
  if (tried.of && classes.length > 1) {
    const confused = tried.confused ? `; it confuses ${tried.confused.join(" and ")} most` : "";
    said.push(`Each example tried on the others: ${tried.right} of ${tried.of} named rightly${confused}.`);
  }
  const single = classes.find((action, k) => counts[k] < 3);
  if (single) said.push(`More examples of ${single} make it surer: three to five are good.`);
  if (!actions.includes(NOTHING)) {
    said.push("Show it “nothing” too, of several kinds, and it errs less: record it, " +
      "or use a clip of none of these as “nothing”.");
  }
  return said;
}
