"""The quality of the clips that phase 0 stored: measured per clip, summed up for meta.json, printed."""
from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phases.common.protocols import PROTOCOLS, sides
from phases.common.wording import counted
from phases.recordings.clips import skip_text
from phases.recordings.metres import in_unit_square, trunk_vector
from skeletons import Skeleton

FIELDS = ("label", "subject", "camera", "setup")    # counted in the report
FARTHEST_BONE = 5                                   # metres: with longer bones the unit is probably another
OFTEN = 0.9                                         # share of the clips that show what is true of all
UNEQUAL = 10                                        # times as many clips of one class as of another
NAMED = 3                                           # clips, classes or people that a line names


# ---------------------------------------------------------------------------------------------------------------------
# One clip
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class ClipQuality:
    """The measures of one clip, in metres, of its first body; the digest is of all."""
    bones: np.ndarray       # (bones,) median length over the frames; NaN for a bone that is never seen whole
    trunk: np.ndarray       # (3,) hips to shoulders, median over the frames
    is_incomplete: bool     # a joint is missing in some frame
    is_flat: bool           # z is 0 throughout
    is_constant: bool       # nothing moves
    lone: int               # the only joint that is ever missing; -1 if there are several or none
    in_unit_square: bool    # as shares of a picture's width and height are
    digest: bytes           # the same for exact copies


def clip_quality(rows: np.ndarray, length: int, bones: np.ndarray, trunk: list[int] | None) -> ClipQuality:
    """Quality of a clip as it is stored: (rows, V, 3), `length` frames of the first body and then those of a second.

    bones: see bones_of; trunk: see metres.trunk_of.
    """
    body = rows[:length]
    there = (body != 0).any(2)  # l v
    lacking = np.flatnonzero((~there & there.any(1, keepdims=True)).any(0))

    return ClipQuality(
        bones=bone_lengths(body, there, bones),
        trunk=trunk_vector(body, trunk),
        is_incomplete=not there.all(),
        is_flat=not body[..., 2].any(),
        is_constant=length > 1 and not np.ptp(body, axis=0).any(),
        lone=int(lacking[0]) if len(lacking) == 1 else -1,
        in_unit_square=in_unit_square(body[there]),
        digest=hashlib.blake2b(rows.tobytes(), digest_size=16).digest())


def bones_of(skeleton: Skeleton) -> np.ndarray:
    """(bones, 2) child and parent; the root has no bone."""
    return np.array([bone for bone in skeleton.bones if bone[0] != bone[1]])


def bone_lengths(body: np.ndarray, there: np.ndarray, bones: np.ndarray) -> np.ndarray:
    """(bones,) median over the frames of a body (L, V, 3) in which both ends are there (L, V); NaN if none has them."""
    length = np.linalg.norm(body[:, bones[:, 0]] - body[:, bones[:, 1]], axis=2)  # l bones
    whole = there[:, bones].all(2)  # l bones
    if whole.all():
        return np.median(length, axis=0)
    return np.array([np.median(length[seen, k]) if seen.any() else np.nan for k, seen in enumerate(whole.T)])


# ---------------------------------------------------------------------------------------------------------------------
# All clips
# ---------------------------------------------------------------------------------------------------------------------

def quality_report(clips: dict[str, np.ndarray], per_clip: list[ClipQuality], protocols: dict,
                   skeleton: Skeleton) -> dict:
    """Quality of a store: counts, lengths, missing joints, constant clips, bones out of range, copies, sides.

    Bones of flat clips are as long as a picture shows them: none is out of range. test_clips_in_training counts the
    test clips of each protocol that are copies of a training clip.
    """
    # bones and copies compare each clip with all others
    names = clips["name"]
    length = clips["length"]
    is_flat = all(clip.is_flat for clip in per_clip)
    usual, odd = odd_bones(per_clip)
    joints = [skeleton.joints[child] for child, _ in bones_of(skeleton)]
    copies = copies_of(per_clip)

    found = {
        "clips": len(length),
        "frames": [int(length.min()), float(np.median(length)), int(length.max())],
        "two_bodies": int((clips["offset"][:, 1] >= 0).sum()),
        "missing_joints": sum(clip.is_incomplete for clip in per_clip),
        "longest_bone": float(usual.max()),
        "flat": is_flat,
        "constant": [str(name) for name, clip in zip(names, per_clip, strict=True) if clip.is_constant],
        "odd_bones": [] if is_flat else [f"{names[i]}: {joints[k]}" for i, k in odd.items()],
        "lone_joint": lone_joint(per_clip),
        "in_unit_square": float(np.mean([clip.in_unit_square for clip in per_clip])),
        "copies": [[str(names[i]) for i in group] for group in copies],
        "test_clips_in_training": copied_tests(clips, copies, protocols),
        "on_one_side": classes_on_one_side(clips, protocols),
        "people_on_both_sides": people_on_both_sides(clips, protocols)}

    # {value of a field: its clips}
    for field in FIELDS:
        counts = sorted(Counter(clips[field].tolist()).items())
        found[f"per_{field}"] = {str(value): int(n) for value, n in counts}
    return found


