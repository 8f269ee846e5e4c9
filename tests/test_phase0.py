"""Phase 0: what is read is what was written, what cannot be read is named by file, line and reason, and a store appears whole or not at all."""
import io
import json
import lzma
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
from pathlib import Path

import ntu
import numpy as np
import p0_preprocess as p0
import protocols
import pytest
import readers
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import reference_parse

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = {"S001C001P001R001A001": 1, "S001C001P001R001A011": 1, "S001C001P001R001A050": 2, "S002C001P003R001A003": 1,
           "S003C001P015R001A034": 1, "S004C002P003R001A017": 1, "S017C003P020R002A055": 2}  # name: bodies


def ntu_text(frames: list[dict[int, np.ndarray]], newline: str = "\n") -> bytes:
    """NTU text of frames {body id: (25, 3) numbers or their spellings}."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies.items():
            lines += [f"{body} 0 1 1 1 1 0 0.02764709 -0.05745083 2", "25"]
            lines += [" ".join([*(x if isinstance(x, str) else repr(float(x)) for x in xyz), "277.4 191.8 1036.2 519.1 -0.2 0.05 0.97 -0.12 2"])
                      for xyz in joints]
    return (newline.join(lines) + newline).encode()


def walker(length: int, seed: int = 0) -> list[dict[int, np.ndarray]]:
    """Frames of one body that sways, 1.7 m tall and 0.5 m wide."""
    rng = np.random.default_rng(seed)
    rest = np.stack([rng.uniform(-0.25, 0.25, 25), np.linspace(-0.85, 0.85, 25), rng.uniform(2.9, 3.1, 25)], 1)
    return [{7: np.float32(rest + 0.2 * np.sin(t / 3 + seed))} for t in range(length)]


def write_ntu(folder: Path, names, length: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / f"{name}.skeleton").write_bytes(ntu_text(walker(length, i)))
    return folder


def sample(data_folder: Path, name: str) -> bytes:
    return lzma.decompress((data_folder / "ntu-samples" / f"{name}.skeleton.xz").read_bytes())


def field_joints(path: Path) -> dict[int, dict[int, np.ndarray]]:
    """{body id: {frame: (25, 3)}} by the field's parser."""
    bodies: dict[int, dict[int, np.ndarray]] = {}
    text = re.sub(rb"(?m)^(\d{15,}) ", lambda m: b"%d " % (int(m[1]) % 1_000_000), path.read_bytes())  # ids beyond a float's digits
    path.write_bytes(text)
    for t, frame in enumerate(reference_parse(path)):
        for body in frame:
            bodies.setdefault(int(body["body_id"]), {})[t] = np.array([[j["x"], j["y"], j["z"]] for j in body["joints"]])
    return bodies


def phase0(*args: object) -> tuple[int, str]:
    """Exit code, and the one line of an error, of phase 0 run in this process."""
    try:
        return p0.main([str(a) for a in args]), ""
    except (ValueError, OSError) as e:
        assert "\n" not in str(e)
        return 2, str(e)


def contents(store: Path) -> tuple[bytes, dict[str, list], dict]:
    with np.load(store / "clips.npz") as z:
        return (store / "frames.npy").read_bytes(), {k: z[k].tolist() for k in z.files}, json.loads((store / "meta.json").read_text())


def clips(store: Path) -> dict[str, np.ndarray]:
    """{clip: joints (M, L, V, 3)} as the store's own documentation says to read them."""
    frames = np.load(store / "frames.npy", mmap_mode="r")
    with np.load(store / "clips.npz") as z:
        table = zip(z["name"], z["length"], z["offset"], strict=True)
        return {str(n): np.stack([frames[o:o + L] for o in offset if o >= 0]) for n, L, offset in table}


def skips(store: Path) -> dict[str, tuple[int, str]]:
    return {s["file"]: (s["line"], s["reason"]) for s in contents(store)[2]["skipped"]}


# ---------------------------------------------------------------------------------------------------------------------
# NTU text
# ---------------------------------------------------------------------------------------------------------------------

def test_joints_of_real_files_equal_those_of_an_independent_extractor(data_folder):
    with np.load(data_folder / "ntu-samples" / "expected-joints.npz") as z:
        for key in (k for k in z.files if k.endswith("/joints")):
            name, body, _ = key.split("/")
            times, joints = ntu.parse_ntu(sample(data_folder, name))[1][body]
            np.testing.assert_array_equal(joints.reshape(-1, 3), z[key])
            np.testing.assert_array_equal(times, z[key.replace("joints", "frames")])


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_the_samples_equal_the_fields_parser_bit_for_bit_with_either_line_end(data_folder, tmp_path, name, newline):
    data = sample(data_folder, name).replace(b"\r\n", b"\n").replace(b"\n", newline)
    (tmp_path / "clip").write_bytes(data)
    expected = field_joints(tmp_path / "clip")
    frames, bodies = ntu.parse_ntu(data)
    assert len(bodies) == len(expected) == SAMPLES[name] and frames == max(max(b) for b in expected.values()) + 1
    for body, (times, joints) in bodies.items():
        frames_of = expected[int(body) % 1_000_000]
        np.testing.assert_array_equal(joints, np.float32([frames_of[t] for t in times]))
        assert joints.dtype == np.float32 and times.tolist() == sorted(frames_of)
    assert ntu._parse_plain(data) is not None, "the quick path reads what the camera wrote"


def test_both_line_ends_stand_among_the_samples(data_folder):
    assert {b"\r\n" in sample(data_folder, n) for n in SAMPLES} == {True, False}


@given(st.lists(st.from_regex(r"\A-?[0-9]{1,3}(\.[0-9]{0,17})?(e-?[0-9])?\Z"), min_size=3, max_size=75))
def test_any_spelling_of_a_number_is_read_as_float_reads_it(words):
    words = (words * 75)[:75]
    data = ntu_text([{1: np.array(words, object).reshape(25, 3)}])
    expected = np.float32([float(w) for w in words]).reshape(1, 25, 3)
    np.testing.assert_array_equal(ntu.parse_ntu(data)[1]["1"][1], expected)
    np.testing.assert_array_equal(np.float32(ntu._parse_careful(data)[3]), expected)


@given(st.integers(0, 10**9), st.sampled_from(["%.7g", "%.9g", "%.4f", "%.15f", "%e", "%r"]))
def test_plain_decimals_of_any_length_are_exact_in_double_precision(seed, spelling):
    x = np.random.default_rng(seed).normal(0, 3, (1, 25, 3)) * 10.0 ** np.random.default_rng(seed).integers(-3, 2, (1, 25, 3))
    words = [spelling % v for v in x.ravel().tolist()]
    data = ntu_text([{1: np.array(words, object).reshape(25, 3)}])
    np.testing.assert_array_equal(ntu._parse_plain(data)[3].ravel(), [float(w) for w in words])


