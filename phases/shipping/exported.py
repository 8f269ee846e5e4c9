"""An exported file in use: its session, its metadata, and its view of a clip. It needs numpy and onnxruntime, no torch.
"""
from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from phases.common.files import ROOT
from phases.common.limits import JOINTS, one_line
from phases.recordings.arrays import metadata
from phases.recordings.clips import main_two
from phases.recordings.metres import AXES, Recorded, complaints, guess, in_metres, trunk_vector
from phases.recordings.readers import of_format, read_clip
from phases.shipping.view_numpy import clip_view
from skeletons import retargeted

NETWORKS = ROOT / "results" / "networks"


def named(model: str) -> Path:
    """The file that model= means: a path, or the bare name of a network that comes along."""
    path = NETWORKS / f"{model.removesuffix('.onnx')}.onnx"
    return path if "/" not in model and not Path(model).exists() and path.is_file() else Path(model)


class ExportedModel:
    """An exported file: joints (M, L, V, 3) of a clip -> probabilities (K,) of its classes.

    From the metadata: `skeleton` (Skeleton.to_dict(), `centre` and `trunk`), `classes` (K names), `view`, and how the
    training clips were `recorded`.
    """

    def __init__(self, path: Path):
        if path.is_dir():
            raise ValueError(f"model = {path}: is a folder; give a file in it, such as model.onnx")
        if not path.is_file():
            known = sorted(file.stem for file in NETWORKS.glob("*.onnx"))
            close = difflib.get_close_matches(path.name.lower(), known, n=1)
            hint = f", did you mean {close[0]!r}?" if close and path.parent == Path() else ""
            raise ValueError(f"model = {path}: no such file{hint or '; make one with `just phase4 recipe=...`'} "
                             f"(networks that come along: {', '.join(known)})")
        try:
            self.session = open_session(path, weight_only=path.name.endswith(".w8.onnx"))
            about = self.session.get_modelmeta().custom_metadata_map
        except Exception as e:  # onnxruntime raises types of its own for damaged files
            why = " ".join(str(e).split())[:120]
            raise ValueError(f"model = {path}: is no ONNX file that can be used ({why})") from None
        if about.get("format") != "LAST 1":
            raise ValueError(f"model = {path}: carries no metadata of this project; export it with "
                             "`just phase4 recipe=...`")
        self.about = about
        self.read_metadata(path, about)

    def read_metadata(self, path: Path, about: dict[str, str]) -> None:
        """Take what a file says of itself; ValueError if that is damaged, or does not fit the network."""
        try:
            self._take(about)
            self._try()
        except Exception as e:  # a changed file can hold anything in their place
            raise ValueError(f"model = {path}: its metadata are damaged ({type(e).__name__}: {one_line(e)})") from None

    def _take(self, about: dict[str, str]) -> None:
        self.skeleton, self.classes, self.view = (json.loads(about[k]) for k in ("skeleton", "classes", "view"))
        recorded = json.loads(about.get("recorded", "{}"))  # files from before it was written: metres, y up
        self.recorded = Recorded(**recorded | {"reference": tuple(recorded.get("reference", ()))})
        self.retarget = json.loads(about.get("retarget", "{}"))  # skeletons that can be turned into this one, and how
        self.trunk = [joints[0] for joints in self.skeleton["trunk"]] if self.skeleton["trunk"] else None

    def _try(self) -> None:
        """Classify a made clip of two frames: then metadata and network fit each other."""
        V, shape = len(self.skeleton["joints"]), self.session.get_inputs()[0].shape
        if shape[1:] != [self.view["bodies"], self.view["frames"], V, 3]:
            raise ValueError(f"the network takes {shape}")
        if not 0 <= self.view.get("smooth", 0) <= 100 or self.view["sampling"] not in ("uniform", "crop", "stretch"):
            raise ValueError(f"their view is {self.view}")
        if not all(isinstance(name, str) for name in (*self.classes, *self.skeleton["joints"], self.skeleton["name"])):
            raise TypeError("a class or a joint has no name")
        for how in self.retarget.values():
            if not 0 < how["joints"] <= JOINTS or len(how["means"]) != V:
                raise ValueError("a skeleton cannot be turned into this one")
            trunk_vector(retargeted(np.ones((1, 2, how["joints"], 3), np.float32), how["means"])[0], self.trunk)
            trunk_vector(np.ones((2, how["joints"], 3), np.float32), how["trunk"])
        joints = np.random.default_rng(0).normal(size=(1, 2, V, 3)).astype(np.float32)
        if self(self.in_metres(joints)).shape != (len(self.classes),):
            raise ValueError(f"the network tells {len(self(joints))} classes apart, they name {len(self.classes)}")

    def read(self, path: Path) -> np.ndarray:
        """Joints (M, L, V, 3) of a file in metres, y up, recorded as the training clips were.

        Files of NTU RGB+D and Northwestern-UCLA say what skeleton they show, and are in metres; of others skeleton.json
        beside them may say it. A clip of another skeleton, that one or else the first with as many joints, is turned
        into the network's; this, and what speaks against unit and axis, is said. ValueError if it cannot be.
        """
        mine, V, fixed = self.skeleton["name"], len(self.skeleton["joints"]), of_format(path)
        known = fixed or named_beside(path)
        if known not in (None, mine, *self.retarget):
            raise ValueError(f"{path}: is of skeleton {known!r}, the model knows {mine!r} ({V} joints)")
        people = read_clip(path, Recorded() if fixed else self.recorded,
                           self.skeleton["joints"] if known in (None, mine) else ())
        joints = main_two(people)
        if not joints.any():
            raise ValueError(f"{path}: no body in any frame")
        if not fixed and len(people) > self.view["bodies"]:
            sees = "the first of them" if len(people) == 2 else f"{self.view['bodies']} of the two that move most"
            print(f"{path}: shows {len(people)} people, the network sees {sees}", file=sys.stderr)
        other = known or self.other(joints.shape[2])
        if other in self.retarget:
            return self.turned(joints, other, path, fixed is not None)
        if joints.shape[2] != V:
            raise ValueError(f"{path}: has {joints.shape[2]} joints, the model's skeleton {mine!r} has {V}")
        if fixed is None:
            joints = self.in_metres(joints)
            for line in complaints(trunk_vector(joints[0], self.trunk)[None], self.recorded):
                print(f"{path}: {line.split(': give')[0]}: is it recorded as the training clips were?",
                      file=sys.stderr)
        return joints

    def other(self, V: int) -> str | None:
        """The first skeleton of V joints that can be turned into the network's, unless that has as many itself."""
        fit = (name for name, how in self.retarget.items() if how["joints"] == V != len(self.skeleton["joints"]))
        return next(fit, None)

    def turned(self, joints: np.ndarray, source: str, path: Path, metres: bool) -> np.ndarray:
        """Joints of another skeleton as the network's own, which is said. ValueError if there are more or fewer."""
        if joints.shape[2] != self.retarget[source]["joints"]:
            raise ValueError(f"{path}: has {joints.shape[2]} joints, {source} has {self.retarget[source]['joints']}")
        recorded = Recorded() if metres else self.measured(joints, source)
        how = "" if metres else f" ({recorded.unit}, {recorded.up} up)"
        hint = "" if metres else "; skeleton.json beside it may name another skeleton"
        print(f"{path}: joints of {source}{how} are turned into the network's {self.skeleton['name']}{hint}",
              file=sys.stderr)
        return self.turn(joints, source, recorded)

    def measured(self, joints: np.ndarray, source: str) -> Recorded:
        """Unit and upright axis of another skeleton's joints (M, L, V, 3), by the trunk of the main body."""
        _, unit, up = guess(trunk_vector(joints[0], self.retarget[source]["trunk"])[None])
        unit = unit if joints[..., 2].any() else "px"
        return Recorded(unit or "body", up if up in AXES else "y")

    def turn(self, joints: np.ndarray, source: str, recorded: Recorded) -> np.ndarray:
        """Another skeleton's joints (M, L, W, 3) as recorded -> the network's (M, L, V, 3) in metres, y up."""
        how = self.retarget[source]
        return retargeted(in_metres(joints, recorded, how["trunk"]), how["means"])

    def in_metres(self, joints: np.ndarray) -> np.ndarray:
        """Joints (M, L, V, 3), recorded as the training clips were, in metres, y up."""
        return in_metres(joints, self.recorded, self.trunk)

    def __call__(self, joints: np.ndarray) -> np.ndarray:
        """Probabilities (K,) for joints (M, L, V, 3) in metres, as phase 0 reads them."""
        seen = clip_view(joints, self.view, self.skeleton)  # m t v 3
        logits = self.session.run(["logits"], {"joints": seen[None]})[0][0]
        p = np.exp(logits - logits.max())
        return p / p.sum()

    def top(self, joints: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The k most probable classes (label, probability), the most probable first."""
        p = self(joints)
        return [(self.classes[c], float(p[c])) for c in np.argsort(-p, kind="stable")[:k]]


def named_beside(path: Path) -> str | None:
    """The skeleton that skeleton.json beside a file names, if there is one."""
    found = metadata(path.parent).get("skeleton") if (path.parent / "skeleton.json").is_file() else None
    return found.get("name", "own") if isinstance(found, dict) else found


def open_session(model: Path | bytes, weight_only: bool = False) -> onnxruntime.InferenceSession:
    """A session of one thread, the fastest for one clip.

    weight_only: the file holds int8 weights for arithmetic in float. The session converts them once, as it opens.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.disable_quant_qdq", str(int(weight_only)))
    return onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options,
                                        ["CPUExecutionProvider"])
