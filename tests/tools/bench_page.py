"""Frames a second of `just page` in a headless browser: the pose estimator, and networks of each form.

    python -m tests.tools.bench_page               a few minutes -> results/bench-page.json
    python -m tests.tools.bench_page out=          print only

Networks: LAST-Lite nano and small at T = 64, V = 25, M = 1 with 60 classes, untrained, which costs the same time; whole
files, with view and answer, as the page runs them for every frame, and the same in Python on one thread. `view_ms` is
what the whole nano takes longer than its network alone: view and answer, in the browser and in Python.
Pose: the photograph that matplotlib ships, filmed at 640 x 480. The browser has no GPU: WebGL is drawn by the CPU.
Times are medians of interleaved calls; a page on a machine with a GPU has a faster pose estimator.
"""
from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch loads

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from phases.common.command import run, words  # noqa: E402
from phases.common.files import ROOT, write_json  # noqa: E402
from phases.shipping.declining import Declining  # noqa: E402
from phases.shipping.deploy import deploy  # noqa: E402
from phases.shipping.exported import ExportedModel, open_session  # noqa: E402
from phases.shipping.onnx_edit import save_onnx  # noqa: E402
from phases.shipping.onnx_files import FILES, description  # noqa: E402
from phases.shipping.serve import server  # noqa: E402
from phases.shipping.web_page import MARK, SOURCE, write_page  # noqa: E402
from phases.shipping.whole import graphs_of  # noqa: E402
from phases.training.inference_view import InferenceView  # noqa: E402
from phases.training.networks import build_model  # noqa: E402
from phases.training.recipe import load_config  # noqa: E402
from phases.training.run_folder import commit, device_name  # noqa: E402
from skeletons import SKELETONS, retarget_tables  # noqa: E402
from tests.helpers.browser import Browser, installed  # noqa: E402

ALONE = "network.onnx"  # a network without view and answer
NETWORKS = {"nano": "lite_nano", "small": "lite_small"}
ROUNDS, PICTURES, WARM = 40, 12, 5
POSES = {"fast": (False, False), "accurate": (True, False), "fast, by WebGL": (False, True)}  # accurate, on the GPU
RECOGNITION = """
const [names, rounds, clip] = arguments;
return (async () => {
  const ort = await import(document.baseURI + "lib/ort/ort.wasm.min.mjs");
  const { Network } = await import(document.baseURI + "network.js"), networks = [], times = {};
  for (const name of names) {
    const bytes = new Uint8Array(await (await fetch("networks/" + name)).arrayBuffer());
    networks.push(new Network(name, bytes));
    await networks.at(-1).open(ort);
    times[name] = [];
  }
  const file = new Uint8Array(await (await fetch("ALONE")).arrayBuffer());
  const alone = await ort.InferenceSession.create(file, { executionProviders: ["wasm"] });
  const viewed = new ort.Tensor("float32", Float32Array.from(clip), [1, 1, 64, 25, 3]);
  times.alone = [];
  for (let i = 0; i < rounds + 5; i++) {
    for (const network of networks) {
      const { ms } = await network.answer({ x: Float32Array.from(clip), M: 1, L: 64, V: 25 });
      if (i >= 5) times[network.name].push(ms);
    }
    const started = performance.now();
    await alone.run({ joints: viewed }, ["logits"]);
    if (i >= 5) times.alone.push(performance.now() - started);
  }
  return times;
})();
""".replace("ALONE", ALONE)
POSE = """
const [accurate, onGpu, pictures] = arguments;
return (async () => {
  const { PoseEstimator } = await import(document.baseURI + "pose.js"), estimator = new PoseEstimator();
  await estimator.open(accurate);
  if (onGpu) estimator.pose.setOptions({ useCpuInference: false });
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const picture = new Image();
  picture.src = "photo.jpg";
  await picture.decode();
  const times = [];
  for (let i = 0; i < pictures + 2; i++) {
    canvas.getContext("2d").drawImage(picture, 115 + i % 5, 0, 410, 480);
    const { ms, image } = await estimator.look(canvas, 640, 480);
    if (!image) throw new Error("no body found");
    if (i > 1) times.push(ms);
  }
  return times;
})();
"""


@dataclass(frozen=True)
class Options:
    out: Annotated[str, "the report; empty: none"] = "results/bench-page.json"