def odd_bones(per_clip: list[ClipQuality]) -> tuple[np.ndarray, dict[int, int]]:
    """(bones,) usual lengths, the medians over the clips, and {clip: its worst bone} where one is out of range.

    A bone is out of range if its length in a clip is below half or above twice the usual one.
    """
    # a bone that no clip shows has length 0, and a clip that lacks a bone has the usual length
    bone = np.array([clip.bones for clip in per_clip])  # clips bones
    usual = np.array([np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else 0 for column in bone.T])
    bone = np.where(np.isfinite(bone), bone, usual)

    # the worst bone is farthest from its usual length, as a ratio
    is_odd = ((bone < 0.5 * usual) | (bone > 2 * usual)).any(1) & (usual > 0).any()
    odd = np.flatnonzero(is_odd)
    worst = np.abs(np.log((bone[odd] + 1e-6) / (usual + 1e-6))).argmax(1)
    return usual, dict(zip(odd.tolist(), worst.tolist(), strict=True))


def lone_joint(per_clip: list[ClipQuality]) -> list[int]:
    """[joint, its clips] of the joint that is missing in nearly all clips, in which no other joint ever is; else []."""
    (joint, number), *_ = Counter(clip.lone for clip in per_clip).most_common()
    return [joint, number] if joint >= 0 and number > OFTEN * len(per_clip) else []


def copies_of(per_clip: list[ClipQuality]) -> list[list[int]]:
    """Groups of clips that are exact copies of each other."""
    of_digest: dict[bytes, list[int]] = {}
    for i, clip in enumerate(per_clip):
        of_digest.setdefault(clip.digest, []).append(i)
    return [group for group in of_digest.values() if len(group) > 1]


def copied_tests(clips: dict[str, np.ndarray], copies: list[list[int]], protocols: dict) -> dict[str, int]:
    """{protocol: number of test clips of which a copy trains}."""
    found = {}
    for name, rule in protocols.items():
        train, test = sides(rule, clips)
        found[name] = sum(int(test[i]) for group in copies if train[group].any() for i in group)
    return found


def classes_on_one_side(clips: dict[str, np.ndarray], protocols: dict) -> dict[str, dict[str, list[int]]]:
    """{protocol: {side: labels that only the other side has}}, without protocols that have no clips on a side."""
    found = {}
    for name, rule in protocols.items():
        train, test = (set(clips["label"][side].tolist()) for side in sides(rule, clips))
        if train and test:
            found[name] = {"training": sorted(test - train), "test": sorted(train - test)}
    return found


def people_on_both_sides(clips: dict[str, np.ndarray], protocols: dict) -> dict[str, list[int]]:
    """{protocol: subjects}; a protocol by people, or of clips whose people nobody names, has none."""
    found = {}
    for name, rule in protocols.items():
        train, test = (set(clips["subject"][side].tolist()) for side in sides(rule, clips))
        found[name] = sorted(train & test) if clips["subject"].any() else []
    return found


# ---------------------------------------------------------------------------------------------------------------------
# In words
# ---------------------------------------------------------------------------------------------------------------------

def show_report(meta: dict, store: Path, show: int = 20) -> None:
    """Prints the report in a few lines, and on standard error warnings and at most `show` skips; meta.json has all."""
    for line in (*stored(meta, store), *remarkable(meta)):
        print(line)
    odd = (*doubtful(meta["quality"]), *doubtful_places(meta), *doubtful_sides(meta))
    for line in (*odd, *skipped(meta["skipped"], store, show)):
        print(line, file=sys.stderr)


def stored(meta: dict, store: Path) -> Iterator[str]:
    """The clips of the store, of each class, subject, camera and setup, and of each side of the protocols."""
    # the store
    q = meta["quality"]
    shortest, median, longest = q["frames"]
    lengths = f"{shortest} to {longest} frames (median {median:g})"
    if shortest == longest:
        lengths = counted(shortest, "frame")
    yield f"{store}: {counted(q['clips'], 'clip')}, {lengths}, {q['two_bodies']} with two bodies"

    # fields with several values
    for plural, key in (("classes", "label"), ("subjects", "subject"), ("cameras", "camera"), ("setups", "setup")):
        clips = q[f"per_{key}"].values()
        if len(clips) < 2:
            continue
        each = f"{min(clips)} to {max(clips)} clips"
        if min(clips) == max(clips):
            each = counted(min(clips), "clip")
        yield f"  {len(clips)} {plural} with {each} each"

    # protocols
    for name, n in meta["counts"].items():
        copied = q["test_clips_in_training"].get(name, 0)
        copies = "clip is a copy of a training clip" if copied == 1 else "clips are copies of training clips"
        note = f"; {copied} test {copies}" if copied else ""
        empty = "" if n["train"] and n["test"] else "  <- one side is empty"
        yield f"  {name}: {n['train']} training, {n['test']} test{note}{empty}"


