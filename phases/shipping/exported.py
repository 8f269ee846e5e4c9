"""An exported file in use: it reads clips and names their actions. Needs numpy and onnxruntime, no torch."""
from __future__ import annotations

import dataclasses
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
from phases.recordings.known_files import known_body
from phases.recordings.metres import AXES, Recorded, complaints, guess, in_metres, trunk_vector
from phases.recordings.readers import read_clip, skeleton_of_format
from phases.shipping.view_numpy import clip_view
from skeletons import SKELETONS, Skeleton, retarget_tables, retargeted, spelled

NETWORKS = ROOT / "results" / "networks"


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

class ExportedModel:
    """An exported file: joints (M, L, V, 3) of a clip -> probabilities (K,) of its classes.

    From the metadata:

        skeleton    Skeleton.to_dict(), and its `centre` and `trunk`
        classes     K names
        view        frames, bodies and the other fields of the test view
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
        if self.about.get("format") != "LAST 1":
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
        self.retarget = json.loads(about.get("retarget", "{}"))

        # a file without `recorded` is from before it was written: metres, y up
        recorded = json.loads(about.get("recorded", "{}"))
        self.recorded = Recorded(**recorded | {"reference": tuple(recorded.get("reference", ()))})

        # left and right shoulder, left and right hip
        corners = self.skeleton["trunk"]
        self.trunk = [joints[0] for joints in corners] if corners else None

    def _check_tables(self) -> None:
        """ValueError, or any other exception, if the metadata do not fit each other or the network's input."""
        V = len(self.skeleton["joints"])

        # the input and the view
        shape = self.session.get_inputs()[0].shape
        if shape[1:] != [self.view["bodies"], self.view["frames"], V, 3]:
            raise ValueError(f"the network takes {shape}")
        if not 0 <= self.view.get("smooth", 0) <= 100 or self.view["sampling"] not in ("uniform", "crop", "stretch"):
            raise ValueError(f"their view is {self.view}")
        if not all(isinstance(name, str) for name in (*self.classes, *self.skeleton["joints"], self.skeleton["name"])):
            raise TypeError("a class or a joint has no name")

        # other skeletons: every joint that their tables name exists
        for how in self.retarget.values():
            if not 0 < how["joints"] <= JOINTS or len(how["means"]) != V:
                raise ValueError("a skeleton cannot be turned into this one")
            clip = np.ones((1, 2, how["joints"], 3), np.float32)
            trunk_vector(retargeted(clip, how["means"])[0], self.trunk)
            trunk_vector(clip[0], how["trunk"])

    def _check_answer(self) -> None:
        """Classify a made clip of two frames: ValueError if the answer has not one probability per class."""
        V = len(self.skeleton["joints"])
        joints = np.sin(np.arange(2 * V * 3, dtype=np.float32)).reshape(1, 2, V, 3)  # numpy.random takes 8 ms to load
        answer = self(self.in_metres(joints))
        if answer.shape != (len(self.classes),):
            raise ValueError(f"the network tells {len(answer)} classes apart, they name {len(self.classes)}")

    # --- reading a clip ----------------------------------------------------------------------------------------------

    def read(self, path: Path) -> np.ndarray:
        """Joints (M, L, V, 3) of a file in metres, y up, recorded as the training clips were.

        Files of NTU RGB+D and Northwestern-UCLA have one skeleton each, and are in metres; for others skeleton.json
        beside them may name the skeleton; its joints decide, not its title. A clip of another skeleton is turned into
        the network's: of the one that is named, or else of the first with as many joints. Standard error reports it,
        and any sign of another unit or upright axis. ValueError for a file that cannot be used.
        """
        own = self.skeleton["name"]
        V = len(self.skeleton["joints"])

        # whose joints they are, if the format or skeleton.json tells
        by_format = skeleton_of_format(path)
        known = self.skeleton_by_joints(path) or by_format or self.skeleton_beside(path)
        if known not in (None, own, *self.retarget):
            raise ValueError(f"{path}: is of skeleton {known!r}, the model knows {own!r} ({V} joints)")

        # the people in it
        recorded = Recorded() if by_format else self.recorded
        people = read_clip(path, recorded, self.skeleton["joints"] if known in (None, own) else ())
        joints = main_two(people)
        if not joints.any():
            raise ValueError(f"{path}: no body in any frame")
        if not by_format:
            self._report_people(path, len(people))

        # in the network's joints and in metres
        source = known or self.other_skeleton(joints.shape[2])
        if source in self.retarget:
            return self._read_retargeted(path, joints, source, in_metres_already=by_format is not None)
        if joints.shape[2] != V:
            raise ValueError(f"{path}: has {joints.shape[2]} joints, the model's skeleton {own!r} has {V}")
        if by_format is None:
            joints = self.in_metres(joints)
            self._report_trunk(path, joints)
        return joints

    def skeleton_beside(self, path: Path) -> str | None:
        """The skeleton that skeleton.json beside a file names, as this model calls it; None without such a file.

        One whose joints have the network's names is the network's own. A table `retarget` lacks is made of the names.
        """
        if not (path.parent / "skeleton.json").is_file():
            return None
        found = metadata(path.parent).get("skeleton")
        if isinstance(found, dict) and "joints" not in found:
            found = str(found.get("name", "own"))
        if found is None or isinstance(found, str) and found not in SKELETONS:
            return found

        # the network's own joints, by their names
        try:
            theirs = Skeleton.from_dict(found) if isinstance(found, dict) else SKELETONS[found]
        except ValueError as e:
            raise ValueError(f"{path.parent / 'skeleton.json'}: {e}") from None
        if list(map(spelled, theirs.joints)) == list(map(spelled, self.skeleton["joints"])):
            return self.skeleton["name"]

        # another skeleton; one that is spelled out may have a known one's title
        known = SKELETONS.get(theirs.name)
        if known is not None and known.joints == theirs.joints and theirs.name in self.retarget:
            return theirs.name
        name = f"{theirs.name} (skeleton.json)" if isinstance(found, dict) else theirs.name
        table = retarget_tables(Skeleton.from_dict(self.skeleton), [dataclasses.replace(theirs, name=name)])
        self.retarget = self.retarget | table
        return name if table else theirs.name

    def skeleton_by_joints(self, path: Path) -> str | None:
        """The skeleton that the format of a file fixes, by name: the network's own if it has the same joints.

        Another one is added to those that can be turned into the network's, if it can.
        """
        known = known_body(path)
        if known is None:
            return None
        own = self.skeleton["name"]
        if list(known.skeleton.joints) == self.skeleton["joints"]:
            return own
        self.retarget |= retarget_tables(Skeleton.from_dict(self.skeleton), [known.skeleton])
        name = known.skeleton.name
        return f"{name} of other joints" if name == own else name

    def _report_people(self, path: Path, people: int) -> None:
        """Standard error: more people than the network sees."""
        bodies = self.view["bodies"]
        if people > bodies:
            sees = "the first of them" if people == 2 else f"{bodies} of the two that move most"
            print(f"{path}: shows {people} people, the network sees {sees}", file=sys.stderr)

    def _report_trunk(self, path: Path, joints: np.ndarray) -> None:
        """Standard error: a trunk whose length or direction speaks against the unit or the axis."""
        trunk = trunk_vector(joints[0], self.trunk)
        for line in complaints(trunk[None], self.recorded):
            print(f"{path}: {line.split(': give')[0]}: is it recorded as the training clips were?", file=sys.stderr)

    def _read_retargeted(self, path: Path, joints: np.ndarray, source: str, in_metres_already: bool) -> np.ndarray:
        """Joints of another skeleton as the network's own. ValueError if they are more or fewer than it has."""
        expected = self.retarget[source]["joints"]
        if joints.shape[2] != expected:
            raise ValueError(f"{path}: has {joints.shape[2]} joints, {source} has {expected}")

        # unit and axis: those of the format, or a guess that the user can check
        if in_metres_already:
            recorded = Recorded()
            how = hint = ""
        else:
            recorded = self.guess_recorded(joints, source)
            how = f" ({recorded.unit}, {recorded.up} up)"
            hint = "; skeleton.json beside it may name another skeleton"
        print(f"{path}: joints of {source}{how} are turned into the network's {self.skeleton['name']}{hint}",
              file=sys.stderr)
        return self.from_skeleton(joints, source, recorded)

    # --- joints as the network takes them ----------------------------------------------------------------------------

    def other_skeleton(self, count: int) -> str | None:
        """The first skeleton with `count` joints that can be turned into the network's, unless that has as many."""
        if count == len(self.skeleton["joints"]):
            return None
        return next((name for name, how in self.retarget.items() if how["joints"] == count), None)

    def guess_recorded(self, joints: np.ndarray, source: str) -> Recorded:
        """Unit and upright axis of another skeleton's joints (M, L, W, 3), by the trunk of the main body."""
        trunk = trunk_vector(joints[0], self.retarget[source]["trunk"])
        _, unit, up = guess(trunk[None])
        is_flat = not joints[..., 2].any()
        return Recorded("px" if is_flat else unit or "body", up if up in AXES else "y")

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
        seen = clip_view(joints, self.view, self.skeleton)  # m t v 3
        logits = self.session.run(["logits"], {"joints": seen[None]})[0][0]
        p = np.exp(logits - logits.max())
        return p / p.sum()

    def top(self, joints: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The k most probable classes (label, probability), the most probable first."""
        p = self(joints)
        order = np.argsort(-p, kind="stable")[:k]
        return [(self.classes[c], float(p[c])) for c in order]