def export(folder: Path) -> dict[str, Path]:
    """{nano fp32: file, ...}: an untrained network of each size in each form."""
    skeleton = SKELETONS["ntu25"]
    made = {}
    for size, recipe in NETWORKS.items():
        torch.manual_seed(0)
        cfg = load_config([f"recipe={recipe}", "data=ntu60", "view.bodies=1"])
        model = build_model(cfg, skeleton, 60).eval()

        # INT8 is calibrated with random clips
        clips = np.random.default_rng(0).normal(0, 0.4, (32, 1, 64, 25, 3)).astype(np.float32)
        view = InferenceView(cfg.view, skeleton, torch.from_numpy(clips[0, 0, 0])).eval()
        C = len(model.head.gate)
        declining = Declining(np.ones(C, np.float32), np.zeros((60, C), np.float32), 1.0, -1.0)
        graphs = graphs_of(deploy(model, False), view, declining, clips, 18)

        # what the page reads beside the network
        about = description(cfg, skeleton, [f"action {k}" for k in range(60)], model, False, 64)
        about |= {"retarget": retarget_tables(skeleton), "threshold": -1.0}
        for form, graph in graphs.wholes.items():
            made[f"{size} {form}"] = folder / size / FILES[form]
            save_onnx(graph, made[f"{size} {form}"], about | {"form": form})
        onnx.save(graphs.networks["fp32"], folder / size / ALONE)
    return made


def python_times(files: dict[str, Path], clip: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds of the whole files in Python, and of the nano network `alone`, in interleaved calls."""
    calls = {name: partial(ExportedModel(path), clip) for name, path in files.items()}
    alone = open_session(files["nano fp32"].parent / ALONE)
    calls["alone"] = partial(alone.run, ["logits"], {"joints": clip[None]})

    times = {name: [] for name in calls}
    for i in range(ROUNDS + WARM):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if i >= WARM:
                times[name].append(1000 * (time.perf_counter() - started))
    return times


def recognition_times(browser: Browser, folder: Path, files: dict[str, Path]) -> tuple[dict[str, dict], dict]:
    """({network and form: times and size}, in the browser beside Python; {place: milliseconds of view and answer})."""
    # the same clip here and there
    names = json.loads((folder / "page" / MARK).read_text())["networks"]
    clip = np.random.default_rng(0).normal(0, 0.4, (1, 64, 25, 3)).astype(np.float32)
    there = browser.js(RECOGNITION, names, ROUNDS, clip.ravel().tolist())
    here = python_times(files, clip)

    found = {}
    for label, name in zip(files, names, strict=True):
        ms = statistics.median(there[name])
        found[label] = {"ms": round(ms, 2), "frames_per_second": round(1000 / ms, 1),
                        "python_ms": round(statistics.median(here[label]), 2), "bytes": files[label].stat().st_size}

    # of the shortest calls: a difference of medians is noise on a busy machine
    whole = dict(zip(files, names, strict=True))["nano fp32"]
    view = {"browser": min(there[whole]) - min(there["alone"]), "Python": min(here["nano fp32"]) - min(here["alone"])}
    return found, {place: round(ms, 2) for place, ms in view.items()}


def pose_times(browser: Browser, address: str) -> dict[str, dict]:
    """{kind of estimator: times}, each on a page of its own."""
    found = {}
    for label, (accurate, drawn) in POSES.items():
        browser.open(address)
        ms = statistics.median(browser.js(POSE, accurate, drawn, 4 if drawn else PICTURES))
        found[label] = {"ms": round(ms, 1), "frames_per_second": round(1000 / ms, 1)}
    return found


def measure(folder: Path) -> dict:
    """{recognition, view_ms, pose, browser}, from a page that is made in the folder and served."""
    # a page with the networks and a photograph
    files = export(folder)
    write_page(list(files.values()), folder / "page")
    shutil.copyfile(files["nano fp32"].parent / ALONE, folder / "page" / ALONE)
    photo = Path(matplotlib.__file__).parent / "mpl-data/sample_data/grace_hopper.jpg"
    Image.open(photo).save(folder / "page" / "photo.jpg")

    # a browser without animations, in which a slow estimator may take its time
    with server(folder / "page", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{serving.server_address[1]}/"
        with Browser(folder / "profile") as browser:
            browser.devtools("Emulation.setEmulatedMedia",
                             features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
            browser.call("POST", "/timeouts", script=300_000)
            browser.open(address)
            browser.wait("document.body.dataset.state === 'ready'")
            recognition, view = recognition_times(browser, folder, files)
            pose = pose_times(browser, address)
            agent = browser.js("return navigator.userAgent")
        serving.shutdown()
    return {"recognition": recognition, "view_ms": view, "pose": pose, "browser": agent}


def main(options: Options) -> None:
    missing = installed()
    if missing:
        raise ValueError(missing)

    # measured in a folder that goes away
    command = " ".join(["python -m tests.tools.bench_page", *words(options)])
    with tempfile.TemporaryDirectory() as folder:
        report = {"command": command, **measure(Path(folder))}
    for kind in ("recognition", "pose"):
        for label, x in report[kind].items():
            print(f"{kind}, {label}: {x['ms']:g} ms, {x['frames_per_second']:g} frames a second")
    for place, ms in report["view_ms"].items():
        print(f"view and answer, {place}: {ms:g} ms")

    if options.out:
        torch.set_num_threads(1)
        packages = json.loads((SOURCE / "package.json").read_text())["dependencies"]
        report |= {"packages": packages, "device": device_name(torch.device("cpu")), "commit": commit()}
        write_json(ROOT / options.out, report)


if __name__ == "__main__":
    run(main, Options, interrupted="")
