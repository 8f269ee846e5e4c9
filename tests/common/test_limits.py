"""Limits: claims are checked before memory is taken; damaged and hostile bytes are one line that names the file."""
import gzip
import io
import json
import os
import pickle
import resource
import struct
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from phases.common import limits
from phases.recordings import clips, metres, ntu, nw_ucla, pickles, readers
from phases.recordings.ntu import read_ntu_file
from phases.recordings.nw_ucla import parse_nw_ucla, read_nw_ucla
from phases.recordings.peers import read_ctrgcn
from phases.recordings.settings import Data
from tests.helpers.recordings import OWN, own_folder, phase0, skips

NTU60 = Data()


def refusal(f, *args) -> str:
    """The one line of a ValueError that comes within a second and takes less than 1 GB."""
    began, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings(), pytest.raises(ValueError) as e:
        warnings.simplefilter("error")
        result = f(*args)
        if not isinstance(result, (np.ndarray, dict)):
            list(result)

    assert time.process_time() - began < 1 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1 << 20
    assert "\n" not in str(e.value)
    return str(e.value)


# --- damaged archives ---

def npz(path: Path, damage=lambda name, text: text, **arrays: np.ndarray) -> Path:
    """An .npz file whose members' bytes are damaged, under right checksums."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, array in arrays.items():
            out = io.BytesIO()
            np.save(out, array)
            z.writestr(f"{name}.npy", damage(name, out.getvalue()))
    return path


CTRGCN = {"x_train": np.zeros((2, 5, 150)), "y_train": np.zeros(2), "x_test": np.zeros((2, 5, 150)),
          "y_test": np.zeros(2)}
TORN = {"a torn header": lambda text: text[:20] + b"(" + text[21:], "a cut header": lambda text: text[:12],
        "no header": lambda text: b"", "a long claim": lambda text: text.replace(b"(2, 5", b"(2, 9"),
        "a negative claim": lambda text: text.replace(b"(2, 5", b"(2,-5"),
        "objects": lambda text: text.replace(b"'<f8'", b"'|O' ")}


@pytest.mark.parametrize("fault", TORN)
def test_a_damaged_member_of_an_archive_names_the_file(tmp_path, fault):
    path = npz(tmp_path / "a.npz", lambda name, text: TORN[fault](text) if name == "x_test" else text, **CTRGCN)
    assert "a.npz" in refusal(read_ctrgcn, path, NTU60)
    path = npz(tmp_path / "b.npz", lambda name, text: TORN[fault](text), joints=CTRGCN["x_train"])
    assert "b.npz" in refusal(readers.read_clip, path)
    (tmp_path / "c.npy").write_bytes(zipfile.ZipFile(path).read("joints.npy"))
    assert "c.npy" in refusal(readers.read_clip, tmp_path / "c.npy")


@pytest.mark.parametrize("at", [0, 4, 12, 26])
def test_bytes_flipped_in_the_headers_of_an_archive_are_one_line(tmp_path, at):
    whole = npz(tmp_path / "a.npz", **CTRGCN).read_bytes()
    for start in (whole.rindex(b"PK\x03\x04"), whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")):
        text = bytearray(whole)
        text[start + at:start + at + 4] = b"\xff\xff\xff\xff"
        (tmp_path / "a.npz").write_bytes(text)

        # some flips do no harm
        try:
            list(read_ctrgcn(tmp_path / "a.npz", NTU60))
        except ValueError as e:
            assert "a.npz" in str(e) and "\n" not in str(e)


def test_a_header_of_python_2_is_read_without_numpys_warning(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3)).astype("<f4")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 20L, 3L), }"
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "old.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + x.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(readers.read_clip(tmp_path / "old.npy")[0], x)


def test_text_with_a_number_that_is_no_character_is_refused(tmp_path):
    names = np.array([0x110000, 65], "<u4").view("<U1")
    arrays = {"data": np.zeros((2, 20, 3)), "offsets": [0, 1, 2], "names": names, "labels": [0, 1]}
    assert "no character" in refusal(clips.npz_arrays, npz(tmp_path / "a.npz", **arrays), set())


# --- claims ---

def test_an_array_that_claims_too_much_takes_no_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 20, 3)))
    good = (tmp_path / "a.npy").read_bytes()
    for claim in (b"(4000000000, 20, 3)", b"(99999999999999999999, 20, 3)", b"(0, 99999999999999999999, 3)",
                  b"(5, 20, 3)"):
        header = good[10:128].replace(b"(4, 20, 3)", claim)
        (tmp_path / "a.npy").write_bytes(good[:8] + struct.pack("<H", len(header)) + header + good[128:])
        assert "a.npy: claims shape" in refusal(readers.read_clip, tmp_path / "a.npy")


def test_a_zip_bomb_is_not_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as z, \
            z.open("joints.npy", "w", force_zip64=True) as f:
        for _ in range(100):
            f.write(bytes(1 << 20))
    assert "a.npz: claims 104857600 bytes unpacked" in refusal(readers.read_clip, tmp_path / "a.npz")


@pytest.mark.parametrize("head", [b"", b"all_sqe/a01_s01_e00_v01.json", b"././@LongLink"])
def test_an_archive_that_unpacks_without_end_is_cut_and_named(tmp_path, monkeypatch, head):
    monkeypatch.setattr(nw_ucla, "ARCHIVE", 16 << 20)
    info = tarfile.TarInfo(head.decode() or "big")
    info.size = 40 << 30
    info.type = b"L" if b"Long" in head else b"0"
    zeros = gzip.compress(bytes(4 << 20), 1)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + zeros * 10)  # 40 MB
    found = list(read_nw_ucla(tmp_path / "a.tar.gz", NTU60))
    assert [skip.file for skip in found][-1] == "a.tar.gz" and "unpacks to more than 16 MB" in found[-1].reason


def test_links_and_paths_out_of_an_archive_touch_nothing(tmp_path):
    text = json.dumps({"skeletons": np.ones((2, 20, 3)).tolist(), "label": 1}).encode()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("../../a01_s01_e00_v01.json", tarfile.REGTYPE), ("/a01_s01_e01_v01.json", tarfile.REGTYPE),
                           ("a01_s01_e02_v01.json", tarfile.SYMTYPE), ("a01_s01_e03_v01.json", tarfile.LNKTYPE),
                           ("a01_s01_e04_v01.json", tarfile.FIFOTYPE), ("a01_s01_e05_v01.json", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "/etc/passwd", len(text) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(text))

    found = list(read_nw_ucla(tmp_path / "a.tar", NTU60))
    assert sorted(c.name for c in found if isinstance(c, clips.Clip)) == ["a01_s01_e00_v01", "a01_s01_e01_v01"]
    assert [c.file[8:11] for c in found if isinstance(c, clips.Skip)] == ["e02", "e03", "e04"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


def nested(depth: int) -> list:
    """Ten references to a list of ten references to a list, and so on: 10 ** depth values in a few bytes."""
    value = [1]
    for _ in range(depth):
        value = [value] * 10
    return value


def opcodes(*words: bytes) -> bytes:
    return b"\x80\x04" + b"".join(words) + b"."


LISTS = {"split": {}, "annotations": [{"frame_dir": nested(12), "label": 0, "keypoint": np.ones((1, 2, 25, 3))}]}
LOOP: list = []
LOOP.append(LOOP)
BOMBS = {
    "an index of two thousand million": opcodes(b"]r\xff\xff\xff\x7f"),
    "an index in text": b"(lp4000000000\n.",
    "bytes of a terabyte": opcodes(b"\x8e", struct.pack("<Q", 1 << 40), b"x"),
    "a text of four gigabytes": opcodes(b"X\xff\xff\xff\xff"),
    "a frame of an exabyte": opcodes(b"\x95", struct.pack("<Q", 1 << 60), b"]"),
    "a key that takes forever to hash": opcodes(b"})", b"2\x86" * 40, b"K\x00s"),  # each tuple holds the last one twice
    "a set of such keys": opcodes(b"()", b"2\x86" * 40, b"\x91"),
    "a key of a million levels": opcodes(b"})", b"\x85" * 1_000_000, b"K\x00s"),
    "lists that unpack without end": pickle.dumps(LISTS),
    "a list in itself": pickle.dumps({"split": {}, "annotations": LOOP}),
    "a registered extension": opcodes(b"\x82\x01"),
    "a persistent name": opcodes(b"K\x01Q"),
    "an instance in text": b"(i__main__\nX\n.",
    "a function's state": opcodes(b"c_codecs\nencode\n}\x8c\x01a]sb"),
    "a type's state": opcodes(b"cnumpy\ndtype\n(N}\x8c\x0c__defaults__)stb"),
    "a cut end": pickle.dumps(LISTS)[:-1],
    "nothing": b"", "the end alone": b".", "a missing stack": opcodes(b"R"), "an unknown index": opcodes(b"h\x09"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_that_asks_too_much_is_one_line_in_a_second(tmp_path, bomb):
    (tmp_path / "a.pkl").write_bytes(BOMBS[bomb])
    assert "a.pkl: " in refusal(pickles.read_annotations, tmp_path / "a.pkl")


def test_an_array_type_of_anything_but_a_short_word_is_refused(tmp_path):
    bomb = pickle.dumps([nested(12)])[2:-1].split(b"\x95", 1)[1][8:]
    (tmp_path / "a.pkl").write_bytes(opcodes(b"cnumpy\ndtype\n", bomb, b"\x85R"))
    assert "array of type a list" in refusal(pickles.read_annotations, tmp_path / "a.pkl")


def test_text_is_read_up_to_a_limit_and_pipes_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "TEXT", 100)
    (tmp_path / "a.json").write_bytes(b"[" * 101)
    assert "101 bytes" in refusal(limits.read_bytes, tmp_path / "a.json", 100)
    os.mkfifo(tmp_path / "S001C001P001R001A001.skeleton")
    assert "no regular file" in read_ntu_file(tmp_path / "S001C001P001R001A001.skeleton").reason


def test_json_that_nests_without_end_or_is_no_text_is_one_line(tmp_path):
    for text in (b"[" * 100_000, b"\xff\xfe{", b'{"a": 1e999}', b'{"a": NaN}', b'{"a": -Infinity}'):
        (tmp_path / "a.json").write_bytes(text)
        assert refusal(limits.read_json, tmp_path / "a.json").startswith(f"{tmp_path / 'a.json'}: ")


@pytest.mark.parametrize("shape", [(101, 1, 2, 3), (1_000_001, 1, 3), (1, 1001, 3)])
def test_a_clip_of_too_many_bodies_frames_or_joints_is_refused(shape):
    assert "at most 100 bodies, 1000000 frames and 1000 joints" in refusal(metres.as_joints, np.zeros(shape, np.int8))


# --- what is infinite ---

@pytest.mark.parametrize("x", [1e13, -1e30, 1e300, np.inf, -np.inf, 10**400])
def test_a_coordinate_that_is_not_finite_or_absurd_is_refused(tmp_path, x):
    joints = np.ones((2, 20, 3)).tolist()
    joints[1][3][2] = x
    expected = "full array of real numbers" if x == 10**400 else "frame 1: a coordinate is not finite"
    assert expected in refusal(metres.as_joints, joints)
    text = json.dumps({"skeletons": joints, "label": 1}).encode()
    assert expected in refusal(parse_nw_ucla, text, "a01_s01_e00_v01")


def test_a_number_too_large_for_a_camera_is_named_by_its_line():
    text = b"1\n1\n7 0 1 1 1 1 0 0 0 2\n25\n" + b"1 2 1e30 4 5 6 7 8 9 10 11 12\n" * 25
    with pytest.raises(ntu.Malformed) as e:
        ntu.parse_ntu(text)
    assert e.value.line == 5
    with pytest.raises(ntu.Malformed):
        ntu.parse_ntu(b"9" * 5000 + b"\n")  # more digits than Python turns into a number


@pytest.mark.parametrize("change", [{"parents": [0, 1e999]}, {"regions": {"r": [0, 1e999]}}, {"pairs": [[0, 1e999]]},
                                    {"joints": ["a"] * 1001}, ["a"], 1])
def test_a_skeleton_of_infinite_numbers_is_one_line(tmp_path, change):
    skeleton = {"joints": ["a", "b"], "parents": [0, 0], "regions": {"r": [0, 1]}}
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    skeleton = skeleton | change if isinstance(change, dict) else change
    (raw / "skeleton.json").write_text(json.dumps({"skeleton": skeleton, "classes": ["wave", "sit"]}))
    code, message = phase0(*OWN, 'data.skeleton=""', f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "skeleton.json" in message


def test_an_infinite_label_and_a_body_without_size_are_skipped(tmp_path):
    x = np.ones((2, 25, 3), np.float32)
    points = [{"frame_dir": n, "label": label, "keypoint": x[None]} for n, label in (("a", 1e999), ("b", 1), ("c", 2))]
    points[2]["keypoint"] = np.where(np.arange(25)[:, None] < 2, 1e-38, 1e11 * x)[None]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": points}))

    argv = "recipe=ntu60", "data.reader=pyskl", "data.unit=body", f"raw={tmp_path / 'a.pkl'}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert phase0(*argv, f"data.store={tmp_path / 'store'}")[0] == 3
    assert "a.pkl:a" in skips(tmp_path / "store")


@pytest.mark.parametrize("text, expected", [
    (b'name,label\n"' + b"x" * 200_000 + b'",wave\n', "field larger than"),
    (b"name,label" + b"," * 200 + b"\na,wave\n", "100 columns"),
    (b"name,label\n" + b"\n" * 2_000_001, "a million lines"), (b'name,label\na\0,wave\n', "")])
def test_a_table_that_is_none_or_too_large_is_one_line(tmp_path, text, expected):
    raw = own_folder(tmp_path / "raw", "", a=np.ones((4, 20, 3)))
    (raw / "labels.csv").write_bytes(text)
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and expected in message and "\n" not in message
