"""The study behind `just adopt`: which schedule and view suit 100 to 1,000 clips. A finished training is not repeated.

    python tests/small_sets.py                              every variant, into results/small-sets.json
    python tests/small_sets.py variants=adopt,half          some of them, in this order
    python tests/small_sets.py sets=utd,irds work=FOLDER    FOLDER keeps stores and runs, else runs/small-sets

LAST-Lite nano with the recipe that adopt writes, cross-validated: UTD-MHAD's persons 1, 3, 5, 7 in two halves,
IRDS by each of three persons, Northwestern-UCLA's camera 1 against camera 2 and back; `rare` is UTD-MHAD with two
training clips, not eight, of every second class. The test sides of UTD-MHAD and Northwestern-UCLA take no part. Needs
the recordings (LAST_TEST_DATA, or ../shared/data).
"""
from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from phases.adopt import BATCH, STEPS, recipe_text  # noqa: E402
from phases.common.files import atomic  # noqa: E402
from phases.common.protocols import NW_UCLA_CLASSES  # noqa: E402
from phases.common.settings_cli import cli  # noqa: E402
from phases.recordings.nw_ucla import read_nw_ucla  # noqa: E402
from phases.recordings.survey import look  # noqa: E402

DATA = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared/data")
OUT = ROOT / "results" / "small-sets.json"
FOLDS = {  # set: rules that make a person or a camera test
    "utd": [{"field": "subject", "train": [1, 3], "test": [5, 7]},
            {"field": "subject", "train": [5, 7], "test": [1, 3]}],
    "irds": [{"field": "subject", "train": [215, 216, 217][:k] + [215, 216, 217][k + 1:], "test": [215 + k]}
             for k in range(3)],
    "ucla": [{"field": "camera", "train": [1], "test": [2]}, {"field": "camera", "train": [2], "test": [1]}],
    "rare": [{"field": "subject", "train": [1, 3], "test": [5, 7]}]}
VARIANTS = {  # name: (share of adopt's steps, words that change its recipe)
    "adopt": (1.0, []),
    "half": (0.5, []),
    "double": (2.0, []),
    "half_mirrored": (0.5, ["view.flip=0.5"]),
    "half_swa": (0.5, ["train.average=swa", "train.swa_start=0.7"]),
    "half_mix": (0.5, ["view.mix=0.5"]),
    "half_balanced": (0.5, ["train.balanced=true"]),
    "half_batch32": (0.5, ["train.batch=32"]),
    "half_turned": (0.5, ["view.heading=true"]),
    "half_smooth": (0.5, ["view.smooth=1.0"]),
    "half_plain_view": (0.5, ["view.trunk_scale=false", "view.heading=false", "view.window=1.0", "view.flip=0"]),
}


def recordings(name: str, work: Path) -> Path:
    """The packed array of a set; Northwestern-UCLA and the rare classes are packed first."""
    if name in ("utd", "irds"):
        return DATA / {"utd": "utd-mhad.npz", "irds": "irds.npz"}[name]
    path = work / f"{name}.npz"
    if name == "rare" and not path.exists():
        shutil.copy(DATA / "utd-mhad.json", path.with_suffix(".json"))
        with np.load(DATA / "utd-mhad.npz") as z, atomic(path) as part, open(part, "wb") as f:
            at, label, subject = z["offsets"], z["labels"], z["subject"]
            keep = np.isin(subject, [5, 7])
            for k in np.unique(label):
                own = np.flatnonzero((label == k) & np.isin(subject, [1, 3]))
                keep[own[::4] if k % 2 else own] = True
            rows = np.concatenate([np.arange(at[i], at[i + 1]) for i in np.flatnonzero(keep)])
            np.savez(f, data=z["data"][rows], offsets=np.cumsum([0, *np.diff(at)[keep]]),
                     **{key: z[key][keep] for key in ("names", "labels", "subject")})
    elif not path.exists():
        clips = list(read_nw_ucla(DATA / "nw-ucla.tar.xz", None))
        clips = [c for c in clips if c.camera < 3]
        lengths = [c.joints.shape[1] for c in clips]
        path.with_suffix(".json").write_text(json.dumps({"skeleton": "kinect20", "classes": NW_UCLA_CLASSES}))
        with atomic(path) as part, open(part, "wb") as f:
            np.savez(f, data=np.concatenate([c.joints[0] for c in clips]), offsets=np.cumsum([0, *lengths]),
                     names=[c.name for c in clips], labels=[c.label for c in clips],
                     subject=[c.subject for c in clips], camera=[c.camera for c in clips])
    return path


