"""What `just fuzz` feeds the loaders of what the library wrote: stores, runs, exported files, recipes; and options."""
from __future__ import annotations

import dataclasses
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from last import Training
from phases import predict
from phases.common.command import parse
from phases.common.files import ROOT
from phases.recordings.frame_lines import FrameLines, NoFrameError
from phases.recordings.metres import Recorded
from phases.shipping.exported import ExportedModel
from phases.shipping.live import checked
from phases.training.batches import Batches
from phases.training.clip_store import open_store, splits
from phases.training.networks import build_model, load_run
from phases.training.recipe import Config, load_config
from phases.training.run_folder import identity_of
from phases.training.transfer import init_from
from phases.training.view import ClipView
from skeletons import SKELETONS, retarget_tables
from tests.helpers.clip_stores import write_store
from tests.tools.fuzz_recordings import Different, saved
from tests.tools.mutations import Target, changed, changed_json, changed_npy, changed_zip, damaged

NTU = SKELETONS["ntu25"]
TINY = ["recipe=lite_nano", "data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.batch=4",
        "train.epochs=1"]
RECIPES = [
    b"recipe=lite_nano\ndata.name=tiny\ntrain.lr=0.05\nview.rotate=[1, 2, 3]\ndata.leaked=[0]\nseed=1",
    b'recipe=base\nstreams=all\nweights=[1, 1, 1, 2.5]\ndata.protocols.x={field="subject", train=[1]}',
    b"recipe=lite_small\ndata=nw_ucla\ndata.validate.subject=[3]\nmodel.dropout=1e-3\ndevice=cpu"]
OPTIONS = [
    b"model=model.onnx\nclip=x.npy\ntop=3\nformat=csv",
    b"model=m.onnx\nstream=true\nhold=2\nsure=0.5\nwindow=9\nfps=25"]
FRAMES = [  # lines of a stream
    b"[[0.1, 0.2, 0.3], [1, 2, 3], [0, 0, 0]]",
    b"[[[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[0, 0, 0], [1e-3, 2, 3], [0, 0, 1]]]",
    b'{"t": 1.5, "joints": [[0.1, 0.2, 0.3], [1, 2, 3], [0, 0, 0]]}',
    b"[]",
    b"[[], []]",
    b'{"landmarks": [[{"x": 0.1, "y": 0.2, "z": 0, "visibility": 0.9}, {"x": 1, "y": 2}, null]], "worldLandmarks": '
    b'[[{"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 2, "z": 3}]]}',
    b'{"people": [{"pose_keypoints_2d": [1, 2, 0.5, 3, 4, 0.5, 5, 6, 0], "hand_left_keypoints_2d": [1, 2, 1]}]}',
    b'[{"keypoints": [1, 2, 0.5, 3, 4, 0.5, 5, 6, 0]}]',
    b'{"image_id": "1.jpg", "keypoints": [1, 2, 0.5, 3, 4, 0.5, 5, 6, 0], "score": 2, "idx": 1}\n'
    b'{"image_id": "3.jpg", "keypoints": [1, 2, 0.5, 3, 4, 0.5, 5, 6, 0], "score": 2, "idx": [2]}',
    b'[{"name": "person", "track_id": 1, "keypoints": {"x": [1, 2, 3], "y": [4, 5, 6], "visible": [1, 1, 0]}}]',
    b'{"frame_index": 2, "skeleton": [{"pose": [1, 2, 3, 4, 5, 6], "score": [1, 1, 0]}]}',
    b'{"joint_names": ["A", "B", "C"], "bone_list": [["A", "B"], ["B", "C"]]}\n'
    b'{"frame_id": 0, "bodies": [{"body_id": 3, "joint_positions": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}]}',
    b"a_x,a_y,b_x,b_y,c_x,c_y\n1,2,3,4,5,6\n,,3,4,5,6",
    b"1,2,3,4,5,6,7,8,9\n2,3,4,5,6,7,8,9,1",
    b"frame,person,joint,x,y,z\n0,1,a,1,2,3\n0,1,b,1,2,3\n2,1,a,1,2,3\n2,2,c,1,2,nan"]