@given(st.data())
def test_bodies_that_come_and_go_keep_their_frames_through_the_text(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    present = data.draw(st.lists(st.sets(st.integers(0, 5), max_size=4), max_size=6))
    frames = [{b: np.float32(rng.normal(0, 2, (25, 3))) for b in sorted(bodies)} for bodies in present]
    count, bodies = ntu.parse_ntu(ntu_text(frames, data.draw(st.sampled_from(["\n", "\r\n"]))))
    assert count == len(frames) and set(bodies) == {str(b) for f in frames for b in f}
    for body, (times, joints) in bodies.items():
        assert times.tolist() == [t for t, f in enumerate(frames) if int(body) in f]
        np.testing.assert_array_equal(joints, [frames[t][int(body)] for t in times])


def test_a_file_cut_after_any_line_is_reported_with_that_line():
    lines = ntu_text([*walker(2), {}, {1: np.zeros((25, 3)), 2: np.ones((25, 3))}]).splitlines(keepends=True)
    ntu.parse_ntu(b"".join(lines))
    for n in range(len(lines)):
        with pytest.raises(ntu.Malformed) as e:
            ntu.parse_ntu(b"".join(lines[:n]))
        assert e.value.line == max(n, 1) and ("ends here" in e.value.reason or "empty" in e.value.reason)


def test_a_file_cut_at_any_byte_is_reported_unless_only_blanks_or_digits_of_the_last_field_are_lost():
    data = ntu_text(walker(1))
    whole = ntu.parse_ntu(data)[1]["7"][1]
    for n in range(len(data)):
        try:
            joints = ntu.parse_ntu(data[:n])[1]["7"][1]
        except ntu.Malformed as e:
            assert 1 <= e.line <= data.count(b"\n")
        else:
            assert n == len(data) - 1
            np.testing.assert_array_equal(joints, whole)


FAULTS = {  # line of a text of two frames with a body each, what stands there instead, line and reason reported
    "words for a frame count": (1, b"many", 1, "frames"), "more frames than there are": (1, b"3", 57, "ends here"),
    "fewer frames than there are": (1, b"1", 30, "after the last"), "a negative frame count": (1, b"-2", 1, "frames"),
    "absurdly many bodies": (2, b"4000000000", 2, "bodies"), "a negative number of bodies": (2, b"-1", 2, "bodies"),
    "underscores in a count": (4, b"2_5", 4, "joints"), "a body line short of a field": (3, b"7 0 1 1 1 1 0 0.02 2", 3, "10 fields, here are 9"),
    "another joint count": (4, b"24", 4, "25 joints, here are 24"), "an infinite joint count": (4, b"inf", 4, "joints"),
    "a joint line short of a field": (9, b"1 2 3 4 5 6 7 8 9 10 11", 9, "12 numbers, here are 11"),
    "a joint line with one too many": (9, b"1 2 3 4 5 6 7 8 9 10 11 12 13", 9, "12 numbers, here are 13"),
    "an empty line": (9, b"", 9, "here are 0"), "a short line with a blank at its end": (9, b"1 2 3 4 5 6 7 8 9 10 11 ", 9, "here are 11"),
    "a word for a coordinate": (12, b"1 left 3 4 5 6 7 8 9 10 11 12", 12, "'1 left 3'"),
    "not a number": (12, b"1 2 nan 4 5 6 7 8 9 10 11 12", 12, "finite"), "infinity": (12, b"-Infinity 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "underscores in a number": (12, b"1_0.5 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "a dot alone": (12, b". 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "two dots": (12, b"1.2.3 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"), "a sign inside": (12, b"1.2-3 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "bytes that are no text": (12, b"\xff\xfe 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"), "garbage at the end": (58, b"end", 58, "after the last"),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reported_with_its_line_and_reason(fault, newline):
    at, instead, line, reason = FAULTS[fault]
    lines = ntu_text(walker(2), newline).split(newline.encode())[:-1]
    lines[at - 1:at] = [instead]
    with pytest.raises(ntu.Malformed, match=re.escape(reason)) as e:
        ntu.parse_ntu(newline.encode().join([*lines, b""]))
    assert e.value.line == line


def test_a_body_twice_in_one_frame_is_reported():
    text = ntu_text([{1: np.zeros((25, 3)), 2: np.ones((25, 3))}]).replace(b"\n2 0 1", b"\n1 0 1")
    with pytest.raises(ntu.Malformed, match="twice") as e:
        ntu.parse_ntu(text)
    assert e.value.line == 30


@pytest.mark.parametrize("change", [lambda d: d.replace(b" ", b"  "), lambda d: d.replace(b" ", b"\t"), lambda d: d.replace(b"\n", b" \n"),
                                    lambda d: d.replace(b"\n", b"\r\n", 9), lambda d: d + b"\n \r\n\n", lambda d: d.rstrip(b"\n")])
def test_other_blanks_than_the_cameras_are_coped_with(change):
    data = ntu_text(walker(2))
    np.testing.assert_array_equal(ntu.parse_ntu(change(data))[1]["7"][1], ntu.parse_ntu(data)[1]["7"][1])


def test_parsing_is_several_times_as_fast_as_the_fields_parser(data_folder, tmp_path):
    data = sample(data_folder, "S001C001P001R001A001")
    (tmp_path / "clip").write_bytes(data)

    def best(f) -> float:
        spent = []
        for _ in range(12):
            start = time.process_time()
            f()
            spent.append(time.process_time() - start)
        return min(spent)
    assert best(lambda: reference_parse(tmp_path / "clip")) > 4 * best(lambda: ntu.parse_ntu(data))  # `just bench` measures it well


# ---------------------------------------------------------------------------------------------------------------------
# Bodies
# ---------------------------------------------------------------------------------------------------------------------

def naive_actors(frames: list[dict[int, np.ndarray]]) -> list[list[np.ndarray]]:
    """The actors of a clip, frame by frame, from the sentence in the pipeline's description."""
    tracks = {}
    for t, bodies in enumerate(frames):
        for body, joints in bodies.items():
            tracks.setdefault(body, {})[t] = joints
    motion = {b: sum(np.var(np.concatenate(list(f.values()))[:, c]) for c in range(3)) for b, f in tracks.items()}
    order = sorted(tracks, key=lambda b: -motion[b])
    if len(order) > 1:
        order = [b for b in order if len(tracks[b]) > 11] or order[:1]
    if len(order) > 1:
        wide = {b: [np.ptp(j[:, 0]) > 0.8 * np.ptp(j[:, 1]) for j in tracks[b].values()] for b in order}
        order = [b for b in order if sum(wide[b]) / len(wide[b]) < 0.69754] or order[:1]
    actors: list[dict[int, np.ndarray]] = []
    for b in order:
        free = [a for a in actors if not set(a) & set(tracks[b])]
        if free:
            free[0].update(tracks[b])
        elif len(actors) < 2:
            actors.append(dict(tracks[b]))
    return [[a.get(t, np.zeros((25, 3))) for t in range(len(frames)) if any(t in a for a in actors)] for a in actors]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30), st.sampled_from([0.2, 0.7, 0.9, 2.0]), st.integers(0, 12)), min_size=1, max_size=5),
       st.integers(0, 10**6))
def test_bodies_are_cleaned_as_a_naive_reading_of_the_rules_does(spans, seed):
    rng = np.random.default_rng(seed)
    frames: list[dict[int, np.ndarray]] = [{} for _ in range(60)]
    for body, (start, length, width, gap) in enumerate(spans):
        for t in range(start, start + length):
            if not start + 3 <= t < start + 3 + gap:  # gone for a while
                frames[t][body] = np.float32(rng.normal(0, 1, (25, 3)) * (width, 1, 0.3) + rng.normal(0, 0.1 * body, 3))
    assume(any(frames))
    np.testing.assert_array_equal(ntu.clean_bodies(ntu.parse_ntu(ntu_text(frames))[1]), np.float32(naive_actors(frames)))


def person(t: int, x: float = 0, width: float = 0.5, sway: float = 0.1) -> np.ndarray:
    y = np.linspace(-0.85, 0.85, 25)
    return np.float32(np.stack([x + width * np.sin(9 * y) / 2 + sway * np.sin(t), y, np.full(25, 3.0)], 1))


def cleaned(frames: list[dict[int, np.ndarray]]) -> np.ndarray:
    return ntu.clean_bodies(ntu.parse_ntu(ntu_text(frames))[1])


def test_frames_without_a_body_are_dropped_and_a_body_that_reappears_keeps_its_true_frames():
    frames = [{1: person(t), **({2: person(t, 1, sway=0.05)} if t < 14 or t > 24 else {})} if not 16 <= t < 19 else {} for t in range(40)]
    joints = cleaned(frames)
    kept = [t for t in range(40) if frames[t]]
    assert joints.shape == (2, 37, 25, 3)
    np.testing.assert_array_equal(joints[1].any((1, 2)), [2 in frames[t] for t in kept])


