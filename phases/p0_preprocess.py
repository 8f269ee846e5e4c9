"""Phase 0: raw skeletons -> one clip store, which every other phase reads.

    just phase0 recipe=ntu60 raw=FOLDER                 .skeleton files of NTU RGB+D, at any depth of the folder
    just phase0 recipe=ntu120 raw=FOLDER                NTU-60 and NTU-120 files together
    just phase0 recipe=NAME raw=FOLDER                  what `just adopt` wrote a recipe for; also a .zip of it
    just phase0 recipe=nw_ucla raw=all_sqe              a folder of JSON files, or a tar archive of one
    just phase0 recipe=utd_mhad raw=utd-mhad.npz        your own clips: see `read_arrays`
    just phase0 recipe=ntu60 data.reader=ctrgcn raw=NTU60_CS.npz data.split=given
    just phase0 recipe=ntu60 data.reader=pyskl raw=ntu60_3danno.pkl
    just phase0 recipe=synthetic                        synthetic clips, to try the pipeline without a download

Coordinates in another unit, with another axis up or with scores: data.unit, data.up, data.channels, data.min_score
(metres.py says what they do; a store records them, and anything suspicious is reported).

Out: stores/<dataset>/ (or data.store), the joints at their raw length, in metres; V joints, one or two bodies a clip:
    frames.npy   (rows, V, 3) float32, memory-mapped by the reader
    clips.npz    name, label, subject, camera, setup, replication, length; offset (N, 2), the first row of each body,
                 -1 if absent; split_<name> if the recordings bring a split: 0 training, 1 test, -1 neither
    meta.json    skeleton, classes, protocols and their counts, reader, versions, quality, what was skipped and why

A malformed file is skipped, and reported by name, line and reason. An interrupted run leaves the old store as it was;
the same command continues it. Of a recipe, phase 0 checks the table `data`, seed, raw and view.bodies, which it reads;
phase 1 checks the others.
Exit codes: 0 clean, 2 nothing stored, 3 stored but something was skipped, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from phases.common.command import build, fields_of, nearest, run
from phases.common.files import check_writable, locked
from phases.common.protocols import check_rules
from phases.common.recipes import resolved
from phases.recordings.archives import named_as_given, unpacked
from phases.recordings.clips import Clip, Skip, recorded_as
from phases.recordings.left_out import others_beside_clips
from phases.recordings.metres import reference_joint, trunk_of
from phases.recordings.ntu_shards import ntu_shards
from phases.recordings.puppet import write_synthetic
from phases.recordings.quality import show_report
from phases.recordings.readers import READERS
from phases.recordings.settings import Data
from phases.recordings.sources import recorded_classes, recorded_skeleton
from phases.recordings.store import (
    SHARD,
    Common,
    NothingStored,
    check_place,
    fresh_partial,
    in_parts,
    merge,
    put_in_place,
    reason_to_skip,
    restore_old,
    shard_path,
    write_shard,
)
from skeletons import Skeleton

NTU_TEXT = ("ntu", "synthetic")     # readers of NTU text, which is slow to parse: an interrupted run is continued
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# ---------------------------------------------------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Bodies:
    """The setting of the view that phase 0 reads, to say that a network would not see a second body."""
    bodies: Annotated[int, (1, 2)] = 1


@dataclass(frozen=True)
class Phase0:
    """The settings of a recipe that phase 0 reads. training/recipe.py has all, but loads torch."""
    recipe: str = ""
    raw: str = ""                                   # the recordings
    seed: Annotated[int, (0, 2**31 - 1)] = 0        # of synthetic clips
    data: Data = Data()
    view: Bodies = Bodies()


OTHERS = ("init", "out", "device", "gpus", "streams", "members", "weights", "model", "train", "distil", "pretrain",
          "probe")  # what a recipe may hold besides


def read_settings(argv: list[str]) -> Phase0:
    """The settings of `recipe=NAME [data=DATASET] [key.sub=value ...]`; ValueError for a word that phase 0 ignores."""
    for word in argv:
        key = word.partition("=")[0]
        if key.partition(".")[0] not in ("recipe", "data", "raw", "seed") and key != "view.bodies":
            raise ValueError(f"{word}: phase 0 does not use it; it writes to data.store=FOLDER, by default "
                             "stores/<data set>")

    # a misspelled table is an error, whoever reads it
    table = resolved(argv)
    known = {*fields_of(Phase0), *OTHERS}
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {key}{nearest(key, known)}")

    # of the view only what phase 0 reads
    own = {key: value for key, value in table.items() if key not in OTHERS}
    if isinstance(own.get("view"), dict):
        own["view"] = {key: value for key, value in own["view"].items() if key in fields_of(Bodies)}
    return build(Phase0, own)


def check_data(data: Data) -> None:
    """ValueError for protocols that contradict themselves, and for clips of one's own under the name of NTU-60."""
    check_rules(data.protocols)
    if data.reader == "arrays" and data.name == Data.name:
        raise ValueError(f"data.name = {data.name!r} is the default: give your recordings a name in the recipe")