def written_targets(folder: Path) -> list[Target]:
    """The loaders of stores, runs, exported files, streams, recipes and options; they write below a folder."""
    torch.set_num_threads(1)
    store = write_store(folder / "store", clips=8)
    cfg = load_config([*TINY, f"data.store={store}"])
    return [*store_targets(store, cfg), *run_targets(folder / "run", cfg), exported_target(folder), stream_target(),
            *recipe_targets(folder)]


# ---------------------------------------------------------------------------------------------------------------------
# Stores and runs
# ---------------------------------------------------------------------------------------------------------------------

def store_targets(store: Path, cfg: Config) -> list[Target]:
    """A store with one file changed is opened, split, and gives a batch."""
    mutators = {"meta.json": changed_json, "clips.npz": changed_zip, "frames.npy": changed_npy}
    files = {name: (store / name).read_bytes() for name in mutators}

    def store_with(name: str) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            for file, good in files.items():
                (store / file).write_bytes(data if file == name else good)
            opened = open_store(cfg)
            train, *_ = splits(opened, cfg)
            identity_of("phase1", opened, train)
            next(iter(Batches(ClipView(opened, cfg.view), train, 4, training=True)()))
        return take

    return [Target(f"store {name}", [files[name]], store_with(name), mutate) for name, mutate in mutators.items()]


