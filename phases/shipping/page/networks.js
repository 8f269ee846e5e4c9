// The networks of the page: the list to choose from, those of exported files and those that were taught here.
import * as ort from "./lib/ort/ort.wasm.min.mjs";
import { Network, RATE } from "./network.js";
import { $, kilobytes, note, times } from "./screen.js";
import { noAnswer, page, stop } from "./sources.js";

ort.env.wasm.wasmPaths = new URL("lib/ort/", document.baseURI).href;
ort.env.wasm.numThreads = 1; // several need headers that a plain web server does not send
ort.env.logLevel = "error";

const FORMS = { fp32: "FP32", int8: "INT8", w8: "8-bit weights" };

/** What a network is called on the page; its data set first: networks of one recipe differ in it. */
export const titleOf = ({ about }) => `${about.dataset.replaceAll("_", "-")}: ${about.recipe.replaceAll("_", " ")}, ` +
  (FORMS[about.form] ?? about.form);

/** The network of an .onnx file; one that is listed is not opened again. */
export async function addNetwork(name, bytes) {
  const same = page.networks.find((other) => other.bytes.length === bytes.length &&
    other.bytes.every((byte, i) => byte === bytes[i]));
  if (same) return same;
  const network = new Network(name, bytes);
  await network.open(ort);
  page.networks.push(network);
  const { top1 } = network.about;
  list(network, `network-${page.networks.length}`, titleOf(network),
    `${network.classes.length} actions · ${kilobytes(bytes.length)}` +
    (top1 ? ` · top-1 ${Number(top1).toFixed(1)} %` : ""));
  return network;
}

/** Put a network on the list; one that is there already gets the new title. */
export function list(network, id, title, about) {
  const [label, radio, text, detail] = ["label", "input", "span", "small"].map((tag) => document.createElement(tag));
  Object.assign(radio, { type: "radio", name: "network", id });
  radio.addEventListener("change", () => choose(network));
  text.textContent = title;
  detail.textContent = about;
  label.append(radio, text, detail);
  const before = $(id)?.parentElement;
  if (before) before.replaceWith(label);
  else $("networks").append(label);
  network.radio = radio;
}

/** Take a network off the list. */
export function unlist(network) {
  network.radio.parentElement.remove();
  if (page.network === network) choose(network.base);
}

/** Let a network answer. */
export function choose(network) {
  page.network = network;
  network.radio.checked = true;
  times.network.length = 0;
  noAnswer();
  $("knows").textContent = `The ${network.classes.length} actions it knows`;
  $("classes").replaceChildren(...network.classes.map((name) => {
    const item = document.createElement("li");
    item.textContent = name;
    return item;
  }));
  $("ago").textContent = `${(network.window / RATE).toFixed(0)} seconds ago`;
  $("camera").disabled = !network.ofCamera;
  $("estimator").hidden = !network.ofCamera;
  if (!network.ofCamera) {
    stop();
    note(`This network knows the skeleton ${network.skeleton.name}, which a camera's pose cannot be turned into. ` +
      "It can play clips of that skeleton.");
  } else if (page.shown?.again && document.body.dataset.state !== "video") {
    page.shown.again();
  } else {
    page.live?.restart(network);
  }
  page.onChosen?.(network);
}
