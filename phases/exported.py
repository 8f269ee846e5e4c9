"""An exported file in use: its session, its metadata, and its view of a clip. It needs numpy and onnxruntime, no torch.
"""
from __future__ import annotations

import difflib
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from arrays import metadata
from clips import main_two
from limits import JOINTS, one_line
from metres import AXES, Recorded, complaints, guess, in_metres, trunk_vector
from readers import of_format, read_clip
from retarget import retargeted

NETWORKS = Path(__file__).resolve().parent.parent / "results" / "networks"


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


def clip_view(joints: np.ndarray, view: dict, skeleton: dict) -> np.ndarray:
    """The test view (view.bodies, T, V, 3) of a clip (any number of bodies, L, V, 3): last.ClipView in numpy."""
    joints = np.asarray(joints, np.float32)[:view["bodies"]]
    seen = joints.any(3)  # m l v
    centre, linear = normalisation(joints[0], seen[0], view, skeleton)
    at = sample_frames(joints.shape[1], view["frames"], view["sampling"])
    x = (smoothed(joints, view.get("smooth", 0))[:, at] - centre) @ linear  # m t v 3
    seen = seen[:, at]  # m t v
    if view["extent"] and seen.any():
        size = np.ptp(x[seen], axis=0).max()
        x = x * np.float32(2 / (size if size > 1e-3 else 2))
    out = np.zeros((view["bodies"], *x.shape[1:]), np.float32)
    out[:len(joints)] = x * seen[..., None]
    return out


def normalisation(body: np.ndarray, seen: np.ndarray, view: dict, skeleton: dict) -> tuple[np.ndarray, np.ndarray]:
    """(centre (3,), linear map (3, 3)) of a clip from its main body (L, V, 3) and the joints seen (L, V).

    In the first frame that shows the body, the centre is the spine, or else the mean of the joints seen. The map turns
    the mean right-to-left axis of shoulders and hips to +x and scales the trunk to 0.5 m, if the view asks for it.
    """
    first = seen.any(1).argmax() if seen.any() else len(seen) - 1
    middle = [v for v in skeleton["centre"] if seen[first, v]] or np.flatnonzero(seen[first])
    centre, linear = body[first, middle].sum(0) / max(1, len(middle)), np.eye(3, dtype=np.float32)
    if not (view["heading"] or view["trunk_scale"]):
        return centre, linear
    four = [joints[0] for joints in skeleton["trunk"]]  # left and right shoulder, left and right hip
    ls, rs, lh, rh = body[:, four].swapaxes(0, 1)  # l 3
    whole = seen[:, four].all(1)  # l
    if view["heading"]:
        across = (ls + lh - rs - rh)[whole].sum(0)
        a = np.arctan2(across[2], across[0])
        linear = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]], np.float32)
    if view["trunk_scale"]:
        size = np.linalg.norm((ls + rs - lh - rh)[first] / 2)
        linear = linear * np.float32(0.5 / (size if size > 1e-3 and whole[first] else 0.5))
    return centre, linear


def sample_frames(length: int, T: int, sampling: str) -> np.ndarray:
    """Frame numbers (T,) of the test view: last.sample_frames without its random part."""
    t = np.arange(T)
    if sampling == "crop":
        return (int((max(length, 300, T) - T + 1) * 0.5) + t) % length
    if sampling == "uniform" and length < T:
        return np.minimum(t, length - 1)
    return ((t + np.float32(0.5)) * np.float32(length) / np.float32(T)).astype(int)


def smoothed(joints: np.ndarray, std: float) -> np.ndarray:
    """Gaussian means of joints (M, L, V, 3) over time, `std` frames wide. Missing joints, zeros, stay missing."""
    if not std:
        return joints
    reach, t = math.ceil(3 * std), np.arange(joints.shape[1])
    there = joints.any(-1, keepdims=True)  # m l v 1; a missing joint has no weight in any mean
    total, weights = np.zeros_like(joints), 0.0
    for offset in range(-reach, reach + 1):
        at = np.clip(t + offset, 0, len(t) - 1)
        weight = np.float32(math.exp(-0.5 * (offset / std) ** 2)) * there[:, at]
        total, weights = total + weight * joints[:, at], weights + weight
    return total / np.maximum(weights, 1e-12) * there
