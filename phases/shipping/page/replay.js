// An example as a moving figure: one that waits to be kept or discarded, above the list; or one that is kept, under its
// row.
import { Unreadable } from "./clip.js";
import { clipFrame } from "./draw.js";
import { thumbOf } from "./lessons.js";
import { RATE } from "./network.js";
import { $ } from "./screen.js";

export const replayed = { example: null, isPending: false, source: "" }; // example: null while none is shown

const titleOf = ({ action, clip }) => `${action}, ${(clip.L / RATE).toFixed(1)} s`;

/**
 * Show an example in a network's joints; isPending: it is to be kept or discarded; source: the file or the clip that it
 * is from, "" for a recording. null: none.
 */
export function look(example, network, isPending = false, source = "") {
  const thumb = example && !isPending ? thumbOf(example) : null, before = thumb?.getBoundingClientRect().top;
  Object.assign(replayed, { example, isPending, source });
  $("replay").hidden = !example;
  placeReplay();
  if (thumb) scrollBy(0, thumb.getBoundingClientRect().top - before); // it stays under the cursor
  if (!example) return;
  $("keep").textContent = isPending ? "Keep" : "Close";
  $("discard").textContent = isPending ? "Discard" : "Delete it";
  $("replay-title").textContent = `${source && `${source} as `}${titleOf(example)}${isPending ? ": is it good?" : ""}`;
  $("figure").setAttribute("aria-label", `A figure that does ${example.action}`);
  $("replay").scrollIntoView({ block: "nearest" });
  if (isPending) $("keep").focus();
  animate(example, network);
}

/** Put the figure under the row of its example, which is marked; one that waits, or none, above the list. */
export function placeReplay() {
  const { example, isPending } = replayed, thumb = example && !isPending ? thumbOf(example) : null;
  document.querySelector(".thumb[aria-current]")?.removeAttribute("aria-current");
  thumb?.setAttribute("aria-current", "true");
  if (thumb) thumb.closest("#lessons > li").append($("replay"));
  else $("lesson-note").before($("replay"));
}

/** An example that waits is kept or discarded before another takes its place. */
export function needNonePending() {
  const { example, isPending } = replayed;
  if (!isPending) return;
  $("keep").focus();
  throw new Unreadable(`Keep or discard ${titleOf(example)}, first.`);
}

function animate(example, network) {
  const clip = network.fitted(example), { skeleton } = network, started = performance.now();
  const isOnce = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const paint = (now) => {
    if (replayed.example !== example || !clip) return;
    const frame = Math.floor((Math.max(0, now - started) * RATE) / 1000);
    clipFrame($("figure"), clip, isOnce ? Math.min(frame, clip.L - 1) : frame % clip.L, skeleton);
    if (!isOnce || frame < clip.L) requestAnimationFrame(paint);
  };
  requestAnimationFrame(paint);
}
