"""An exported file in use: it reads clips and names their actions. Needs numpy and onnxruntime, no torch."""
from __future__ import annotations

import difflib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime

from phases.common.files import NETWORKS
from phases.common.limits import FPS, FRAMES, JOINTS, one_line
from phases.recordings.clips import main_bodies
from phases.recordings.described import (
    PICTURE,
    Described,
    described,
    guessed_recorded,
    guessed_skeleton,
    has_score,
    without_score,
)
from phases.recordings.metres import METRES, Recorded, complaints, in_metres, trunk_vector
from phases.recordings.readers import read_clip
from skeletons import SKELETONS, Skeleton, retarget_tables, retargeted, spelled

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
    likeness: float             # cosine of the features to the nearest class


class ExportedModel:
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
        self.retarget = json.loads(about.get("retarget", "{}"))

        # a file without `recorded` is from before it was written: metres, y up
        recorded = json.loads(about.get("recorded", "{}"))
        recorded.pop("fill", None)  # of stores made before the view closed every gap
        self.recorded = Recorded(**recorded | {"reference": tuple(recorded.get("reference", ()))})

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

    # --- reading a clip ----------------------------------------------------------------------------------------------

    def read(self, path: Path) -> np.ndarray:
        """Joints (M, L, V, 3) of a file in metres, y up, recorded as the training clips were.

        described.py decides what the file is. A clip of another skeleton is turned into the network's; its joints
        decide, not its title. Standard error reports it, and any sign of another unit or upright axis. ValueError for
        a file that cannot be used.
        """
        return self.read_recorded(path)[0]

    def read_recorded(self, path: Path) -> tuple[np.ndarray, Recorded]:
        """What `read` gives, and how the file was recorded."""
        own = self.skeleton["name"]

        # whose joints they are, if the format or skeleton.json tells
        found = described(path, self.skeleton["joints"])
        known = self._known(path, found)

        # the people in it; a third number that may be a score is kept until it is known whose joints they are
        names = self.skeleton["joints"] if known in (None, own) else found.joints
        people = read_clip(path, replace(self.recorded, channels="xyz"), names)
        if not people.any():
            raise ValueError(f"{path}: no body in any frame")
        source, is_guess = self._source(path, found, people)
        if source == own and self.recorded.channels == "xys" and not found.recorded:
            people = read_clip(path, self.recorded, names)
        is_scored = found.recorded is None and has_score(people)
        people = without_score(people, self.recorded.min_score) if is_scored else people
        is_chosen = found.recorded == Recorded() and path.suffix.lower() != ".json"  # its reader has chosen the bodies
        main = list(range(len(people))) if is_chosen else main_bodies(people)
        joints = people[main]
        if not joints.any():
            raise ValueError(f"{path}: no body in any frame")
        self._report_people(path, len(people), main)

        # in the network's joints and in metres
        recorded = self._recorded(found, source, joints, is_scored)
        if source != own:
            self._report_turned(path, source, recorded, found, is_guess)
            return self.from_skeleton(joints, source, recorded), recorded
        if is_scored:
            print(f"{path}: the third number of a joint is a score: read as pixels, {recorded.up} up", file=sys.stderr)
        joints = in_metres(joints, recorded, self.trunk)
        if recorded == self.recorded and not found.recorded:
            self._report_trunk(path, joints)
        return joints, recorded

    def _known(self, path: Path, found: Described, count: int = 0) -> str | None:
        """A described skeleton as this model calls it, None without one; of `count` joints, if it is known.

        One whose joints have the network's names is the network's own, whatever its title. A table that `retarget`
        lacks is made of the names. ValueError for a skeleton that cannot be turned into the network's.
        """
        own = Skeleton.from_dict(self.skeleton)
        theirs = found.body(count)
        name = theirs.name if theirs else found.name
        if theirs and list(map(spelled, theirs.joints)) == list(map(spelled, own.joints)):
            return own.name

        # another skeleton may have the network's title, or a known one's
        if theirs:
            usual = own if name == own.name else SKELETONS.get(name, theirs)
            name = name if usual.joints == theirs.joints else f"{name} of other joints"
        if theirs and not (name in self.retarget and name in SKELETONS):
            others = {title: how for title, how in self.retarget.items() if title != name}
            self.retarget = others | retarget_tables(own, [replace(theirs, name=name)])
        if name not in (None, own.name, *self.retarget):
            V = len(own.joints)
            raise ValueError(f"{path}: is of skeleton {name!r}, the model knows {own.name!r} ({V} joints)")
        return name

    def _source(self, path: Path, found: Described, people: np.ndarray) -> tuple[str, bool]:
        """The skeleton of a file's joints, the network's own or one that can be turned into it; whether it is a guess.

        ValueError if it is neither, or has more or fewer joints than the file.
        """
        own = self.skeleton["name"]
        V = len(self.skeleton["joints"])
        count = people.shape[2]

        # one that is known, or the network's own
        known = self._known(path, found, count)
        if known in self.retarget and self.retarget[known]["joints"] != count:
            raise ValueError(f"{path}: has {count} joints, {known} has {self.retarget[known]['joints']}")
        if known in self.retarget or known is None and found.likely(count) in self.retarget:
            return known or found.likely(count), False
        if count == V:
            return own, False

        # a guess
        source = None if known else self.other_skeleton(people, path)
        if source is None:
            raise ValueError(f"{path}: has {count} joints, the model's skeleton {own!r} has {V}")
        return source, True

    def _recorded(self, found: Described, source: str, joints: np.ndarray, is_scored: bool) -> Recorded:
        """How a file was recorded: by its format, else as the training clips, else a guess that the user can check."""
        is_picture = is_scored or found.recorded == PICTURE and not joints[..., 2].any()
        if found.recorded and not found.key_points:
            return found.recorded

        # another skeleton's
        if source != self.skeleton["name"]:
            return found.recorded if is_picture and not is_scored else self.guess_recorded(joints, source)

        # the network's own: pixels are not metres, whatever the training clips were
        if is_picture and self.recorded.unit in METRES:
            up = guessed_recorded(joints, self.trunk).up if is_scored else PICTURE.up
            return replace(self.recorded, unit=PICTURE.unit, up=up, reference=())
        return self.recorded

    def _report_people(self, path: Path, people: int, main: list[int]) -> None:
        """Standard error: more people than the network sees, and which of them it sees."""
        bodies = self.view["bodies"]
        if people > bodies:
            seen = " and ".join(f"number {m + 1}" for m in main[:bodies])
            print(f"{path}: shows {people} people, the network sees {bodies}: {seen} in the order of the file, the "
                  "most active", file=sys.stderr)

    def _report_trunk(self, path: Path, joints: np.ndarray) -> None:
        """Standard error: a trunk whose length or direction speaks against the unit or the axis."""
        trunk = trunk_vector(joints[0], self.trunk)
        for line in complaints(trunk[None], self.recorded):
            print(f"{path}: {line.split(': give')[0]}: is it recorded as the training clips were?", file=sys.stderr)

    def _report_turned(self, path: Path, source: str, recorded: Recorded, found: Described, is_guess: bool) -> None:
        """Standard error: joints of another skeleton, and what of it is a guess that skeleton.json can correct."""
        how = "" if found.recorded and not found.key_points else f" ({recorded.unit}, {recorded.up} up)"
        alike = [s.name for s in SKELETONS.values() if s.num_joints == self.retarget[source]["joints"]]
        hint = "" if found.recorded or found.name else "; skeleton.json beside it may name another skeleton"
        if is_guess and len(alike) > 1:
            hint = f", by the lengths of their bones{hint} ({', '.join(alike)})"
        print(f"{path}: joints of {source}{how} are turned into the network's {self.skeleton['name']}{hint}",
              file=sys.stderr)

    # --- joints as the network takes them ----------------------------------------------------------------------------

    def other_skeleton(self, joints: np.ndarray, path: Path | None = None) -> str | None:
        """The skeleton of joints (M, L, W, 3) that can be turned into the network's, unless that has as many.

        Of several skeletons with W joints it is a guess. If it cannot be turned, that is a ValueError for a file; a
        stream's few frames show no more than which of the others is likeliest.
        """
        count = joints.shape[2]
        able = [name for name, how in self.retarget.items() if how["joints"] == count]
        if count == len(self.skeleton["joints"]) or not able:
            return None

        # of several with as many joints
        alike = [skeleton for skeleton in SKELETONS.values() if skeleton.num_joints == count]
        if len(alike) < 2:
            return able[0]
        found = guessed_skeleton(path or Path("stream"), joints).name
        if found in able or path is None:
            return found if found in able else able[0]
        raise ValueError(f"{path}: its {count} joints move as those of {found}, which cannot be turned into the "
                         f"network's {self.skeleton['name']}; if they are of {' or '.join(able)}, name it in "
                         "skeleton.json beside it")

    def guess_recorded(self, joints: np.ndarray, source: str) -> Recorded:
        """Unit and upright axis of another skeleton's joints (M, L, W, 3), by the trunk of the main body."""
        return guessed_recorded(joints, self.retarget[source]["trunk"])

    def from_skeleton(self, joints: np.ndarray, source: str, recorded: Recorded) -> np.ndarray:
        """Another skeleton's joints (M, L, W, 3) as recorded -> the network's (M, L, V, 3) in metres, y up."""
        how = self.retarget[source]
        return retargeted(in_metres(joints, recorded, how["trunk"]), how["means"])

    def in_metres(self, joints: np.ndarray) -> np.ndarray:
        """Joints (M, L, V, 3), recorded as the training clips were, in metres, y up."""
        return in_metres(joints, self.recorded, self.trunk)

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