# ---------------------------------------------------------------------------------------------------------------------
# Recordings -> shards
# ---------------------------------------------------------------------------------------------------------------------

def recordings(settings: Phase0, store: Path) -> Path:
    """The file or folder of recordings; the reader `synthetic` writes them first."""
    data = settings.data
    if data.reader == "synthetic":
        folder = Path(settings.raw or f"{store}-raw")
        write_synthetic(folder, settings.seed, data.workers)
        return folder

    if data.reader == "pool":
        raise ValueError(f"data = {data.name!r}: is made of the stores of other data sets: "
                         f"just pool stores=NAME,NAME name={data.name}")
    if not settings.raw:
        raise ValueError(f"no recordings: give raw=FOLDER_OR_FILE for the reader {data.reader!r}")
    if not Path(settings.raw).exists():
        raise ValueError(f"raw = {settings.raw!r}: no such file or folder")
    return unpacked(Path(settings.raw))


def reader_shards(raw: Path, partial: Path, data: Data, common: Common) -> Common:
    """Shards of all formats but NTU text; returns what the clips have in common, with the joint they are centred on.

    These formats are fast to read: always start anew.
    """
    fresh_partial(partial, os.urandom(8).hex())
    for number, found in enumerate(in_parts(READERS[data.reader](raw, data), SHARD)):
        if number == 0:
            common = with_reference(found, common)
        write_shard(shard_path(partial, number), found, common)
    return common


def with_reference(found: list[Clip | Skip], common: Common) -> Common:
    """With the joint that the clips are centred on, as the first of them show it."""
    clips = [item for item in found if isinstance(item, Clip)]
    whole = [clip.joints for clip in clips if not reason_to_skip(clip, common.num_joints, common.num_classes)]
    recorded = dataclasses.replace(common.recorded, reference=reference_joint(whole))
    return dataclasses.replace(common, recorded=recorded)


# ---------------------------------------------------------------------------------------------------------------------
# Shards -> store
# ---------------------------------------------------------------------------------------------------------------------

def write_store(raw: Path, store: Path, partial: Path, data: Data, skeleton: Skeleton, classes: list[str]) -> dict:
    """Reads, merges, moves into place; returns meta. On an error the old store and finished shards of NTU text stay."""
    common = Common(skeleton.num_joints, data.num_classes, recorded_as(data), trunk_of(skeleton))
    left_out = 0
    try:
        # clips -> shards
        if data.reader in NTU_TEXT:
            left_out = ntu_shards(raw, partial, data, common)
        else:
            common = reader_shards(raw, partial, data, common)

        # shards -> store
        meta = merge(partial, skeleton, data, left_out, common.recorded)
        meta["classes"] = classes
        put_in_place(partial, meta, store)
    except BaseException as e:
        # only finished shards of NTU text are of use to the next run
        is_empty = not list(partial.glob("*"))
        if data.reader not in NTU_TEXT or isinstance(e, NothingStored) or is_empty:
            shutil.rmtree(partial, ignore_errors=True)

        # the error of a full disk names no file
        if isinstance(e, OSError) and e.filename is None and e.errno in DISK_FULL:
            raise OSError(f"{partial} cannot be written ({e.strerror}); {store} is as it was") from None
        raise
    return meta


@named_as_given()
def main(argv: list[str]) -> int:
    # what to read, and where to write
    settings = read_settings(argv)
    data = settings.data
    store = data.folder.resolve()  # the folder that a link leads to
    check_writable(store, "data.store=FOLDER")
    raw = recordings(settings, store)
    restore_old(store)
    check_place(store)
    check_data(data)

    # what the clips have in common
    skeleton = recorded_skeleton(data, raw)
    classes = recorded_classes(data, raw)

    # the store; a second phase 0 on it is refused
    partial = store.with_name(f"{store.name}.partial")
    with locked(partial):
        meta = write_store(raw, store, partial, data, skeleton, classes)

    show_report(meta, store)
    others = others_beside_clips(raw, data.reader)
    if others:
        print(f"  {others}", file=sys.stderr)
    if meta["quality"]["two_bodies"] and settings.view.bodies == 1:
        print("  view.bodies = 1: a network sees the first body of each clip; view.bodies=2 shows it both")
    return 3 if meta["skipped"] else 0


if __name__ == "__main__":
    run(main)