def changed_checkpoint(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A checkpoint with other bytes, or with another value of an entry or of something in it."""
    if rng.random() < 0.4:
        return changed_zip(data, rng, others)
    state = torch.load(io.BytesIO(data), weights_only=True)
    key = rng.choice(list(state))

    # JSON as text; a table of tensors or of progress; anything else
    if key in ("recipe", "skeleton"):
        state[key] = json.dumps(changed(json.loads(state[key]), rng))
    elif isinstance(state[key], dict) and state[key] and rng.random() < 0.8:
        inner = rng.choice(list(state[key]))
        value = state[key][inner]
        odd = value.flatten()[:3] if isinstance(value, torch.Tensor) else changed([value], rng)
        state[key][inner] = rng.choice((odd, None, "a", torch.zeros(2, dtype=torch.int8)))
    else:
        other = rng.choice((None, {}, "{}", 3, []))
        state[key] = changed(state[key], rng) if isinstance(state[key], list) else other
    return saved(lambda f: torch.save(state, f))


def run_targets(folder: Path, cfg: Config) -> list[Target]:
    """final.pt is loaded as a run and as a start; a training goes on from last.pt."""
    folder.mkdir()
    classes = ["a", "b", "c"]
    recipe = json.dumps(dataclasses.asdict(cfg))
    model = build_model(cfg, NTU, 3)

    def opened() -> Training:
        """A new training, or the one in last.pt."""
        training = Training(model, None, cfg.train, folder, 0, 3, json.loads(recipe) | {"clips": "x"})
        training.open(folder, json.loads(recipe))
        return training

    def take_final(data: bytes) -> None:
        (folder / "final.pt").write_bytes(data)
        load_run(folder)
        init_from(build_model(cfg, NTU, 3), folder, cfg, NTU, classes)

    def take_last(data: bytes) -> None:
        (folder / "last.pt").write_bytes(data)
        opened()

    # what a run leaves
    opened().save()
    last = torch.load(folder / "last.pt", weights_only=True)
    final = {"recipe": recipe, "skeleton": json.dumps(NTU.to_dict()), "classes": classes, "model": model.state_dict()}
    return [Target("final.pt", [saved(lambda f: torch.save(final, f))], take_final, changed_checkpoint),
            Target("last.pt", [saved(lambda f: torch.save(last, f))], take_last, changed_checkpoint)]


# ---------------------------------------------------------------------------------------------------------------------
# Exported files and streams
# ---------------------------------------------------------------------------------------------------------------------

def exported_target(folder: Path) -> Target:
    """The metadata of an exported file, before a session that answers without a network."""
    # what phase 4 writes
    view = {"frames": 8, "bodies": 2, "sampling": "uniform", "smooth": 0, "heading": True, "trunk_scale": True,
            "extent": False}
    others = [SKELETONS[name] for name in ("mediapipe33", "coco17")]
    about = {"skeleton": NTU.to_dict() | {"centre": NTU.centre, "trunk": NTU.trunk}, "classes": ["a", "b", "c"],
             "view": view, "recorded": {"unit": "cm", "reference": []}, "retarget": retarget_tables(NTU, others),
             "threshold": 0.5, "length": 60, "fps": 30}

    # a clip of its skeleton and one of another
    clips = {"seen.npy": 25, "other.npy": 33}
    for name, V in clips.items():
        np.save(folder / name, np.random.default_rng(0).normal(size=(5, V, 3)).astype("f4"))
    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(shape=["bodies", "frames", 25, 3])],
                              run=lambda names, feed: [feed["joints"].sum((0, 1, 2)), np.zeros(4), np.zeros(())])

    def take(data: bytes) -> None:
        model = object.__new__(ExportedModel)
        model.session = session
        table = json.loads(data)
        entries = table.items() if isinstance(table, dict) else ()
        model.read_metadata(Path("model.onnx"), {key: json.dumps(value) for key, value in entries})
        for name in clips:
            model.top(model.read(folder / name), 2)

    def change(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
        return json.dumps(changed(json.loads(data), rng)).encode()

    return Target("exported", [json.dumps(about).encode()], take, change)


def frame_naively(text: str) -> np.ndarray | None:
    """(M, 3, 3) of a line of a stream, joint by joint; None where a whole joint or body is missing."""
    try:
        frame = np.array(json.loads(text), np.float32)
    except (ValueError, TypeError):
        return None
    if np.isnan(frame).all():
        return np.zeros((0, 3, 3), np.float32)

    # a joint with a score of 0, or without a number, is 0; a missing third number is 0
    joints = []
    for x in frame.reshape(-1, frame.shape[-1]):
        missing = np.isnan(x).any() or len(x) == 4 and x[3] <= 0
        joints.append([0, 0, 0] if missing else [*x, 0][:3])
    return np.float32(joints).reshape(-1, 3, 3)


def stream_target() -> Target:
    """Lines of a stream, for a network of three joints."""
    network = SimpleNamespace(skeleton={"joints": ["a", "b", "c"]}, recorded=Recorded())

    def take(data: bytes) -> None:
        text = data.decode(errors="replace")
        reader = FrameLines(network.skeleton["joints"])
        lines = [line for line in text.split("\n") if line.strip()]
        try:
            found = [frame for line in lines for frame in reader.add(line)] + reader.end()
        except NoFrameError:  # live.py says what a frame may be
            raise ValueError("a line is no frame") from None
        frames = [checked(frame, (3,), network).joints for frame in found]
        naive = frame_naively(text)
        for frame in frames:
            if frame.shape[1:] != (3, 3) or naive is not None and not np.array_equal(frame, naive):
                raise Different(f"a stream's line is read as shape {frame.shape}")

    def change(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
        """Of one line of JSON its values, too; of several lines and of tables the bytes."""
        is_json = data[:1] in (b"[", b"{") and b"\n" not in data
        return changed_json(data, rng, others) if is_json else damaged(data, rng, others)

    return Target("stream", FRAMES, take, change)


# ---------------------------------------------------------------------------------------------------------------------
# Recipes and options
# ---------------------------------------------------------------------------------------------------------------------

def recipe_targets(folder: Path) -> list[Target]:
    """A recipe's file, the words of a recipe and those of `just predict`, one a line."""
    path = folder / "r.toml"
    files = [p.read_bytes() for p in sorted((ROOT / "recipes").glob("*.toml"))]

    def raise_if_infinite(cfg: Config) -> None:
        json.dumps(dataclasses.asdict(cfg), allow_nan=False)

    def take_file(data: bytes) -> None:
        path.write_bytes(data)
        raise_if_infinite(load_config([f"recipe={path}"]))

    def take_words(data: bytes) -> None:
        raise_if_infinite(load_config(data.decode(errors="replace").split("\n")))

    def take_options(data: bytes) -> None:
        parse(predict.Options, data.decode(errors="replace").split("\n"))

    return [Target("recipe", files, take_file), Target("overrides", RECIPES, take_words),
            Target("options", OPTIONS, take_options)]