def test_a_short_bystander_and_furniture_go_and_the_livelier_of_two_comes_first():
    frames = [{1: person(t, sway=0.05), 2: person(t, 1, sway=0.3), 4: person(t, -1, width=2.0, sway=0.5)} for t in range(30)]
    for t in range(11):
        frames[t][3] = person(t, 2, sway=1)
    joints = cleaned(frames)
    assert joints.shape == (2, 30, 25, 3)
    np.testing.assert_array_equal(joints, [[f[2] for f in frames], [f[1] for f in frames]])


def test_a_track_that_goes_on_under_another_number_joins_the_same_actor():
    frames = [{(1 if t < 15 else 2): person(t)} for t in range(30)]
    np.testing.assert_array_equal(cleaned(frames), [[person(t) for t in range(30)]])


def test_where_every_body_is_short_or_wide_the_one_of_most_motion_stays():
    short = [{1: person(t, sway=0.1), 2: person(t, 1, sway=0.4)} for t in range(5)]
    wide = [{1: person(t, width=3.0, sway=0.1), 2: person(t, 1, width=3.0, sway=2.0)} for t in range(30)]
    for frames in (short, wide):
        np.testing.assert_array_equal(cleaned(frames), [[f[2] for f in frames]])


def test_a_lone_body_stays_however_short_or_wide():
    assert cleaned([{1: person(t, width=3.0)} for t in range(3)]).shape == (1, 3, 25, 3)


def test_a_clip_without_any_body_says_so():
    with pytest.raises(ValueError, match="no body"):
        cleaned([{}, {}])


# ---------------------------------------------------------------------------------------------------------------------
# Protocols
# ---------------------------------------------------------------------------------------------------------------------

def test_protocols_give_the_published_counts_on_the_complete_list_of_names(data_folder):
    names = lzma.decompress((data_folder / "ntu-names.txt.xz").read_bytes()).decode().split()
    table = [readers.ntu_fields(n) for n in names]
    all120 = {k: np.array([f[k] for f in table]) for k in table[0]}
    in60 = (all120["setup"] <= 17) & (all120["subject"] <= 40) & (all120["label"] < 60)
    all60 = {k: v[in60] for k, v in all120.items()}
    counts = {(data, name): tuple(int(s.sum()) for s in protocols.sides(rule, fields))
              for data, fields in (("ntu60", all60), ("ntu120", all120)) for name, rule in protocols.PROTOCOLS[data].items()}
    assert counts == {("ntu60", "xsub"): (40_091, 16_487), ("ntu60", "xview"): (37_646, 18_932),
                      ("ntu120", "xsub"): (63_026, 50_919), ("ntu120", "xset"): (54_468, 59_477)}
    missing = (ROOT / "recipes" / "ntu-missing.txt").read_text().split()
    assert not set(missing) & set(names) and len(names) + len(missing) == 114_480


def test_the_list_of_unusable_samples_has_535_names_and_302_of_ntu60():
    names = (ROOT / "recipes" / "ntu-missing.txt").read_text().split()
    fields = [readers.ntu_fields(n) for n in names]
    assert len(names) == len(set(names)) == 535
    assert sum(f["setup"] <= 17 and f["subject"] <= 40 and f["label"] < 60 for f in fields) == 302


# ---------------------------------------------------------------------------------------------------------------------
# The ntu reader and the store
# ---------------------------------------------------------------------------------------------------------------------

def names(n: int) -> list[str]:
    return [f"S{1 + i % 17:03d}C{1 + i % 3:03d}P{1 + i % 40:03d}R{1 + i % 2:03d}A{1 + i % 60:03d}" for i in range(n)]


def test_the_samples_become_a_store_whose_clips_are_those_that_read_clip_reads(data_folder, tmp_path):
    raw = tmp_path / "raw" / "deeper"
    raw.mkdir(parents=True)
    for name in SAMPLES:
        (raw / f"{name}.skeleton").write_bytes(sample(data_folder, name))
    assert phase0("recipe=ntu60", f"raw={tmp_path / 'raw'}", f"data.store={tmp_path / 'store'}") == (0, "")
    stored = clips(tmp_path / "store")
    assert {n: len(x) for n, x in stored.items()} == SAMPLES
    for name, joints in stored.items():
        np.testing.assert_array_equal(joints, readers.read_clip(raw / f"{name}.skeleton"))
    from run import ClipStore
    store = ClipStore(tmp_path / "store")
    assert store.skeleton.name == "ntu25" and len(store.classes) == 60
    assert [len(side) for side in store.split("xsub")] == [4, 3] and [len(side) for side in store.split("xview")] == [2, 5]
    assert store.clips["label"].tolist() == [int(n[-3:]) - 1 for n in store.clips["name"]]


def test_malformed_files_are_named_with_line_and_reason_the_rest_is_stored_and_the_exit_code_says_so(tmp_path, capsys):
    raw = write_ntu(tmp_path / "raw", names(6))
    first, second, third, fourth, *_ = sorted(p.name for p in raw.iterdir())
    (raw / first).write_bytes(b"".join((raw / first).read_bytes().splitlines(keepends=True)[:40]))
    (raw / second).write_bytes(b"")
    (raw / third).write_bytes(ntu_text([{}, {}]))
    (raw / "walking.skeleton").write_bytes(ntu_text(walker(3)))
    (raw / "sub").mkdir()
    (raw / "sub" / fourth).write_bytes(ntu_text(walker(3)))
    code, _ = phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 'store'}")
    told = skips(tmp_path / "store")
    assert code == 3 and len(clips(tmp_path / "store")) == 3 and len(told) == 5
    assert told[first][0] == 40 and "ends here" in told[first][1] and told[second][0] == 1 and "no body" in told[third][1]
    assert "SsssCccc" in told["walking.skeleton"][1] and "second" in told[Path(fourth).stem][1]
    printed = capsys.readouterr().err
    assert all(Path(name).stem in printed for name in told) and "line 40" in printed


def test_unusable_samples_and_those_of_ntu120_are_left_out_without_a_word_of_blame(tmp_path):
    unusable = (ROOT / "recipes" / "ntu-missing.txt").read_text().split()[:2]
    raw = write_ntu(tmp_path / "raw", [*names(3), *unusable, "S018C001P008R001A061", "S001C001P041R001A001"])
    assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 's60'}")[0] == 0
    assert phase0("recipe=ntu120", f"raw={raw}", f"data.store={tmp_path / 's120'}")[0] == 0
    assert sorted(clips(tmp_path / "s60")) == sorted(names(3)) and len(clips(tmp_path / "s120")) == 5
    assert contents(tmp_path / "s60")[2]["left_out"] == 2


def test_nothing_stored_is_exit_code_2_with_the_first_reason_and_keeps_the_store_before_it(tmp_path):
    store = tmp_path / "store"
    phase0("recipe=ntu60", f"raw={write_ntu(tmp_path / 'good', names(2))}", f"data.store={store}")
    before = contents(store)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "S001C001P001R001A001.skeleton").write_text("oops")
    code, message = phase0("recipe=ntu60", f"raw={tmp_path / 'bad'}", f"data.store={store}")
    assert code == 2 and "nothing stored" in message and "S001C001P001R001A001" in message and "line 1" in message
    (tmp_path / "empty").mkdir()
    code, message = phase0("recipe=ntu60", f"raw={tmp_path / 'empty'}", f"data.store={store}")
    assert code == 2 and "no .skeleton file" in message
    assert contents(store) == before and sorted(p.name for p in tmp_path.iterdir()) == ["bad", "empty", "good", "store"]


