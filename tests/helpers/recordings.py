"""What the tests of phase 0 and its readers share: raw recordings to read, and a store read back."""
import json
import lzma
from pathlib import Path

import numpy as np

from phases import p0_preprocess as p0

SAMPLES = {  # name: bodies
    "S001C001P001R001A001": 1, "S001C001P001R001A011": 1, "S001C001P001R001A050": 2, "S002C001P003R001A003": 1,
    "S003C001P015R001A034": 1, "S004C002P003R001A017": 1, "S017C003P020R002A055": 2}
OWN = ("recipe=utd_mhad", "data.name=own", "data.num_classes=2")  # arguments to read own_folder


def ntu_text(frames: list[dict[int, np.ndarray]], newline: str = "\n") -> bytes:
    """NTU text of frames {body id: (25, 3) numbers or their spellings}."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies.items():
            lines += [f"{body} 0 1 1 1 1 0 0.02764709 -0.05745083 2", "25"]

            # beside the place: depth and colour images, orientation, tracking state
            for xyz in joints:
                words = [x if isinstance(x, str) else repr(float(x)) for x in xyz]
                lines.append(" ".join([*words, "277.4 191.8 1036.2 519.1 -0.2 0.05 0.97 -0.12 2"]))
    return (newline.join(lines) + newline).encode()


def walker(length: int, seed: int = 0) -> list[dict[int, np.ndarray]]:
    """Frames of one body that sways, 1.7 m tall and 0.5 m wide."""
    rng = np.random.default_rng(seed)
    rest = np.stack([rng.uniform(-0.25, 0.25, 25), np.linspace(-0.85, 0.85, 25), rng.uniform(2.9, 3.1, 25)], 1)
    return [{7: np.float32(rest + 0.2 * np.sin(t / 3 + seed))} for t in range(length)]


def write_ntu(folder: Path, names: list[str], length: int = 3) -> Path:
    """A folder of .skeleton files, one walker per name."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / f"{name}.skeleton").write_bytes(ntu_text(walker(length, i)))
    return folder


def names(n: int) -> list[str]:
    """n names of NTU-60 clips."""
    return [f"S{1 + i % 17:03d}C{1 + i % 3:03d}P{1 + i % 40:03d}R{1 + i % 2:03d}A{1 + i % 60:03d}" for i in range(n)]


def sample(data_folder: Path, name: str) -> bytes:
    """The text of a real recording, one of SAMPLES."""
    return lzma.decompress((data_folder / "ntu-samples" / f"{name}.skeleton.xz").read_bytes())


def phase0(*args: object) -> tuple[int, str]:
    """Runs phase 0 in this process: exit code, and the one line of an error."""
    try:
        return p0.main([str(a) for a in args]), ""
    except (ValueError, OSError) as e:
        assert "\n" not in str(e)
        return 2, str(e)


def contents(store: Path) -> tuple[bytes, dict[str, list], dict]:
    """A store's bytes of joints, table of clips, and metadata."""
    meta = json.loads((store / "meta.json").read_text())
    with np.load(store / "clips.npz") as z:
        return (store / "frames.npy").read_bytes(), {k: z[k].tolist() for k in z.files}, meta


def clips(store: Path) -> dict[str, np.ndarray]:
    """{clip: joints (M, L, V, 3)}, read as the store's documentation says."""
    frames = np.load(store / "frames.npy", mmap_mode="r")
    with np.load(store / "clips.npz") as z:
        table = zip(z["name"], z["length"], z["offset"], strict=True)
        return {str(n): np.stack([frames[o:o + L] for o in offset if o >= 0]) for n, L, offset in table}


def skips(store: Path) -> dict[str, tuple[int, str]]:
    """{file: (line, reason)} of what a store left out."""
    return {s["file"]: (s["line"], s["reason"]) for s in contents(store)[2]["skipped"]}


def own_folder(folder: Path, labels: str, **arrays: np.ndarray) -> Path:
    """Anyone's own clips: labels.csv, skeleton.json of two classes, and an .npy file per array."""
    folder.mkdir()
    (folder / "labels.csv").write_text(labels)
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": "kinect20", "classes": ["wave", "sit"]}))

    for name, x in arrays.items():
        np.save(folder / f"{name}.npy", x)
    return folder
