"""Frames a second of `just page` in a headless browser: the pose estimator, and networks of each form.

    .venv/bin/python tests/bench_page.py               a few minutes -> results/bench-page.json
    .venv/bin/python tests/bench_page.py out=          print only

Networks: LAST-Lite nano and small at T = 64, V = 25, M = 1 with 60 classes, untrained, which costs the same time; view
and network, as the page runs them for every frame, and the same files in Python's ONNX runtime on one thread.
Pose: the photograph that matplotlib ships, filmed at 640 x 480. The browser has no GPU: WebGL is drawn by the CPU.
Times are medians of interleaved calls; a page on a machine with a GPU has a faster pose estimator.
"""
from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from phases import page  # noqa: E402
from phases.common.files import write_json  # noqa: E402
from phases.p4_export import FILES, description  # noqa: E402
from phases.shipping import onnx_files  # noqa: E402
from phases.shipping.deploy import deploy  # noqa: E402
from phases.shipping.exported import ExportedModel  # noqa: E402
from phases.shipping.view_numpy import clip_view  # noqa: E402
from phases.training.networks import build_model  # noqa: E402
from phases.training.recipe import load_config  # noqa: E402
from phases.training.run_folder import commit, device_name  # noqa: E402
from skeletons import SKELETONS, retarget_tables  # noqa: E402
from tests.helpers import browser  # noqa: E402

NETWORKS = {"nano": "lite_nano", "small": "lite_small"}
ROUNDS, PICTURES = 40, 12
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
  for (let i = 0; i < rounds + 5; i++) {
    for (const network of networks) {
      const { ms } = await network.probabilities({ x: Float32Array.from(clip), M: 1, L: 64, V: 25 });
      if (i >= 5) times[network.name].push(ms);
    }
  }
  return times;
})();
"""
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


def export(folder: Path) -> dict[str, Path]:
    """{nano fp32: file, ...}: an untrained network of each size in each form."""
    made, skeleton = {}, SKELETONS["ntu25"]
    for size, recipe in NETWORKS.items():
        torch.manual_seed(0)
        cfg = load_config([f"recipe={recipe}", "data=ntu60", "view.bodies=1"])
        model = build_model(cfg, skeleton, 60).eval()
        clips = np.random.default_rng(0).normal(0, 0.4, (32, 1, 64, 25, 3)).astype(np.float32)
        fp32 = onnx_files.to_onnx(deploy(model, False), torch.from_numpy(clips[:2]), 18)
        about = description(cfg, skeleton, [f"action {k}" for k in range(60)], model, False)
        about["retarget"] = retarget_tables(skeleton)
        forms = {"fp32": fp32, "int8": onnx_files.static_int8(fp32, clips)[0], "w8": onnx_files.weight_only(fp32)}
        for form, graph in forms.items():
            made[f"{size} {form}"] = folder / size / FILES[form]
            onnx_files.save_onnx(graph, made[f"{size} {form}"], about | {"form": form})
    return made


def python_times(files: dict[str, Path], clip: np.ndarray) -> dict[str, float]:
    """Milliseconds of view and network in Python, medians of interleaved calls."""
    models, times = {name: ExportedModel(path) for name, path in files.items()}, {name: [] for name in files}
    for i in range(ROUNDS + 5):
        for name, model in models.items():
            started = time.perf_counter()
            model.session.run(["logits"], {"joints": clip_view(clip, model.view, model.skeleton)[None]})
            if i >= 5:
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(t) for name, t in times.items()}


def measure(folder: Path) -> dict:
    files = export(folder)
    page.write_page(list(files.values()), folder / "page")
    photo = Path(matplotlib.__file__).parent / "mpl-data/sample_data/grace_hopper.jpg"
    Image.open(photo).save(folder / "page" / "photo.jpg")
    names = json.loads((folder / "page" / page.MARK).read_text())["networks"]
    clip = np.random.default_rng(0).normal(0, 0.4, (1, 64, 25, 3)).astype(np.float32)
    recognition, pose = {}, {}
    with page.server(folder / "page", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser.Browser(folder / "profile") as b:
            b.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
            address = f"http://127.0.0.1:{server.server_address[1]}/"
            b.call("POST", "/timeouts", script=300_000)
            b.open(address)
            b.wait("document.body.dataset.state === 'ready'")
            found, python = b.js(RECOGNITION, names, ROUNDS, clip.ravel().tolist()), python_times(files, clip)
            for label, name in zip(files, names, strict=True):
                ms = statistics.median(found[name])
                recognition[label] = {"ms": round(ms, 2), "frames_per_second": round(1000 / ms, 1),
                                      "python_ms": round(python[label], 2), "bytes": files[label].stat().st_size}
            cases = {"fast": (False, False), "accurate": (True, False), "fast, by WebGL": (False, True)}
            for label, (accurate, drawn) in cases.items():
                b.open(address)
                ms = statistics.median(b.js(POSE, accurate, drawn, 4 if drawn else PICTURES))
                pose[label] = {"ms": round(ms, 1), "frames_per_second": round(1000 / ms, 1)}
            agent = b.js("return navigator.userAgent")
        server.shutdown()
    return {"recognition": recognition, "pose": pose, "browser": agent}


def main(argv: list[str]) -> None:
    out = dict(arg.partition("=")[::2] for arg in argv).get("out", "results/bench-page.json")
    missing = browser.installed()
    if missing:
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        report = {"command": " ".join(["tests/bench_page.py", *argv]), **measure(Path(folder))}
    packages = json.loads((page.SOURCE / "package.json").read_text())["dependencies"]
    torch.set_num_threads(1)
    report |= {"packages": packages, "device": device_name(torch.device("cpu")), "commit": commit()}
    for kind in ("recognition", "pose"):
        for label, x in report[kind].items():
            print(f"{kind}, {label}: {x['ms']:g} ms, {x['frames_per_second']:g} frames a second")
    if out:
        write_json(ROOT / out, report)


if __name__ == "__main__":
    main(sys.argv[1:])
