"""An exported file in use: it reads clips and names their actions. Needs numpy and onnxruntime, no torch."""
from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from phases.common.files import NETWORKS
from phases.common.limits import FPS, FRAMES, JOINTS, one_line
from phases.recordings.metres import METRES, Recorded
from phases.shipping.reading import JointReader
from skeletons import Skeleton, retarget_tables

FORMAT = "LAST 2"  # of the metadata; files of LAST 1 hold the network alone, without view and answer


# ---------------------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------------------

def model_file(name: str) -> Path:
    """The file that model= means: a path, or the bare name of a network that comes along."""
    path = NETWORKS / f"{name.removesuffix('.onnx')}.onnx"
    is_bare_name = "/" not in name and not Path(name).exists()
    return path if is_bare_name and path.is_file() else Path(name)


def check_exists(path: Path) -> None:
    """ValueError if there is no such file; it lists the networks that come along."""
    if path.is_dir():
        raise ValueError(f"model = {path}: is a folder; give a file in it, such as model.onnx")
    if path.is_file():
        return

    # a bare name may be misspelt
    known = sorted(file.stem for file in NETWORKS.glob("*.onnx"))
    close = difflib.get_close_matches(path.name.lower(), known, n=1)
    hint = "; make one with `just phase4 recipe=...`"
    if close and path.parent == Path():
        hint = f", did you mean {close[0]!r}?"
    raise ValueError(f"model = {path}: no such file{hint} (networks that come along: {', '.join(known)})")