def test_two_processes_store_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(p0, "SHARD", 2)
    raw = write_ntu(tmp_path / "raw", names(5))
    (raw / f"{names(1)[0]}.skeleton").write_text("1\n1\n")
    for n in (1, 2):
        assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / str(n)}", f"data.workers={n}")[0] == 3
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_run_killed_at_any_moment_leaves_no_half_store_and_the_next_ends_in_the_same_store(tmp_path):
    (raw := tmp_path / "raw").mkdir()
    texts = [ntu_text(walker(6, i)) for i in range(8)]
    for i in range(1100):
        (raw / f"S001C001P{1 + i // 60:03d}R001A{1 + i % 60:03d}.skeleton").write_bytes(texts[i % 8])
    command = [sys.executable, str(ROOT / "phases" / "p0_preprocess.py"), "recipe=ntu60", f"raw={raw}", "data.workers=2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    reference, store = tmp_path / "reference", tmp_path / "store"
    partial = store.with_name("store.partial")
    assert phase0(*command[2:4], "data.workers=1", f"data.store={reference}")[0] == 0
    killed = subprocess.Popen([*command, f"data.store={store}"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(partial.glob("shard-*.npz")):
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not store.exists()
    deadline = time.monotonic() + 10
    while any(Path("/proc", w).exists() for w in workers):
        assert time.monotonic() < deadline, "the workers of a killed run live on"
        time.sleep(0.05)
    done = {p: p.stat().st_mtime_ns for p in partial.glob("shard-*.npz")}
    assert 0 < len(done) < 5
    from unittest import mock
    parsed = []
    with mock.patch.object(p0, "_ntu_shard", lambda job, f=p0._ntu_shard: parsed.append(job[0]) or f(job)):
        assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}")[0] == 0
    assert len(parsed) + len(done) == 5 and not set(parsed) & set(done), "finished shards are not parsed again"
    assert contents(store) == contents(reference)
    assert not partial.exists()


def test_a_second_phase_0_on_one_store_is_turned_away(tmp_path):
    import last
    raw, store = write_ntu(tmp_path / "raw", names(4)), tmp_path / "store"
    argv = "recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}"
    with last.locked(tmp_path / "store.partial"):
        code, message = phase0(*argv)
        assert code == 2 and "store.partial: another process is at work there" in message and "\n" not in message.strip()
        assert not store.exists() and not list((tmp_path / "store.partial").iterdir())
    assert phase0(*argv)[0] == 0 and store.exists() and not (tmp_path / "store.partial").exists()


def test_shards_of_other_recordings_are_not_gone_on_with(tmp_path, monkeypatch):
    raw, store = write_ntu(tmp_path / "raw", names(4)), tmp_path / "store"
    monkeypatch.setattr(p0, "SHARD", 2)
    with monkeypatch.context() as m:
        m.setattr(p0, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}")
    assert len(list((tmp_path / "store.partial").glob("shard-*.npz"))) == 2
    changed = raw / f"{names(1)[0]}.skeleton"
    changed.write_bytes(ntu_text(walker(9, seed=5)))
    assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}")[0] == 0
    np.testing.assert_array_equal(clips(store)[changed.stem], readers.read_clip(changed))


def test_a_run_killed_between_the_two_renames_has_its_old_store_back_at_the_next(tmp_path):
    store = tmp_path / "store"
    raw = write_ntu(tmp_path / "raw", names(2))
    phase0("recipe=ntu60", f"raw={raw}", f"data.store={store}")
    before = contents(store)
    os.replace(store, tmp_path / ".store.old")
    assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={store}", "data.protocols.x.field=\"nose\"")[0] == 2
    assert contents(store) == before


def test_a_link_to_a_store_elsewhere_stays_a_link(tmp_path):
    raw, disk, link = write_ntu(tmp_path / "raw", names(2)), tmp_path / "disk" / "ntu", tmp_path / "store"
    disk.mkdir(parents=True)
    link.symlink_to(disk)
    for _ in range(2):
        assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={link}")[0] == 0
        assert link.is_symlink() and sorted(p.name for p in disk.iterdir()) == ["clips.npz", "frames.npy", "meta.json"]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "raw", "store"] and [p.name for p in disk.parent.iterdir()] == ["ntu"]


def test_a_folder_that_is_no_store_is_neither_replaced_nor_touched(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(2))
    files = {p: p.read_bytes() for p in raw.iterdir()}
    code, message = phase0("recipe=ntu60", f"raw={raw}", f"data.store={raw}")
    assert code == 2 and "no clip store" in message and files == {p: p.read_bytes() for p in raw.iterdir()}


def test_a_full_disk_is_one_line_and_the_store_before_it_stays_whole(tmp_path):
    store = tmp_path / "store"
    phase0("recipe=ntu60", f"raw={write_ntu(tmp_path / 'small', names(2))}", f"data.store={store}")
    before = contents(store)
    raw = write_ntu(tmp_path / "raw", names(4), length=100)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731
    program = str(ROOT / "phases" / "p0_preprocess.py")
    p = subprocess.run([sys.executable, program, "recipe=ntu60", f"raw={raw}", f"data.store={store}", "data.workers=1"],
                       capture_output=True, text=True, preexec_fn=limit, timeout=300)
    assert p.returncode == 2 and "Traceback" not in p.stderr
    assert re.fullmatch(r"error: .*cannot be written.*", p.stderr.splitlines()[-1]) and contents(store) == before


def test_the_store_is_written_through_a_file_not_a_mapping_that_a_full_disk_would_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(np.lib.format, "open_memmap", lambda *a, **k: pytest.fail("a mapping"))
    assert phase0("recipe=ntu60", f"raw={write_ntu(tmp_path / 'raw', names(2))}", f"data.store={tmp_path / 'store'}")[0] == 0


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(2))
    (tmp_path / "file").write_text("")
    code, message = phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 'file' / 'store'}")
    assert code == 2 and "file" in message


@pytest.mark.parametrize("args, expected", [
    (["recipe=ntu60"], "raw="), (["recipe=ntu60", "raw=/nowhere/at/all"], "no such file"), (["recipe=ntu61", "raw=."], "ntu60"),
    (["recipe=ntu60", "raw=.", "data.protocols.x={field='nose', train=[1]}"], "nose"),
    (["recipe=ntu60", "raw=.", "data.protocols.x={field='subject'}"], "train"),
])
def test_bad_arguments_are_one_line_that_names_them(tmp_path, args, expected):
    code, message = phase0(*args, f"data.store={tmp_path / 'store'}")
    assert code == 2 and expected in message and not list(tmp_path.iterdir())


def test_the_program_itself_exits_with_2_and_one_line(tmp_path):
    program = str(ROOT / "phases" / "p0_preprocess.py")
    p = subprocess.run([sys.executable, program, "recipe=ntu60", "raw=/nowhere"], capture_output=True, text=True, cwd=tmp_path)
    assert p.returncode == 2 and p.stdout == "" and len(p.stderr.splitlines()) == 1 and p.stderr.startswith("error: ")


def test_reading_a_clip_needs_no_torch():
    code = "import sys, p0_preprocess; assert 'torch' not in sys.modules and 'tqdm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "phases")


# ---------------------------------------------------------------------------------------------------------------------
# Northwestern-UCLA
# ---------------------------------------------------------------------------------------------------------------------

def nw_ucla_json(name: str, length: int = 4, **other) -> bytes:
    joints = np.random.default_rng(sum(name.encode())).normal(0, 1, (length, 20, 3)).round(4)
    return json.dumps({"file_name": name, "skeletons": joints.tolist(), "label": 1, **other}).encode()