def adopted(name: str, work: Path) -> Path:
    """The recipe that adopt writes for a set, and its store with a protocol for each fold."""
    raw, recipe = recordings(name, work), work / f"{name}.toml"
    if not (work / "stores" / name / "meta.json").exists():
        recipe.write_text(recipe_text(name, raw, look(raw, "")))
        folds = [f"data.protocols.fold{k}={toml(rule)}" for k, rule in enumerate(FOLDS[name])]
        subprocess.run([sys.executable, "-m", "phases.p0_preprocess", f"recipe={recipe}",
                        f"data.store={work / 'stores' / name}", *folds], check=False, stdout=subprocess.DEVNULL)
    return recipe


def toml(rule: dict) -> str:
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in rule.items()) + " }"


def trained(name: str, fold: int, variant: str, recipe: Path, work: Path) -> dict:
    """The result of one training: its command, commit, device and top-1 on the fold's other side."""
    share, words = VARIANTS[variant]
    with np.load(work / "stores" / name / "clips.npz") as clips:
        rule = FOLDS[name][fold]
        number = int(np.isin(clips[rule["field"]], rule["train"]).sum())
    batch = next((int(word[12:]) for word in words if word.startswith("train.batch=")), BATCH)
    epochs = max(1, round(share * STEPS * BATCH / batch / math.ceil(number / batch)))
    command = [f"recipe={ROOT / 'recipes/lite_nano.toml'}", f"data={recipe}", f"data.store={work / 'stores' / name}",
               f"data.split=fold{fold}", f"train.epochs={epochs}", *words, f"out={work / variant}"]
    folder = work / variant / "lite_nano" / f"{name}-fold{fold}" / "seed0"
    if not (folder / "result.json").exists():
        subprocess.run([sys.executable, "-m", "phases.p1_train", *command], check=True)
    result = json.loads((folder / "result.json").read_text())
    return {"set": name, "fold": fold, "variant": variant, "clips": number, "steps": epochs * math.ceil(number / batch),
            "changed": words, **{k: result[k] for k in ("top1", "commit", "device", "seed")}}


def main(argv: list[str]) -> int:
    given = {"variants": ",".join(VARIANTS), "sets": ",".join(FOLDS), "work": str(ROOT / "runs/small-sets")}
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or key not in given:
            raise ValueError(f"argument {arg!r}: unknown (known: {', '.join(given)})")
        given[key] = value
    for key, known in (("variants", VARIANTS), ("sets", FOLDS)):
        for word in given[key].split(","):
            if word not in known:
                raise ValueError(f"{key} = {word!r}: unknown (known: {', '.join(known)})")
    if not DATA.is_dir():
        raise ValueError(f"{DATA}: no such folder; LAST_TEST_DATA names the recordings")
    work = Path(given["work"]).absolute()
    work.mkdir(parents=True, exist_ok=True)
    rows = json.loads(OUT.read_text())["trainings"] if OUT.exists() else []
    for variant in given["variants"].split(","):
        for name in given["sets"].split(","):
            recipe = adopted(name, work)
            for fold in range(len(FOLDS[name])):
                row = trained(name, fold, variant, recipe, work)
                key = ("set", "fold", "variant")
                rows = [r for r in rows if any(r[k] != row[k] for k in key)] + [row]
                with atomic(OUT) as part:
                    part.write_text(json.dumps({"command": "python tests/small_sets.py", "network": "lite_nano",
                                                "trainings": rows}, indent=1) + "\n")
                print(f"{variant} {name} fold {fold}: {row['steps']} steps, {row['top1']:.1f}", flush=True)
    return 0


if __name__ == "__main__":
    cli(main)
