"""Clips -> the joints of a network: whose joints they are, who is meant, and how they were recorded. No torch.

described.py decides what a file is. Here this meets what an exported file says of itself: its skeleton, how its
training clips were recorded, and which other skeletons can be turned into its own.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phases.recordings.clips import main_bodies
from phases.recordings.described import (
    PICTURE,
    Described,
    Recording,
    described,
    guessed_recorded,
    guessed_skeleton,
    has_score,
    without_score,
)
from phases.recordings.metres import METRES, Recorded, complaints, in_metres, trunk_vector
from phases.recordings.readers import load_clip, seen_people
from phases.recordings.wild import is_flat
from phases.shipping.notes import Notes
from skeletons import RECORDED, SKELETONS, Skeleton, retarget_tables, retargeted, spelled


class People(NamedTuple):
    """The people of a clip, as recorded."""
    joints: np.ndarray      # m l v 3
    ids: list               # what the file calls each; empty: nothing
    source: str             # whose joints these are: the name of a skeleton
    is_guess: bool
    is_scored: bool         # the third number was a score


class JointReader:
    """Reads clips for a network, as its metadata describe it: see ExportedModel."""
    skeleton: dict
    view: dict
    recorded: Recorded
    retarget: dict[str, dict]
    trunk: list[int] | None
    pictures: bool          # the network has learned from clips without depth
    notes = Notes()         # where notes about clips go

    # --- a clip ------------------------------------------------------------------------------------------------------

    def read(self, path: Path) -> np.ndarray:
        """Joints (M, L, V, 3) of a file in metres, y up, recorded as the training clips were.

        A clip of another skeleton is turned into the network's; its joints decide, not its title. Of many people it is
        the main two. Notes report it, and any sign of another unit or upright axis. ValueError for a file that cannot
        be used.
        """
        return self.read_recorded(path)[0]

    def read_recorded(self, path: Path) -> tuple[np.ndarray, Recorded]:
        """What `read` gives, and how the file was recorded."""
        return self.main_people(self.recording(path))

    def recording(self, path: Path) -> Recording:
        """A file, or a folder of frames, as it is."""
        # whose joints they are, if the format or skeleton.json tells
        found = described(path, self.skeleton["joints"])
        known = self._known(path, found)
        names = self.skeleton["joints"] if known in (None, self.skeleton["name"]) else found.joints

        # the readers of JSON keep everybody
        ids: list = []
        numbers = load_clip(path, names, ids)
        is_chosen = found.recorded == Recorded() and path.suffix.lower() != ".json"
        return Recording(path, numbers, found, ids, is_chosen)

    def main_people(self, clip: Recording) -> tuple[np.ndarray, Recorded]:
        """The main two people (M, L, V, 3) of a clip, as the network takes them, and how it was recorded."""
        people = self.people(clip)
        main = list(range(len(people.joints))) if clip.is_chosen else main_bodies(people.joints)
        joints = people.joints[main]
        if not joints.any():
            raise ValueError(f"{clip.where}: no body in any frame")
        self._report_people(clip.where, people, main)
        recorded = self.recorded_of(clip.found, people.source, joints, people.is_scored)
        self._report_source(clip, people, recorded)
        self.report_depth(clip.where, joints)

        # in the network's joints and in metres
        joints = self.turned(joints, people.source, recorded)
        if people.source == self.skeleton["name"] and recorded == self.recorded and not clip.found.recorded:
            self._report_trunk(clip.where, joints)
        return joints, recorded

    def each_person(self, clip: Recording) -> list[tuple[str, np.ndarray]]:
        """(what the file calls a person, else a number from 1; joints (1, L, V, 3) as the network takes them)."""
        # unit and axis are the clip's; the main person shows them
        people = self.people(clip)
        recorded = self.recorded_of(clip.found, people.source, people.joints[main_bodies(people.joints)],
                                    people.is_scored)
        self._report_source(clip, people, recorded)
        self.report_depth(clip.where, people.joints)

        found = []
        for m, joints in enumerate(people.joints):
            name = str(people.ids[m] if people.ids else m + 1)
            if joints.any():
                found.append((name, self.turned(joints[None], people.source, recorded)))
        if not found:
            raise ValueError(f"{clip.where}: no body in any frame")
        return found

    def people(self, clip: Recording) -> People:
        """Everybody in a clip; ValueError if nobody is."""
        # a third number that may be a score is kept until it is known whose joints they are
        path, numbers, found, ids, _ = clip
        joints, seen_ids = seen_people(path, numbers, replace(self.recorded, channels="xyz"), ids)
        if not joints.any():
            raise ValueError(f"{path}: no body in any frame")
        source, is_guess = self.source_of(found, joints, path)
        if source == self.skeleton["name"] and self.recorded.channels == "xys" and not found.recorded:
            joints, seen_ids = seen_people(path, numbers, self.recorded, ids)

        is_scored = found.recorded is None and has_score(joints)
        joints = without_score(joints, self.recorded.min_score) if is_scored else joints
        return People(joints, seen_ids, source, is_guess, is_scored)

    # --- whose joints ------------------------------------------------------------------------------------------------

    def _known(self, path: Path | None, found: Described, count: int = 0) -> str | None:
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
            is_usual = list(map(spelled, usual.joints)) == list(map(spelled, theirs.joints))
            name = name if is_usual else f"{name} of other joints"
        if theirs and not (name in self.retarget and name in SKELETONS):
            others = {title: how for title, how in self.retarget.items() if title != name}
            self.retarget = others | retarget_tables(own, [replace(theirs, name=name)])
        if name not in (None, own.name, *self.retarget):
            V = len(own.joints)
            raise ValueError(f"{beginning(path)}is of skeleton {name!r}, the model knows {own.name!r} ({V} joints)")
        return name

    def source_of(self, found: Described, people: np.ndarray, path: Path | None = None) -> tuple[str, bool]:
        """The skeleton of joints (M, L, W, 3), the network's own or one that can be turned into it; whether it is a
        guess.

        ValueError if it is neither, or has not W joints. Without a path they are of a stream: see other_skeleton.
        """
        own = self.skeleton["name"]
        V = len(self.skeleton["joints"])
        count = people.shape[2]

        # one that is known, or the network's own
        known = self._known(path, found, count)
        if known in self.retarget and self.retarget[known]["joints"] != count:
            raise ValueError(f"{beginning(path)}has {count} joints, {known} has {self.retarget[known]['joints']}")
        if known in self.retarget or known is None and found.likely(count) in self.retarget:
            return known or found.likely(count), False
        if count == V:
            return own, False

        # a guess
        source = None if known else self.other_skeleton(people, path)
        if source is None:
            raise ValueError(f"{beginning(path)}has {count} joints, the model's skeleton {own!r} has {V}")
        return source, True

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
        alike = [skeleton for skeleton in RECORDED if skeleton.num_joints == count]
        if len(alike) < 2:
            return able[0]
        found = guessed_skeleton(path or Path("stream"), joints).name
        if found in able or path is None:
            return found if found in able else able[0]
        raise ValueError(f"{path}: its {count} joints move as those of {found}, which cannot be turned into the "
                         f"network's {self.skeleton['name']}; if they are of {' or '.join(able)}, name it in "
                         "skeleton.json beside it")

    # --- joints as the network takes them ----------------------------------------------------------------------------

    def recorded_of(self, found: Described, source: str, joints: np.ndarray, is_scored: bool = False) -> Recorded:
        """How joints (M, L, W, 3) of the main people were recorded: by their format, else as the training clips, else a
        guess that the user can check."""
        is_picture = is_scored or found.recorded == PICTURE and not joints[..., 2].any()
        if found.recorded and not found.key_points:
            return found.recorded

        # another skeleton's
        if source != self.skeleton["name"]:
            is_known = is_picture and not is_scored
            return found.recorded if is_known else guessed_recorded(joints, self.retarget[source]["trunk"])

        # the network's own: pixels are not metres, whatever the training clips were
        if is_picture and self.recorded.unit in METRES:
            up = guessed_recorded(joints, self.trunk).up if is_scored else PICTURE.up
            return replace(self.recorded, unit=PICTURE.unit, up=up, reference=())
        return self.recorded

    def trunk_in(self, source: str) -> list[int] | None:
        """The joints of the trunk in a skeleton's order: left and right shoulder, left and right hip."""
        return self.trunk if source == self.skeleton["name"] else self.retarget[source]["trunk"]

    def turned(self, joints: np.ndarray, source: str, recorded: Recorded) -> np.ndarray:
        """Joints (M, L, W, 3) of a skeleton as recorded -> the network's (M, L, V, 3) in metres, y up."""
        if source != self.skeleton["name"]:
            return self.from_skeleton(joints, source, recorded)
        return in_metres(joints, recorded, self.trunk)

    def from_skeleton(self, joints: np.ndarray, source: str, recorded: Recorded) -> np.ndarray:
        """Another skeleton's joints (M, L, W, 3) as recorded -> the network's (M, L, V, 3) in metres, y up."""
        how = self.retarget[source]
        return retargeted(in_metres(joints, recorded, how["trunk"]), how["means"])

    def in_metres(self, joints: np.ndarray) -> np.ndarray:
        """Joints (M, L, V, 3), recorded as the training clips were, in metres, y up."""
        return in_metres(joints, self.recorded, self.trunk)

    # --- notes -------------------------------------------------------------------------------------------------------

    def _report_people(self, path: Path, people: People, main: list[int]) -> None:
        """More people than the network sees, and which of them it sees."""
        bodies = self.view["bodies"]
        count = len(people.joints)
        if count > bodies:
            seen = " and ".join(f"number {m + 1}" for m in main[:bodies])
            self.notes.add(path, f"shows {count} people, the network sees {bodies}: {seen} in the order of the file, "
                           "the most active", f"more people than the network sees ({bodies}): it is given the most "
                           "active; people=each names the action of each")

    def report_depth(self, where: Path | str, joints: np.ndarray) -> None:
        """Joints (..., 3) as recorded that have no depth, where the network was always given it."""
        if is_flat(joints) and not self.pictures:
            words = ("no depth, and the network was trained with depth: its answers and its threshold are not made for "
                     "that (view.flat=0.25 in phase 1 is)")
            self.notes.add(where, f"has {words}", f"they have {words}")

    def _report_trunk(self, path: Path, joints: np.ndarray) -> None:
        """A trunk whose length or direction speaks against the unit or the axis."""
        trunk = trunk_vector(joints[0], self.trunk)
        for line in complaints(trunk[None], self.recorded):
            about = line.split(": give")[0]
            what = "unit" if "long" in about else "upright axis"
            self.notes.add(path, f"{about}: is it recorded as the training clips were?",
                           f"trunks speak against the {what} of the training clips: are they recorded as these were?")

    def _report_source(self, clip: Recording, people: People, recorded: Recorded) -> None:
        """Joints of another skeleton, or a score in place of z; what of it is a guess that skeleton.json can correct.
        """
        if people.source == self.skeleton["name"]:
            if people.is_scored:
                words = f"the third number of a joint is a score: read as pixels, {recorded.up} up"
                self.notes.add(clip.where, words)
            return

        found = clip.found
        alike = [s.name for s in RECORDED if s.num_joints == self.retarget[people.source]["joints"]]
        hint = "" if found.recorded or found.name else "; skeleton.json beside it may name another skeleton"
        if people.is_guess and len(alike) > 1:
            hint = f", by the lengths of their bones{hint} ({', '.join(alike)})"
        self.notes.add(clip.where, self.turned_words(people.source, recorded, found) + hint)

    def turned_words(self, source: str, recorded: Recorded, found: Described) -> str:
        """What a note says of another skeleton's joints; of unit and axis, where these are no part of the format."""
        how = "" if found.recorded and not found.key_points else f" ({recorded.unit}, {recorded.up} up)"
        return f"joints of {source}{how} are turned into the network's {self.skeleton['name']}"


def beginning(path: Path | None) -> str:
    """The beginning of a message about a file; a stream has none."""
    return f"{path}: " if path else ""
