"""What `just fuzz` feeds: valid inputs, how to change them, and the reader or loader that takes them."""
from __future__ import annotations

import io
import json
import lzma
import os
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tomli
import torch

import last
from phases import adopt, p0_preprocess, predict
from phases.common.command import nearest
from phases.recordings import clips as clip_room
from phases.recordings import ntu, readers
from phases.recordings.arrays import read_arrays
from phases.recordings.metres import Recorded, as_joints
from phases.recordings.ntu import read_ntu_file
from phases.recordings.nw_ucla import read_nw_ucla
from phases.recordings.poses import load_pose
from phases.recordings.store import check
from phases.recordings.survey import look
from phases.shipping import exported, live
from phases.training import recipe
from phases.training import run_folder as run_room
from phases.training.clip_store import open_store, splits
from phases.training.networks import build_model, load_run
from phases.training.transfer import init_from
from phases.training.view import Batches, ClipView
from skeletons import SKELETONS, Skeleton, retarget_tables
from tests.helpers.clip_stores import write_store
from tests.helpers.recordings import names, ntu_text, walker
from tests.helpers.reference import reference_parse
from tests.tools.fuzz import ROOT, Different, Target
from tests.tools.mutations import changed, changed_json, changed_npy, changed_zip

CFG = recipe.load_config(["recipe=utd_mhad", "data.name=own", "data.num_classes=2", "data.split=given"])
TINY = ["recipe=lite_nano", "data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.batch=4",
        "train.epochs=1"]


def saved(save: Callable, *args, **kwargs) -> bytes:
    """What a function writes into a file."""
    out = io.BytesIO()
    save(out, *args, **kwargs)
    return out.getvalue()


def real(pattern: str) -> list[Path]:
    folder = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared" / "data")
    return sorted(folder.glob(pattern))


def kept(found, V: int, num_classes: int) -> bool:
    """Whether each item that a reader yields is a clip that a store takes; a skip is one line."""
    good = True
    for item in found:
        if isinstance(item, clip_room.Skip):
            if not item.reason or "\n" in item.reason:
                raise Different(f"a skip without a reason, or of several lines: {item.reason[:80]!r}")
            good = False
        else:
            good &= not check(item, V, num_classes)
    return good


def first_frames(text: bytes, count: int) -> bytes:
    """A .skeleton file of its first frames."""
    lines, at = text.splitlines(keepends=True), 1
    for _ in range(count):
        at += 1 + 27 * int(lines[at])
    return lines[0].replace(str(int(lines[0])).encode(), str(count).encode()) + b"".join(lines[1:at])


# ---------------------------------------------------------------------------------------------------------------------
# Recordings
# ---------------------------------------------------------------------------------------------------------------------

def ntu_targets(folder: Path) -> list[Target]:
    path = folder / f"{names(1)[0]}.skeleton"

    def take(data: bytes) -> bool:
        path.write_bytes(data)
        found = read_ntu_file(path)
        try:
            ours, naive = ntu.parse_ntu(data)[1], reference_parse(path)
        except Exception:  # one of the two refuses it
            return kept([found], 25, 60)
        theirs = {}
        for t, bodies in enumerate(naive):
            for body in bodies:
                xyz = [[joint[k] for k in "xyz"] for joint in body["joints"]]
                theirs.setdefault(body["body_id"], []).append((t, xyz))
        read = sorted((t, np.float32(xyz).tolist()) for times, joints in ours.values()
                      for t, xyz in zip(times.tolist(), joints, strict=True))
        asked = sorted((t, np.float32(xyz).tolist()) for tracks in theirs.values() for t, xyz in tracks)
        if read != asked:
            raise Different("parse_ntu and reference_parse read different joints")
        return kept([found], 25, 60)

    two = [{1: np.zeros((25, 3)) + 0.5, 2: np.ones((25, 3))}, {}, {2: np.ones((25, 3))}]
    seeds = [ntu_text(walker(2)), ntu_text(walker(1), "\r\n"), ntu_text(two)]
    seeds += [first_frames(lzma.decompress(p.read_bytes()), 2) for p in real("ntu-samples/*.skeleton.xz")]
    return [Target("ntu", seeds, take)]