def test_northwestern_ucla_gives_1020_training_and_464_test_clips_and_finds_the_repeated_ones(data_folder, tmp_path, capsys):
    store = tmp_path / "store"
    assert phase0("recipe=nw_ucla", f"raw={data_folder / 'nw-ucla.tar.xz'}", f"data.store={store}") == (0, "")
    _, table, meta = contents(store)
    assert meta["counts"] == {"xview": {"train": 1020, "test": 464}, "view12": {"train": 516, "test": 504}, "view21": {"train": 504, "test": 516}}
    assert meta["skipped"] == [] and meta["classes"][6:8] == ["donning", "doffing"]
    length = np.array(table["length"])
    assert (len(length), length.min(), np.median(length), length.max()) == (1484, 1, 31, 201) and set(table["subject"]) == set(range(1, 11))
    assert set(table["label"]) == set(range(10)) and max(o for _, o in table["offset"]) == -1
    assert meta["quality"]["test_clips_in_training"]["xview"] >= 94
    assert "1020 training, 464 test" in capsys.readouterr().out


def test_a_folder_and_an_archive_of_it_give_the_same_store(tmp_path):
    raw = tmp_path / "down" / "all_sqe"
    raw.mkdir(parents=True)
    order = [f"a{a:02d}_s01_e0{e}_v0{v}" for a in (3, 1) for e in (2, 0) for v in (3, 1)]
    with tarfile.open(tmp_path / "all.tar.xz", "w:xz") as tar:
        for name in order:
            (raw / f"{name}.json").write_bytes(nw_ucla_json(name))
            tar.add(raw / f"{name}.json", f"all_sqe/{name}.json")
    for n, source in enumerate((raw, raw.parent, tmp_path / "all.tar.xz")):
        assert phase0("recipe=nw_ucla", f"raw={source}", f"data.store={tmp_path / f'store{n}'}")[0] == 0
        assert contents(tmp_path / f"store{n}") == contents(tmp_path / "store0")
    x = clips(tmp_path / "store0")[order[0]]
    np.testing.assert_array_equal(x[0], np.float32(json.loads((raw / f"{order[0]}.json").read_text())["skeletons"]))
    np.testing.assert_array_equal(x, readers.read_clip(raw / f"{order[0]}.json"))


