"""One example of each new action: the one-shot protocol of NTU-120, and that of SL-DML on UTD-MHAD.

    just phase0 recipe=ntu120 raw=FOLDER
    just phase1 recipe=lite_small data=ntu120 data.split=all data.unknown=$(python -m tests.tools.one_shot novel=ntu120)
    just phase4 recipe=lite_small data=ntu120 data.split=all data.unknown=...                       the same
    python -m tests.tools.one_shot model=exports/ntu120/lite_small/model.onnx data=ntu120

The network is trained on all clips of the auxiliary classes and has not seen the novel ones. Of each of these one clip,
the exemplar, is known; every other clip of them is named by the exemplar with the largest cosine of the features. A
general network, of `just pool`, is judged as well, if the data set was kept from it.

In: an exported file; the clip store of data=. Out: a row in results/one-shot.json.
Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx

from phases.common.command import run
from phases.common.files import ROOT, read_json, write_json
from phases.common.progress import progress_bar
from phases.common.protocols import ONE_SHOT
from phases.recordings.clips import main_bodies
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.taught import feature_scale
from phases.shipping.teaching import directions
from phases.training.clip_store import ClipStore, clip_joints
from skeletons import means, retargeted
from tests.tools.few_shot import find, origin


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a file of `just phase4`"] = ""
    data: Annotated[str, "ntu120 or utd_mhad"] = "ntu120"
    stores: Annotated[Path, "of phase 0"] = Path("stores")
    novel: Annotated[str, "print the novel classes of a data set, for data.unknown, and do nothing else"] = ""
    out: Annotated[Path, "the results"] = ROOT / "results" / "one-shot.json"


def main(options: Options) -> int:
    data = options.novel or options.data
    if data not in ONE_SHOT:
        raise ValueError(f"data = {data!r}: has no one-shot protocol here; {', '.join(ONE_SHOT)} have")
    exemplars = ONE_SHOT[data]
    if options.novel:
        print(",".join(map(str, exemplars)))
        return 0

    path = model_file(options.model)
    model = ExportedModel(path)
    store = ClipStore(options.stores / data)
    check_unseen(model, path, data, [store.classes[k] for k in exemplars])
    top1, tested = judged(model, feature_scale(onnx.load(path), path), store, exemplars)
    print(f"{data}: {len(exemplars)} novel classes, {tested} clips named by one exemplar of each: {top1:.1f} % rightly")

    # the row
    done = read_json(options.out) if options.out.exists() else {"rows": []}
    key = {"data": data, "network": model.about["recipe"], "trained on": model.about["dataset"]}
    rows = [row for row in done["rows"] if not find({"rows": [row]}, key)]
    row = key | {"classes": len(exemplars), "tested": tested, "top1": round(top1, 2), **origin()}
    write_json(options.out, done | {"rows": [*rows, row]})
    return 0


def check_unseen(model: ExportedModel, path: Path, data: str, novel: list[str]) -> None:
    """ValueError if the network was trained on a novel class."""
    unknown = json.loads(model.about.get("unknown", "[]"))
    trained = {name for k, name in enumerate(model.classes) if k not in unknown}
    before = "" if model.about["dataset"] == data else f"{data}: "     # the names of a pool's classes
    seen = [name for name in novel if before + name in trained]
    if seen:
        raise ValueError(f"model = {path}: was trained on the novel class {seen[0]!r}: keep the classes "
                         f"{','.join(map(str, ONE_SHOT[data]))} of {data} from it, by data.unknown=")


def judged(model: ExportedModel, scale: np.ndarray, store: ClipStore, exemplars: dict[int, str]) -> tuple[float, int]:
    """(percent of the novel classes' clips that are named rightly by the nearest exemplar, their number).

    ValueError for an exemplar that the store lacks.
    """
    names = store.clips["name"].tolist()
    lacking = [name for name in exemplars.values() if name not in names]
    if lacking:
        raise ValueError(f"{store.path}: lacks the exemplar {lacking[0]}")
    places = np.flatnonzero(np.isin(store.clips["label"], list(exemplars)))

    # as the file sees them: in its joints, where they are others the main body alone
    table = None
    if model.skeleton["joints"] != list(store.skeleton.joints):
        table = means(store.skeleton.joints, model.skeleton["joints"])
    features = []
    with progress_bar(len(places), 0, store.path.name, "clip") as bar:
        for i in places:
            people = clip_joints(store, i)
            clip = people if table is None else retargeted(people[main_bodies(people)[:1]], table)
            features.append(model.answer(clip).features)
            bar.update()

    # the nearest
    u = directions(np.stack(features), scale)
    known = np.isin(np.array(names)[places], list(exemplars.values()))
    labels = store.clips["label"][places]
    named = labels[known][(u[~known] @ u[known].T).argmax(1)]
    return 100 * float((named == labels[~known]).mean()), int((~known).sum())


if __name__ == "__main__":
    run(main, Options)