def ucla_targets(folder: Path) -> list[Target]:
    def text(length: int, label: object = 1) -> bytes:
        joints = np.random.default_rng(length).normal(0, 1, (length, 20, 3)).round(4)
        return json.dumps({"file_name": "a", "skeletons": joints.tolist(), "label": label}).encode()

    def tar(mode: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for i in range(3):
                info = tarfile.TarInfo(f"all_sqe/a01_s01_e0{i}_v01.json")
                info.size = len(text(1 + i))
                archive.addfile(info, io.BytesIO(text(1 + i)))
            link = tarfile.TarInfo("all_sqe/../a01_s02_e00_v01.json")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return out.getvalue()

    path, alone = folder / "all.tar", folder / "a01_s01_e00_v01.json"

    def take_json(data: bytes) -> bool:
        path_of = folder / "sqe"
        path_of.mkdir(exist_ok=True)
        (path_of / alone.name).write_bytes(data)
        return kept(read_nw_ucla(path_of, CFG), 20, 10)

    def take_tar(data: bytes) -> bool:
        path.write_bytes(data)
        return kept(read_nw_ucla(path, CFG), 20, 10)

    seeds = [text(1), text(3), text(2, "4")]
    for archive in real("nw-ucla.tar.xz"):
        with tarfile.open(archive) as t:
            member = next(m for m in t if m.name.endswith(".json"))
            d = json.loads(t.extractfile(member).read())
        seeds.append(json.dumps(d | {"skeletons": d["skeletons"][:2]}).encode())
    return [Target("nw_ucla", seeds, take_json, changed_json),
            Target("tar", [tar("w"), tar("w:gz"), tar("w:xz")], take_tar)]


def packed_targets(folder: Path) -> list[Target]:
    rng = np.random.default_rng(0)
    flat = rng.normal(0, 1, (3, 4, 150)).astype(np.float32)
    hot = np.eye(60)[[1, 5, 59]]
    ctrgcn = [saved(save, x_train=flat, y_train=hot, x_test=flat[:1], y_test=hot[:1])
              for save in (np.savez, np.savez_compressed)]
    own = saved(np.savez, data=rng.normal(size=(7, 20, 3)).astype("f4"), offsets=[0, 3, 7], names=["a", "b"],
                labels=["sit", "0"], subject=[1, 3], split=["train", "test"])
    points = [{"frame_dir": n, "label": i, "total_frames": 2, "keypoint": rng.normal(size=(1, 2, 25, 3)).astype("f2"),
               "keypoint_score": np.ones((1, 2, 25), "f4"), "img_shape": (1080, 1920)}
              for i, n in enumerate(("S001C001P001R001A003", "clip"))]
    d = {"split": {"xsub_train": ["clip"], "xsub_val": np.array(["S001C001P001R001A003"])}, "annotations": points}
    beside = json.dumps({"skeleton": "kinect20", "classes": ["wave", "sit"]})

    def reader(name: str, suffix: str, V: int) -> Callable[[bytes], bool]:
        path = folder / f"{name}{suffix}"
        (folder / f"{name}.json").write_text(beside)

        def take(data: bytes) -> bool:
            path.write_bytes(data)
            return kept(readers.READERS[name](path, CFG), V, 60)
        return take

    pickles = [pickle.dumps(d, protocol) for protocol in (0, 2, 3, 4, 5)] + [pickle.dumps(points, 4)]
    return [Target("ctrgcn", ctrgcn, reader("ctrgcn", ".npz", 25), changed_zip),
            Target("pickle", pickles, reader("pyskl", ".pkl", 25)),
            Target("packed", [own], reader("arrays", ".npz", 20), changed_zip)]


def own_targets(folder: Path) -> list[Target]:
    raw = folder / "raw"
    raw.mkdir()
    x = np.random.default_rng(0).normal(size=(4, 20, 3)).astype("f4")
    arrays = [saved(np.save, a) for a in (x, np.stack([x, x]), x[..., :2], x.astype(">f8"), np.asfortranarray(x))]
    table = b"name,label,subject,split\na,wave,1,train\nb,1,2,test\n"
    own = {"name": "arm", "joints": [f"left joint {v}" for v in range(20)], "parents": [0, *range(19)],
           "regions": {"torso": list(range(10)), "left_arm": list(range(10, 20))}, "pairs": [[1, 2]]}
    about = [json.dumps({"skeleton": s, "classes": ["wave", "sit"]}).encode() for s in ("kinect20", own)]
    files = {"a.npy": arrays[0], "b.npy": arrays[0], "labels.csv": table, "skeleton.json": about[0]}

    def whole(name: str) -> Callable[[bytes], bool]:
        def take(data: bytes) -> bool:
            for file, good in files.items():
                (raw / file).write_bytes(data if file == name else good)
            skeleton = p0_preprocess.skeleton_of(CFG_OWN, raw)
            p0_preprocess.class_names(CFG_OWN, raw)
            return kept(read_arrays(raw, CFG_OWN), skeleton.num_joints, 2)
        return take

    single = folder / "clip"

    def take_clip(data: bytes) -> None:
        path = single.with_suffix(".npz" if data[:2] == b"PK" else ".npy")
        path.write_bytes(data)
        joints = readers.read_clip(path)
        if joints.ndim != 4 or not np.isfinite(joints).all():
            raise Different(f"read_clip gives joints of shape {joints.shape}")

    def take_adopt(data: bytes) -> None:
        for file, good in files.items():
            (raw / file).write_bytes(good)
        lines = ["name,label,subject", *(f"{n},{k},{s}" for n, k, s in zip("abcd", (0, 1, 0, 1), (1, 1, 2, 2),
                                                                           strict=True))]
        (raw / "labels.csv").write_text("\n".join(lines))
        for name in "cd":
            (raw / f"{name}.npy").write_bytes(arrays[0])
        (raw / "a.npy").write_bytes(data)
        try:
            text = adopt.recipe_text("own", raw, look(raw, ""))
            recipe.build(recipe.Config, tomli.loads(text))
        finally:
            for name in "cd":
                (raw / f"{name}.npy").unlink()

    def take_pose(data: bytes) -> None:
        path = single.with_suffix(".json" if data[:1] in b"[{" else ".csv")
        path.write_bytes(data)
        joints = as_joints(load_pose(path))
        if joints.ndim != 4 or not np.isfinite(joints).all():
            raise Different(f"load_pose gives joints of shape {joints.shape}")

    def one_array(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
        return (changed_zip if data[:2] == b"PK" else changed_npy)(data, rng, others)

    marks = [[{"x": 0.1 * v, "y": 0.2, "z": 0.3, "visibility": 0.9} for v in range(5)] for _ in range(2)]
    people = [{"people": [{"pose_keypoints_2d": [1.5, 2, 0.5] * 5}] * n} for n in (1, 2)]
    poses = [json.dumps(v).encode() for v in (marks, {"frames": [{"worldLandmarks": [m]} for m in marks]}, people,
                                              x.tolist(), [x[0].tolist(), []])]
    poses += [b"frame,hip_x,hip_y,hand_x,hand_y\n0,1,2,3,4\n1,2,3,4,5\n", b"x0;y0;v0\n1;2;0.5\n", b"1,2,3,4,5,6\n" * 3]
    clips = [*arrays, saved(np.savez, x), saved(np.savez, joints=x, other=x)]
    return [Target("npy", arrays, whole("a.npy"), changed_npy), Target("labels", [table], whole("labels.csv")),
            Target("skeleton", about, whole("skeleton.json"), changed_json),
            Target("pose", poses, take_pose), Target("clip", clips, take_clip, one_array),
            Target("adopt", arrays, take_adopt, changed_npy)]


CFG_OWN = recipe.load_config(["recipe=utd_mhad", "data.name=own", "data.num_classes=2", 'data.skeleton=""'])


# ---------------------------------------------------------------------------------------------------------------------
# What the library wrote itself
# ---------------------------------------------------------------------------------------------------------------------

def store_targets(folder: Path) -> list[Target]:
    good = write_store(folder / "store", clips=8)
    cfg = recipe.load_config([*TINY, f"data.store={good}"])
    files = {name: (good / name).read_bytes() for name in ("meta.json", "clips.npz", "frames.npy")}

    def whole(name: str) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            for file, bytes_of in files.items():
                (good / file).write_bytes(data if file == name else bytes_of)
            store = open_store(cfg)
            train = splits(store, cfg)[0]
            run_room.identity("phase1", store, train)
            view = ClipView(store, cfg.view)
            next(iter(Batches(view, train, 4, training=True)()))
        return take

    mutators = {"meta.json": changed_json, "clips.npz": changed_zip, "frames.npy": changed_npy}
    return [Target(f"store {name}", [files[name]], whole(name), change) for name, change in mutators.items()]


def network_targets(folder: Path) -> list[Target]:
    cfg = recipe.load_config([*TINY, f"data.store={folder / 'store'}"])
    skeleton = SKELETONS["ntu25"]
    model = build_model(cfg, skeleton, 3)
    text = json.dumps(recipe.dataclasses.asdict(cfg))
    final = {"recipe": text, "skeleton": json.dumps(skeleton.to_dict()), "classes": ["a", "b", "c"],
             "model": model.state_dict()}
    (folder / "run").mkdir()

    def training(path: Path) -> last.Training:
        return last.Training(model, None, cfg.train, path, json.loads(text), 0, 3, {"clips": "x"})

    training(folder / "run").save()
    last_pt = torch.load(folder / "run" / "last.pt", weights_only=True)

    def take_final(data: bytes) -> None:
        (folder / "run" / "final.pt").write_bytes(data)
        load_run(folder / "run")
        init_from(build_model(cfg, skeleton, 3), folder / "run", cfg, skeleton, ["a", "b", "c"])

    def take_last(data: bytes) -> None:
        (folder / "run" / "last.pt").write_bytes(data)
        training(folder / "run")

    def change(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
        if rng.random() < 0.4:
            return changed_zip(data, rng, others)
        state = torch.load(io.BytesIO(data), weights_only=True)
        key = rng.choice(list(state))
        if key in ("recipe", "skeleton"):
            state[key] = json.dumps(changed(json.loads(state[key]), rng))
        elif isinstance(state[key], dict) and key in ("model", "optimizer", "at") and state[key] and rng.random() < 0.8:
            inner = rng.choice(list(state[key]))
            value = state[key][inner]
            odd = value.flatten()[:3] if isinstance(value, torch.Tensor) else changed([value], rng)
            state[key][inner] = rng.choice((odd, None, "a", torch.zeros(2, dtype=torch.int8)))
        else:
            other = rng.choice((None, {}, "{}", 3, []))
            state[key] = changed(state[key], rng) if isinstance(state[key], list) else other
        return saved(lambda f: torch.save(state, f))

    seeds = [saved(lambda f: torch.save(final, f))], [saved(lambda f: torch.save(last_pt, f))]
    return [Target("final.pt", seeds[0], take_final, change), Target("last.pt", seeds[1], take_last, change)]


def exported_targets(folder: Path) -> list[Target]:
    skeleton = SKELETONS["ntu25"]
    view = {"frames": 8, "bodies": 2, "sampling": "uniform", "smooth": 0, "heading": True, "trunk_scale": True,
            "extent": False}
    about = {"skeleton": skeleton.to_dict() | {"centre": skeleton.centre, "trunk": skeleton.trunk},
             "classes": ["a", "b", "c"], "view": view, "recorded": {"unit": "cm", "reference": []},
             "retarget": exported_tables(skeleton)}
    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(shape=["b", 2, 8, 25, 3])],
                              run=lambda names, feed: [np.tile(feed["joints"].sum((1, 2, 3))[:, :1], 3)])
    np.save(folder / "seen.npy", np.random.default_rng(0).normal(size=(5, 25, 3)).astype("f4"))
    np.save(folder / "other.npy", np.random.default_rng(0).normal(size=(5, 33, 3)).astype("f4"))

    def take(data: bytes) -> None:
        model = object.__new__(exported.ExportedModel)
        model.session = session
        table = json.loads(data)
        model.read_metadata(Path("model.onnx"), {k: json.dumps(v) for k, v in table.items()}
                            if isinstance(table, dict) else {})
        for name in ("seen.npy", "other.npy"):
            model.top(model.read(folder / name), 2)

    def change(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
        return json.dumps(changed(json.loads(data), rng)).encode()

    three = SimpleNamespace(skeleton={"joints": ["a", "b", "c"]}, recorded=Recorded())

    def take_line(data: bytes) -> None:
        text = data.decode(errors="replace")
        frame, naive = live.frame_of(text, (3,), three), np.array(json.loads(text), np.float32)
        if naive.size and naive.shape[-1] == 4:  # the fourth number is a score
            naive = np.where(naive[..., 3:] > 0, naive[..., :3], 0)
        naive = np.pad(naive, [(0, 0)] * (naive.ndim - 1) + [(0, 1)]) if naive.size and naive.shape[-1] == 2 else naive
        if frame.shape[1:] != (3, 3) or naive.size and not np.array_equal(frame, naive.reshape(-1, 3, 3)):
            raise Different(f"a stream's line is read as shape {frame.shape}")

    frames = [b"[[0.1, 0.2, 0.3], [1, 2, 3], [0, 0, 0]]", b"[[[1, 2, 3], [4, 5, 6], [7, 8, 9]], "
              b"[[0, 0, 0], [1e-3, 2, 3], [0, 0, 1]]]", b"[]", b"[[], []]"]
    return [Target("exported", [json.dumps(about).encode()], take, change),
            Target("stream", frames, take_line, changed_json)]


def exported_tables(skeleton: Skeleton) -> dict:
    return retarget_tables(skeleton, [SKELETONS[name] for name in ("mediapipe33", "coco17")])


def recipe_targets(folder: Path) -> list[Target]:
    path = folder / "r.toml"
    files = [p.read_bytes() for p in sorted((ROOT / "recipes").glob("*.toml"))]

    def take(data: bytes) -> None:
        path.write_bytes(data)
        cfg = recipe.load_config([f"recipe={path}"])
        json.dumps(recipe.dataclasses.asdict(cfg), allow_nan=False)  # every number is finite

    def take_words(data: bytes) -> None:
        words = data.decode(errors="replace").split("\n")
        json.dumps(recipe.dataclasses.asdict(recipe.load_config(words)), allow_nan=False)

    def take_options(data: bytes) -> None:
        predict.options(data.decode(errors="replace").split("\n"))

    words = [b"recipe=lite_nano\ndata.name=tiny\ntrain.lr=0.05\nview.rotate=[1, 2, 3]\ndata.leaked=[0]\nseed=1",
             b'recipe=base\nstreams=all\nweights=[1, 1, 1, 2.5]\ndata.protocols.x={field="subject", train=[1]}',
             b"recipe=lite_small\ndata=nw_ucla\ndata.validate.subject=[3]\nmodel.dropout=1e-3\ndevice=cpu"]
    told = [b"model=model.onnx\nclip=x.npy\ntop=3\nformat=csv",
            b"model=m.onnx\nstream=true\nhold=2\nsure=0.5\nwindow=9"]
    return [Target("recipe", files, take), Target("overrides", words, take_words),
            Target("options", told, take_options)]


def make_targets(folder: Path, wanted: list[str]) -> list[Target]:
    torch.set_num_threads(1)
    made = [*ntu_targets(folder), *ucla_targets(folder), *packed_targets(folder), *own_targets(folder),
            *store_targets(folder), *network_targets(folder), *exported_targets(folder), *recipe_targets(folder)]
    known = [target.name for target in made]
    for name in wanted:
        if name not in known:
            raise ValueError(f"targets = {name!r}{nearest(name, known)}")
    return [target for target in made if not wanted or target.name in wanted]