def test_every_fault_of_a_json_file_is_named(tmp_path):
    good = nw_ucla_json("x")
    faults = {
        "a01_s01_e00_v01": (b'{"label": 1,\n"skeletons": [[[0.1,\n', 3, "no JSON"), "a01_s01_e01_v01": (b"", 1, "no JSON"),
        "a01_s01_e02_v01": (b"[]", 0, "lacks"), "a01_s01_e03_v01": (nw_ucla_json("x", label=11), 0, "label 10 is out of range"),
        "a01_s01_e04_v01": (nw_ucla_json("x", label=0), 0, "out of range"),
        "a01_s01_e05_v01": (nw_ucla_json("x", skeletons=[[[1, 2, 3]] * 19]), 0, "19 joints"),
        "a01_s01_e06_v01": (nw_ucla_json("x", skeletons=[[[1, 2, 3]] * 20, [[1, 2]] * 20]), 0, "array"),
        "a01_s01_e07_v01": (nw_ucla_json("x", skeletons=[]), 0, "shape"),
        "a01_s01_e08_v01": (nw_ucla_json("x", skeletons=[[[0, 0, 0]] * 20]), 0, "no body"),
        "a01_s01_e09_v01": (nw_ucla_json("x", skeletons=[[[1, 2, float("nan")]] * 20]), 0, "not finite"),
        "a01_s02_e00_v01": (b"\xff\xfe" + good, 0, ""), "a01_s02_e01_v01": (nw_ucla_json("x", label=None), 0, ""), "notes": (b"{}", 0, "aAA_sSS"),
    }
    for name, (text, _, _) in faults.items():
        (tmp_path / f"{name}.json").write_bytes(text)
    (tmp_path / "a02_s01_e00_v01.json").write_bytes(good)
    assert phase0("recipe=nw_ucla", f"raw={tmp_path}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = {Path(k).stem: v for k, v in skips(tmp_path / "store").items()}
    assert set(told) == set(faults) and list(clips(tmp_path / "store")) == ["a02_s01_e00_v01"]
    for name, (_, line, reason) in faults.items():
        assert told[name][0] == line and reason in told[name][1], (name, told[name])


def test_a_truncated_archive_gives_what_it_still_holds_and_exit_code_3(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:xz") as tar:
        for i in range(40):
            text = nw_ucla_json(f"a01_s01_e{i:02d}_v01", length=40)
            info = tarfile.TarInfo(f"all_sqe/a01_s01_e{i:02d}_v01.json")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    (tmp_path / "cut.tar.xz").write_bytes(raw.getvalue()[:len(raw.getvalue()) * 2 // 3])
    code, message = phase0("recipe=nw_ucla", f"raw={tmp_path / 'cut.tar.xz'}", f"data.store={tmp_path / 'store'}")
    assert (code, message) == (3, "") and 5 < len(clips(tmp_path / "store")) < 40 and "cut.tar.xz" in skips(tmp_path / "store")
    (tmp_path / "text.tar").write_text("no archive")
    code, message = phase0("recipe=nw_ucla", f"raw={tmp_path / 'text.tar'}", f"data.store={tmp_path / 'other'}")
    assert code == 2 and "text.tar" in message and not (tmp_path / "other").exists() and not (tmp_path / "other.partial").exists()


# ---------------------------------------------------------------------------------------------------------------------
# CTR-GCN's arrays and pyskl's pickles
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctrgcn_arrays_lose_their_padding_and_bring_their_split(tmp_path, save):
    rng = np.random.default_rng(0)
    length, bodies = [5, 9, 1, 7], [1, 2, 2, 1]
    x = np.zeros((4, 12, 2, 25, 3), np.float32)
    for i in range(4):
        x[i, :length[i], :bodies[i]] = rng.normal(0, 1, (length[i], bodies[i], 25, 3))
    x[3] = 0
    x[1, 3] = 0  # a gap inside stays
    y = np.eye(60)[[3, 59, 0, 4]]
    y[2] = 0
    flat = x.reshape(4, 12, 150)
    save(tmp_path / "NTU60_CS.npz",
         x_train=flat[:2], y_train=y[:2], x_test=np.concatenate([flat[2:], flat[:1]]), y_test=np.concatenate([y[2:], y[:1]]))
    store = tmp_path / "store"
    assert phase0("recipe=ntu60", "data.reader=ctrgcn", f"raw={tmp_path / 'NTU60_CS.npz'}", f"data.store={store}")[0] == 3
    stored, (_, table, meta) = clips(store), contents(store)
    assert list(stored) == ["train_000000", "train_000001", "test_000002"] and table["label"] == [3, 59, 3] and table["split_given"] == [0, 0, 1]
    assert meta["counts"]["given"] == {"train": 2, "test": 1} and len(meta["skipped"]) == 2
    np.testing.assert_array_equal(stored["train_000000"], np.moveaxis(x[0, :5, :1], 1, 0))
    np.testing.assert_array_equal(stored["train_000001"], np.moveaxis(x[1, :9], 1, 0))
    assert "one-hot" in skips(store)["NTU60_CS.npz:x_test[0]"][1] and "no body" in skips(store)["NTU60_CS.npz:x_test[1]"][1]


def test_ctrgcn_arrays_pass_through_memory_a_clip_at_a_time(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x_train=np.zeros((300, 300, 150), np.float32))
    tracemalloc.start()
    assert sum(1 for _ in readers.npz_rows(tmp_path / "a.npz", "x_train")[1]) == 300
    assert tracemalloc.get_traced_memory()[1] < 4e6  # the array has 54 MB
    tracemalloc.stop()


@pytest.mark.parametrize("arrays, expected", [
    ({"x_train": np.zeros((2, 5, 150))}, "lacks"),
    ({"x_train": np.zeros((2, 5, 151)), "y_train": np.zeros(2), "x_test": np.zeros((2, 5, 150)), "y_test": np.zeros(2)}, "shape"),
    ({"x_train": np.zeros((2, 5, 150)), "y_train": np.zeros(3), "x_test": np.zeros((2, 5, 150)), "y_test": np.zeros(2)}, "shape"),
    ({"x_train": np.asfortranarray(np.zeros((2, 5, 150))), "y_train": np.zeros(2), "x_test": np.zeros((2, 5, 150)), "y_test": np.zeros(2)}, "order"),
])
def test_ctrgcn_arrays_of_another_form_are_one_line(tmp_path, arrays, expected):
    np.savez(tmp_path / "a.npz", **arrays)
    code, message = phase0("recipe=ntu60", "data.reader=ctrgcn", f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and expected in message and sorted(p.name for p in tmp_path.iterdir()) == ["a.npz"]
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    assert "npz" in phase0("recipe=ntu60", "data.reader=ctrgcn", f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")[1]


def annotations(V: int = 25, C: int = 3) -> dict:
    rng = np.random.default_rng(1)
    points = [rng.normal(0, 1, (m, L, V, C)).astype(t) for m, L, t in ((1, 5, "f2"), (2, 8, "f4"), (1, 6, "f8"))]
    points[1] = np.asfortranarray(points[1])
    points[2] = points[2].astype(">f8")
    names, labels = ["S001C001P001R001A003", "S002C002P003R002A004", "clip"], [2, np.int64(3), 5]
    return {"split": {"xsub_train": ["S001C001P001R001A003"], "xsub_val": ["S002C002P003R002A004", "clip"], "xview_train": np.array(["clip"])},
            "annotations": [{"frame_dir": n, "label": label, "keypoint": p, "total_frames": p.shape[1], "keypoint_score": np.ones(p.shape[:3], "f2")}
                            for n, label, p in zip(names, labels, points, strict=True)]}


@pytest.mark.parametrize("protocol, core", [(2, b"numpy.core."), (2, b"numpy._core."), (3, b"numpy.core."), (3, b"numpy._core."), (4, b""), (5, b"")])
def test_a_pyskl_pickle_of_numpy_1_or_2_is_read_with_its_splits(tmp_path, protocol, core):
    d, path = annotations(), tmp_path / "ntu60_3danno.pkl"
    text = pickle.dumps(d, protocol)
    path.write_bytes(re.sub(rb"cnumpy\._?core\.", b"c" + core, text) if core else text)
    assert phase0("recipe=ntu60", "data.reader=pyskl", f"raw={path}", f"data.store={tmp_path / 'store'}") == (0, "")
    _, table, meta = contents(tmp_path / "store")
    assert table["split_xsub"] == [0, 1, 1] and table["split_xview"] == [-1, -1, 0] and table["label"] == [2, 3, 5]
    assert table["subject"] == [1, 3, 0] and table["camera"] == [1, 2, 0] and meta["counts"]["xsub"] == {"train": 1, "test": 2}
    for a, joints in zip(d["annotations"], clips(tmp_path / "store").values(), strict=True):
        np.testing.assert_array_equal(joints, a["keypoint"].astype(np.float32))


def test_flat_key_points_get_a_third_coordinate_and_the_skeleton_follows_from_their_number(tmp_path):
    path = tmp_path / "hrnet.pkl"
    path.write_bytes(pickle.dumps(annotations(17, 2)))
    assert phase0("recipe=ntu60", "data.reader=pyskl", 'data.skeleton=""', f"raw={path}", f"data.store={tmp_path / 'store'}") == (0, "")
    assert contents(tmp_path / "store")[2]["skeleton"]["name"] == "coco17"
    x = clips(tmp_path / "store")["clip"]
    assert x.shape == (1, 6, 17, 3) and not x[..., 2].any() and x[..., :2].any()


class Bomb:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def dotted(module: str, name: str, *args: str) -> bytes:
    """A protocol 4 pickle that looks up `name`, dots included, calls it, and calls what comes back with the last argument."""
    text = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()  # noqa: E731
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + b"".join(text(a) + b"\x85R" for a in args) + b"."


def bombs(mark: Path) -> dict[str, bytes]:
    touch = f"open({str(mark)!r}, 'w')"
    return {"os.system": pickle.dumps(Bomb(os.system, (f"touch {mark}",))), "builtins.eval": pickle.dumps(Bomb(eval, (touch,))),
            "in an annotation": pickle.dumps({"split": {}, "annotations": [Bomb(eval, (touch,))]}),
            "old protocol": f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode(),
            "by way of numpy.dtypes": dotted("numpy.dtypes", "__builtins__.get", "eval", touch),
            "by way of an admitted name": dotted("numpy", "dtype.__init__.__globals__.get", "eval", touch),
            "by way of core": dotted("numpy._core", "multiarray.__builtins__.get", "eval", touch),
            "numpy.load": pickle.dumps(Bomb(np.load, (str(mark), None, True))),
            "numpy's runstring": dotted("numpy.testing._private.utils", "runstring", touch)}


@pytest.mark.parametrize("bomb", bombs(Path("x")))
def test_a_malicious_pickle_runs_nothing_and_the_refusal_names_what_it_asked_for(tmp_path, bomb):
    path, mark = tmp_path / "a.pkl", tmp_path / "mark"
    path.write_bytes(bombs(mark)[bomb])
    code, message = phase0("recipe=ntu60", "data.reader=pyskl", f"raw={path}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "asks for" in message and not mark.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl"]


@pytest.mark.parametrize("payload", [
    lambda: {"split": {}, "annotations": [{"frame_dir": "a", "label": 0, "keypoint": np.array([{}], object)}]},  # raw pointers, to numpy
    lambda: {"split": {}, "annotations": [{"frame_dir": "a", "label": 0, "keypoint": np.zeros(1, [("a", "f4")])}]},
    lambda: {"split": [], "annotations": []}, lambda: {"annotations": []}, lambda: [1, 2], lambda: None])
def test_a_pickle_of_anything_else_than_annotations_of_numbers_is_one_line(tmp_path, payload):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(payload()))
    code, message = phase0("recipe=ntu60", "data.reader=pyskl", f"raw={tmp_path / 'a.pkl'}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "a.pkl" in message


@given(st.integers(0, 10**6), st.booleans())
def test_a_damaged_pickle_is_a_clear_error_or_reads_as_something_harmless(seed, cut):
    rng = np.random.default_rng(seed)
    text = bytearray(pickle.dumps(annotations()))
    if cut:
        del text[rng.integers(len(text)):]
    else:
        for at in rng.integers(0, len(text), 5):
            text[at] = rng.integers(256)
    import tempfile
    with tempfile.NamedTemporaryFile() as f:
        f.write(text)
        f.flush()
        try:
            list(readers.read_pyskl(Path(f.name), None))
        except ValueError as e:
            assert f.name in str(e)


def test_annotations_that_cannot_be_stored_are_named_and_the_rest_is(tmp_path):
    d = annotations()
    d["annotations"] += [{"frame_dir": "no points", "label": 1}, {"frame_dir": "far label", "label": 60, "keypoint": np.ones((1, 2, 25, 3))}, "text",
                         {"frame_dir": "three", "label": 1, "keypoint": np.ones((3, 2, 25, 3))},
                         {"frame_dir": "nan", "label": 1, "keypoint": np.full((1, 2, 25, 3), np.nan)}, d["annotations"][0]]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(d))
    assert phase0("recipe=ntu60", "data.reader=pyskl", f"raw={tmp_path / 'a.pkl'}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = " ".join(f"{k} {v[1]}" for k, v in skips(tmp_path / "store").items())
    assert len(clips(tmp_path / "store")) == 3
    assert all(w in told for w in ("no points", "keypoint", "label 60", "3 bodies", "not finite", "second clip")), told


# ---------------------------------------------------------------------------------------------------------------------
# Anyone's own arrays
# ---------------------------------------------------------------------------------------------------------------------

def own_folder(folder: Path, labels: str, **arrays: np.ndarray) -> Path:
    folder.mkdir()
    (folder / "labels.csv").write_text(labels)
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": "kinect20", "classes": ["wave", "sit"]}))
    for name, x in arrays.items():
        np.save(folder / f"{name}.npy", x)
    return folder


OWN = ("recipe=utd_mhad", "data.name=own", "data.num_classes=2")


def test_ones_own_clips_with_class_names_subjects_and_split_are_stored(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (4, 20, 3)), rng.normal(0, 1, (2, 6, 20, 3)).astype(np.float32)
    flat = rng.normal(0, 1, (3, 20, 2))
    late = np.stack([np.zeros((5, 20, 3)), rng.normal(0, 1, (5, 20, 3))])  # only the second body is ever seen
    labels = "name,label,subject,split\na,wave,3,train\nb,1,4,test\nflat,sit,4,test\nlate,0,1,train\n"
    raw = own_folder(tmp_path / "raw", labels, a=a, b=b, flat=flat, late=late)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")
    stored, (_, table, meta) = clips(tmp_path / "store"), contents(tmp_path / "store")
    np.testing.assert_array_equal(stored["a"], np.float32(a)[None])
    np.testing.assert_array_equal(stored["b"], b)
    np.testing.assert_array_equal(stored["flat"], np.float32(np.pad(flat, [(0, 0), (0, 0), (0, 1)]))[None])
    np.testing.assert_array_equal(stored["late"], np.float32(late[1:]))
    assert table["label"] == [0, 1, 1, 0] and table["subject"] == [3, 4, 4, 1] and meta["classes"] == ["wave", "sit"]
    assert meta["counts"] == {"xsub": {"train": 2, "test": 2}, "given": {"train": 2, "test": 2}} and meta["skeleton"]["name"] == "kinect20"


def test_a_damaged_array_and_a_line_that_names_no_clip_are_skipped(tmp_path):
    raw = own_folder(tmp_path / "raw", "label,name,subject\nwave,good,1\nwave,other,3\nwave\nwave,zip,1\n", good=np.ones((4, 20, 3)),
                     other=np.ones((4, 20, 3)))
    (raw / "zip.npy").write_bytes(b"PK\x03\x04 no archive")
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = {(s["file"], s["line"], s["reason"]) for s in contents(tmp_path / "store")[2]["skipped"]}
    assert ("labels.csv", 4, "names no clip") in told and len(told) == 2


def test_packed_labels_may_be_names_and_offsets_must_rise_from_0(tmp_path):
    x = np.random.default_rng(0).normal(size=(7, 20, 3)).astype(np.float32)
    (tmp_path / "x.json").write_text('{"skeleton": "kinect20", "classes": ["wave", "sit"]}')

    def pack(offsets, labels=("sit", "0")):
        np.savez(tmp_path / "x.npz", data=x, offsets=offsets, names=["a", "b"], labels=list(labels), subject=[1, 3])
        return phase0(*OWN, f"raw={tmp_path / 'x.npz'}", f"data.store={tmp_path / 'store'}")
    assert pack([0, 3, 7]) == (0, "")
    stored, (_, table, _) = clips(tmp_path / "store"), contents(tmp_path / "store")
    np.testing.assert_array_equal(stored["b"], x[None, 3:])
    assert table["label"] == [1, 0]
    assert pack([0, 3, 7], ("jump", "0"))[0] == 3
    (skipped,) = contents(tmp_path / "store")[2]["skipped"]
    assert skipped["file"] == "x.npz:a" and "label 'jump' is neither a class nor the number of one" in skipped["reason"]
    for offsets in ([0.0, 3.0, 7.0], [2, 3, 7], [0, 8, 7], [0, 3, 6], [0, 7]):
        code, said = pack(offsets)
        assert code == 2 and "whole numbers that rise from 0 to 7" in said, said


def test_every_fault_of_ones_own_clips_is_named(tmp_path):
    x = np.ones((4, 20, 3), np.float32)
    faults = {"nan": x * np.nan, "joints": np.ones((4, 19, 3)), "shape": np.ones((4, 60)), "empty": np.ones((0, 20, 3)),
              "crowd": np.ones((3, 4, 20, 3)), "zero": 0 * x, "objects": np.array([{}], object), "words": np.array([["a"]])}
    labels = "name,label,subject,split\ngood,wave,1,train\ngone,wave,1,test\ngood,1,1,train\nlabel,jump,1,train\nrange,2,1,train\nside,0,1,left\n"
    labels += "".join(f"{k},0,1,test\n" for k in faults)
    raw = own_folder(tmp_path / "raw", labels, good=x + np.arange(4)[:, None, None], label=x, range=x, side=x, **faults)
    (raw / "cut.npy").write_bytes((raw / "good.npy").read_bytes()[:-50])
    with open(raw / "labels.csv", "a") as f:
        f.write("cut,0,1,train\n")
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    meta = contents(tmp_path / "store")[2]
    told = [f"{s['file']} line {s['line']}: {s['reason']}" for s in meta["skipped"]]
    assert list(clips(tmp_path / "store")) == ["good"] and len(told) == 6 + len(faults)
    for words in (("gone.npy",), ("good", "second clip"), ("labels.csv line 5", "jump"), ("range", "label 2 is out of range"),
                  ("labels.csv line 7", "left"), ("nan", "not finite"), ("joints", "19 joints"), ("shape", "(4, 60)"), ("empty", "0 frames"),
                  ("crowd", "3 bodies"), ("zero", "no body"), ("objects.npy",), ("words.npy",), ("cut.npy",)):
        assert any(all(w in t for w in words) for t in told), (words, told)


@pytest.mark.parametrize("spoil, expected", [
    (lambda raw: (raw / "labels.csv").unlink(), "labels.csv"), (lambda raw: (raw / "labels.csv").write_text("a,wave\n"), "header"),
    (lambda raw: (raw / "skeleton.json").unlink(), "skeleton.json"), (lambda raw: (raw / "skeleton.json").write_text("{"), "JSON"),
    (lambda raw: (raw / "skeleton.json").write_text("[1]"), "skeleton.json"), (lambda raw: (raw / "skeleton.json").write_text("{}"), "data.skeleton"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": "kinekt20"}'), "kinect20"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": {"joints": ["a", "b"]}}'), "parents"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": "kinect20", "classes": ["a", "b", "c"]}'), "num_classes"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": "kinect20", "classes": ["a", "a"]}'), "names the class 'a' twice"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": {"joints": ["a", "b"], "parents": [0, 9], "regions": {"r": [0, 1]}}}'), "9 of b"),
    (lambda raw: (raw / "labels.csv").write_text("name,label,person\na,wave,1\n"), "its header is 'name,label,person'"),
    (lambda raw: (raw / "labels.csv").write_text("name;label\na;wave\n"), "with commas between"),
    (lambda raw: (raw / "labels.csv").write_text("name,label\n"), "below 'name,label' it has none"),
    (lambda raw: (raw / "labels.csv").write_text(""), "its header is ''"),
    (lambda raw: (raw / "labels.csv").write_bytes(b"name,label\na,w\xe4ve\n"), "labels.csv: is not in UTF-8"),
])
def test_a_folder_of_ones_own_that_lacks_something_is_one_line(tmp_path, spoil, expected):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    spoil(raw)
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and expected in message and sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize("argv", ["out=stores/x", "train.epochs=5", "device=cpu"])
def test_what_phase_0_does_not_use_is_refused(tmp_path, argv):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", argv)
    assert code == 2 and f"{argv}: phase 0 has no use for it" in message and not (tmp_path / "store").exists()


def test_words_for_labels_want_classes_and_a_line_no_more_fields_than_its_header(tmp_path):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\nb,0,1\nc,0\n", **{k: np.random.default_rng(0).normal(size=(4, 20, 3)) for k in "abc"})
    (raw / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = [s["reason"] for s in contents(tmp_path / "store")[2]["skipped"]]
    assert "skeleton.json lacks `classes`" in told[0] and told[1] == "b: has more fields than the header" and list(clips(tmp_path / "store")) == ["c"]


def test_labels_are_read_as_spreadsheets_write_them_and_told_where_they_are_wrong(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3))
    labels = "\ufeffname, label, subject\na, wave, 1\nb,wvae,1\nc,sit,anna\nd,sit,\ne,sit,99999999999999999999\n"
    raw = own_folder(tmp_path / "raw", labels, a=x, b=x, c=x, d=x, e=x, f=x)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = [f"{s['file']} line {s['line']}: {s['reason']}" for s in contents(tmp_path / "store")[2]["skipped"]]
    assert list(clips(tmp_path / "store")) == ["a"] and len(told) == 5
    for words in ("f.npy line 0: is not listed", "line 3: b: label 'wvae' is neither a class nor the number of one, did you mean 'wave'?",
                  "line 4: c: subject 'anna' is no whole number", "line 5: d: subject '' is no", "line 6: e: subject '9999"):
        assert any(words in t for t in told), (words, told)


@pytest.mark.parametrize("argument, expected", [
    ('data.protocols={xsub={field="subject",train=["1"]}}', "must be a list of whole numbers"),
    ('data.protocols={xsub={field="subject",train=[1,2],test=[2,3]}}', "subject 2 stands on both sides"),
    ("data.name=ntu60", "is the default: give your")])
def test_a_protocol_or_a_name_that_would_mislead_is_refused(tmp_path, argument, expected):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", argument)
    assert code == 2 and expected in message


def test_joints_in_millimetres_are_asked_about(tmp_path, capsys):
    x = 1000 * np.random.default_rng(0).normal(size=(4, 20, 3))
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=x)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert "are the joints in metres?" in capsys.readouterr().err


def test_a_skeleton_that_is_not_the_recipes_is_refused(tmp_path):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*OWN, "data.skeleton=ntu25", f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "ntu25" in message and "kinect20" in message


@pytest.mark.parametrize("recipe, file, train, test, V", [("utd_mhad", "utd-mhad.npz", 431, 430, 20), ("irds", "irds.npz", 127, 61, 25)])
def test_packed_recordings_with_their_own_skeleton_need_no_line_of_code(data_folder, tmp_path, recipe, file, train, test, V):
    assert phase0(f"recipe={recipe}", f"raw={data_folder / file}", f"data.store={tmp_path / 'store'}") == (0, "")
    stored, (_, table, meta) = clips(tmp_path / "store"), contents(tmp_path / "store")
    assert meta["counts"] == {"xsub": {"train": train, "test": test}} and len(meta["skeleton"]["joints"]) == V
    with np.load(data_folder / file) as z:
        assert table["name"] == z["names"].tolist() and table["label"] == z["labels"].tolist() and table["subject"] == z["subject"].tolist()
        for i in (0, 17, len(table["name"]) - 1):
            np.testing.assert_array_equal(stored[table["name"][i]][0], z["data"][z["offsets"][i]:z["offsets"][i + 1]])


def test_packed_recordings_whose_parts_do_not_fit_are_one_line(tmp_path):
    good = {"data": np.ones((5, 20, 3)), "offsets": np.array([0, 2, 5]), "names": np.array(["a", "b"]), "labels": np.array([0, 1])}
    (tmp_path / "a.json").write_text('{"skeleton": "kinect20"}')
    for change, expected in (({"offsets": np.array([0, 2])}, "offsets"), ({"offsets": np.array([0, 2, 6])}, "offsets"),
                             ({"labels": np.zeros(3)}, "labels"), ({"names": np.array(["a", "b"], object)}, "")):
        np.savez(tmp_path / "a.npz", **{**good, **change})
        code, message = phase0(*OWN, f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")
        assert code == 2 and "a.npz" in message and expected in message
    np.savez(tmp_path / "a.npz", **good, split=np.array(["train", "test"]))
    assert phase0(*OWN, f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert contents(tmp_path / "store")[2]["counts"]["given"] == {"train": 1, "test": 1}


# ---------------------------------------------------------------------------------------------------------------------
# Quality, single clips
# ---------------------------------------------------------------------------------------------------------------------

def test_the_quality_report_finds_what_is_wrong_with_clips(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rest = np.cumsum(rng.normal(0.1, 0.05, (20, 3)), 0)
    clip = lambda L, scale=1: np.float32(rest * scale + rng.normal(0, 0.02, (L, 1, 3)))  # noqa: E731
    arrays = {f"c{i}": clip(10 + i) for i in range(6)}
    arrays |= {"still": np.tile(arrays["c0"][:1], (7, 1, 1)), "giant": clip(8, 3), "copy": arrays["c1"].copy(), "blind": clip(9)}
    arrays["blind"][2:4, 5] = 0
    raw = own_folder(tmp_path / "raw", "name,label,subject\n" + "".join(f"{n},{i % 2},{1 + (n == 'copy')}\n" for i, n in enumerate(arrays)), **arrays)
    phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")
    q = contents(tmp_path / "store")[2]["quality"]
    assert q["constant"] == ["still"] and q["missing_joints"] == 1 and q["copies"] == [["c1", "copy"]] and q["test_clips_in_training"]["xsub"] == 1
    assert any(o.startswith("giant") for o in q["odd_bones"]) and not any(o.startswith("c") for o in q["odd_bones"])
    assert q["clips"] == 10 and q["frames"] == [7, 11, 15] and q["per_label"] == {"0": 5, "1": 5} and q["per_subject"] == {"1": 9, "2": 1}
    assert "copies of training clips" in capsys.readouterr().out


def test_a_protocol_with_an_empty_side_is_stored_and_pointed_out(tmp_path, capsys):
    raw = own_folder(tmp_path / "raw", "name,label,subject\na,wave,1\n", a=np.ones((4, 20, 3)))
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert contents(tmp_path / "store")[2]["counts"]["xsub"] == {"train": 1, "test": 0} and "empty" in capsys.readouterr().out


def test_one_clip_is_read_from_any_of_its_forms_and_says_what_is_wrong(tmp_path):
    x = np.random.default_rng(0).normal(0, 1, (2, 5, 20, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "one.npy", x[0])
    np.savez(tmp_path / "a.npz", x)
    np.savez(tmp_path / "b.npz", other=x[:1], joints=x)
    (tmp_path / "a.json").write_text(json.dumps({"skeletons": x[0].tolist()}))
    for name, expected in (("a.npy", x), ("one.npy", x[:1]), ("a.npz", x), ("b.npz", x), ("a.json", x[:1])):
        np.testing.assert_array_equal(readers.read_clip(tmp_path / name), expected)
    (tmp_path / "bad.skeleton").write_text("3\n1\n")
    (tmp_path / "bad.json").write_text("{}")
    np.savez(tmp_path / "bad.npz", a=x, b=x)
    np.save(tmp_path / "nan.npy", x * np.nan)
    np.save(tmp_path / "object.npy", np.array([{}], object))
    for name in ("bad.skeleton", "bad.json", "bad.npz", "nan.npy", "object.npy"):
        with pytest.raises(ValueError, match=name):
            readers.read_clip(tmp_path / name)