def open_session(model: Path | bytes, weight_only: bool = False) -> onnxruntime.InferenceSession:
    """A session of one thread, the fastest for one clip.

    weight_only: the file holds int8 weights for arithmetic in float. The session converts them once, as it opens.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.disable_quant_qdq", str(int(weight_only)))
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])


# ---------------------------------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------------------------------

def check_joints(lists: list[list[int] | None], count: int) -> None:
    """ValueError unless the lists, the first of them a trunk, hold numbers of `count` joints."""
    if lists[0] is not None and len(lists[0]) != 4:
        raise ValueError(f"a trunk has the joints {lists[0]}")
    if not all(isinstance(joints, list) for joints in lists[1:]):
        raise ValueError("a joint is the mean of no list")
    for joint in (joint for joints in lists for joint in joints or ()):
        if type(joint) is not int or not 0 <= joint < count:
            raise ValueError(f"a skeleton has no joint {joint}")


@dataclass(frozen=True)
class Answer:
    """What a file makes of one clip."""
    probabilities: np.ndarray   # k
    features: np.ndarray        # c
    likeness: float             # to the nearest class: see declining.py


class ExportedModel(JointReader):
    """An exported file: joints (M, L, V, 3) of a clip -> probabilities (K,) of its classes.

    From the metadata:

        skeleton    Skeleton.to_dict(), and its `centre` and `trunk`
        classes     K names
        threshold   the least likeness of a clip that shows one of them
        fps         frames per second of the training clips
        length      median number of their frames
        view        frames, bodies and the other fields of the test view, which is part of the graph
        recorded    how the training clips were recorded
        retarget    skeletons whose joints can be turned into the network's: {name: joints, trunk, means}
        pictures    whether it has learned from clips without depth; one that was taught knows those of its examples
        about       all of it, as text
    """

    def __init__(self, path: Path):
        # open it
        check_exists(path)
        try:
            self.session = open_session(path, weight_only=path.name.endswith(".w8.onnx"))
            self.about = self.session.get_modelmeta().custom_metadata_map
        except Exception as e:  # onnxruntime raises types of its own for damaged files
            why = " ".join(str(e).split())[:120]
            raise ValueError(f"model = {path}: is no ONNX file that can be used ({why})") from None

        # understand it
        found = self.about.get("format", "")
        if found.startswith("LAST ") and found != FORMAT:
            raise ValueError(f"model = {path}: its format is {found!r}, this version reads {FORMAT!r}: export it again "
                             "with `just phase4 recipe=...`")
        if found != FORMAT:
            raise ValueError(f"model = {path}: carries no metadata of this project; export it with "
                             "`just phase4 recipe=...`")
        self.read_metadata(path, self.about)

    def read_metadata(self, path: Path, about: dict[str, str]) -> None:
        """Take the metadata of a file; ValueError if they are damaged, or do not fit the network."""
        try:
            self._take(about)
            self._check_tables()
            self._check_answer()
        except Exception as e:  # a changed file can hold anything in their place
            raise ValueError(f"model = {path}: its metadata are damaged ({type(e).__name__}: {one_line(e)})") from None

    def _take(self, about: dict[str, str]) -> None:
        self.skeleton = json.loads(about["skeleton"])
        self.classes = json.loads(about["classes"])
        self.view = json.loads(about["view"])
        self.threshold = float(json.loads(about["threshold"]))
        self.fps = float(json.loads(about["fps"]))
        self.length = float(json.loads(about["length"]))

        # with skeletons that came to be known after the file was written
        own = Skeleton.from_dict(self.skeleton)
        self.retarget = retarget_tables(own) | json.loads(about.get("retarget", "{}"))

        # a file without `recorded` is from before it was written: metres, y up
        recorded = json.loads(about.get("recorded", "{}"))
        recorded.pop("fill", None)  # of stores made before the view closed every gap
        self.recorded = Recorded(**recorded | {"reference": tuple(recorded.get("reference", ()))})

        # older files tell it by their skeleton, or by the unit of a picture
        seldom_deep = self.skeleton["name"] == "body16" or self.recorded.unit not in METRES
        self.pictures = "taught" in about or bool(json.loads(about.get("pictures", json.dumps(seldom_deep))))

        # left and right shoulder, left and right hip
        corners = self.skeleton["trunk"]
        self.trunk = [joints[0] for joints in corners] if corners else None

    def _check_tables(self) -> None:
        """ValueError, or any other exception, if the metadata do not fit each other or the network's input."""
        V = len(self.skeleton["joints"])

        # the input, and what of the view is told to users
        shape = self.session.get_inputs()[0].shape
        if shape[2:] != [V, 3]:
            raise ValueError(f"the network takes {shape}")
        if self.view["bodies"] not in (1, 2) or self.view["frames"] not in range(1, FRAMES + 1):
            raise ValueError(f"their view is {self.view}")
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}")
        if not (FPS[0] <= self.fps <= FPS[1] and 1 <= self.length <= FRAMES):
            raise ValueError(f"fps is {self.fps}, length {self.length}")
        if not all(isinstance(name, str) for name in (*self.classes, *self.skeleton["joints"], self.skeleton["name"])):
            raise TypeError("a class or a joint has no name")

        # every joint exists that the skeleton names, or the table of another skeleton
        check_joints([self.trunk], V)
        for how in self.retarget.values():
            if not 0 < how["joints"] <= JOINTS or len(how["means"]) != V:
                raise ValueError("a skeleton cannot be turned into this one")
            check_joints([how["trunk"], *how["means"]], how["joints"])

    def _check_answer(self) -> None:
        """Classify a made clip of two frames: ValueError if the answer has not one probability per class."""
        V = len(self.skeleton["joints"])
        joints = np.sin(np.arange(2 * V * 3, dtype=np.float32)).reshape(1, 2, V, 3)  # numpy.random takes 8 ms to load
        p = self(self.in_metres(joints))
        if p.shape != (len(self.classes),):
            raise ValueError(f"the network tells {len(p)} classes apart, they name {len(self.classes)}")

    # --- the answer --------------------------------------------------------------------------------------------------

    def __call__(self, joints: np.ndarray) -> np.ndarray:
        """Probabilities (K,) for joints (M, L, V, 3) in metres, as phase 0 reads them."""
        return self.answer(joints).probabilities

    def answer(self, joints: np.ndarray) -> Answer:
        """The whole answer for joints (M, L, V, 3) in metres; a joint of zeros or NaN is missing."""
        fed = np.ascontiguousarray(joints, np.float32)
        probabilities, features, likeness = self.session.run(list(Answer.__annotations__), {"joints": fed})
        return Answer(probabilities, features, float(likeness))

    def is_known(self, answer: Answer) -> bool:
        """Whether the clip shows one of the classes, as far as its features tell; if not: none of these."""
        return answer.likeness >= self.threshold

    def top(self, joints: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The k most probable classes (label, probability), the most probable first."""
        return self.ranking(self(joints), k)

    def ranking(self, p: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The k largest of probabilities (K,) with their labels, the largest first."""
        order = np.argsort(-p, kind="stable")[:k]
        return [(self.classes[c], float(p[c])) for c in order]