def remarkable(meta: dict) -> Iterator[str]:
    """Unusual properties of clips, which may be right."""
    q = meta["quality"]
    copies = counted(sum(len(group) - 1 for group in q["copies"]), "exact copy")
    yield (f"  {counted(q['missing_joints'], 'clip')} with missing joints, {len(q['constant'])} constant, "
           f"{len(q['odd_bones'])} with bones out of range, {copies}; "
           f"{meta['left_out']} left out by the list of unusable samples")

    # and what explains it
    if q["constant"]:
        yield f"  nothing moves in {first_of(q['constant'])}: look at the recording, or leave it out"
    if q["odd_bones"]:
        more = "; ..." if len(q["odd_bones"]) > 3 else ""
        yield f"  bones out of range, so perhaps another unit or joint order: {'; '.join(q['odd_bones'][:3])}{more}"
    for joint in meta["recorded"]["reference"]:
        yield f"  {meta['skeleton']['joints'][joint]} is 0, 0, 0 throughout: the clips are centred on it, it is kept"
    if q["crowds"]:
        yield f"  {counted(q['crowds'], 'clip')} of more than two people: the two that move most are kept"


def doubtful(quality: dict) -> Iterator[str]:
    """Signs of a wrong unit or axis."""
    if not quality["complaints"] and quality["longest_bone"] > FARTHEST_BONE:
        yield (f"  the median length of the longest bone is {quality['longest_bone']:.4g}: are the joints in metres? "
               "(data.unit)")
    for line in quality["complaints"]:
        yield f"  {line}"


def doubtful_places(meta: dict) -> Iterator[str]:
    """Signs that numbers mean something else: a joint at the origin, and shares of a picture that pass for metres."""
    q = meta["quality"]
    if q["lone_joint"]:
        joint, number = q["lone_joint"]
        yield (f"  {meta['skeleton']['joints'][joint]} is missing in {number} of {q['clips']} clips, and no other "
               "joint is: clips may be centred on it in one frame, where it is 0, 0, 0; move them off the origin")
    if q["in_unit_square"] > OFTEN and meta["recorded"]["unit"] == "m":
        yield ("  x and y are within 0 and 1, so perhaps shares of a picture, not metres: give data.unit=px; a picture "
               "that is not square stretches bodies, so better record world landmarks or pixels")


def doubtful_sides(meta: dict) -> Iterator[str]:
    """Classes that cannot be learned or tested, or hardly; people on both sides. Published protocols are as they are.
    """
    q = meta["quality"]
    classes = meta["classes"]
    empty = [name for label, name in enumerate(classes) if str(label) not in q["per_label"]]
    if empty:
        yield (f"  no clip of {len(empty)} of {len(classes)} classes ({first_of(empty)}): a network has them among its "
               "answers and never learns them")

    # the largest and the smallest class
    counts = {classes[int(label)]: n for label, n in q["per_label"].items()}
    most = max(counts, key=counts.get)
    least = min(counts, key=counts.get)
    if counts[most] >= UNEQUAL * counts[least]:
        yield (f"  class {most!r} has {counted(counts[most], 'clip')}, {least!r} {counts[least]}: a network prefers "
               "the larger; record more of the smaller, or give phase 1 train.balanced=true")

    published = PROTOCOLS.get(meta["dataset"], {})
    for name, lacking_on in q["on_one_side"].items():
        if name in published:
            continue
        for side, labels in lacking_on.items():
            if labels:
                lacking = first_of([repr(classes[label]) for label in labels])
                yield f"  {name}: no {side} clip of class {lacking}: record more, or change the split"
        people = q["people_on_both_sides"][name]
        if len(people) > 1:
            yield (f"  {name}: {len(people)} people are on both sides (subject {first_of(people)}), which flatters a "
                   "network: better split by people")


def first_of(words: list) -> str:
    return ", ".join(map(str, words[:NAMED])) + (", ..." if len(words) > NAMED else "")


def skipped(skips: list[dict], store: Path, show: int) -> Iterator[str]:
    """The first skips."""
    for skip in skips[:show]:
        yield f"  skipped {skip_text(skip)}"
    if len(skips) > show:
        yield f"  ... and {len(skips) - show} more, all in {store / 'meta.json'}"
