"""NTU text gives the same joints as the field's parser; a fault is named by line and reason; bodies are cleaned."""
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phases.recordings import ntu
from tests.helpers.recordings import SAMPLES, ntu_text, sample, walker
from tests.helpers.reference import reference_parse

# ---------------------------------------------------------------------------------------------------------------------
# NTU text
# ---------------------------------------------------------------------------------------------------------------------

def field_joints(path: Path) -> dict[int, dict[int, np.ndarray]]:
    """{body id: {frame: (25, 3)}} by the field's parser; a long id keeps its last six digits."""
    def short(id: re.Match) -> bytes:  # the parser reads an id as a float, which has too few digits for a long one
        return b"%d " % (int(id[1]) % 1_000_000)

    path.write_bytes(re.sub(rb"(?m)^(\d{15,}) ", short, path.read_bytes()))
    bodies: dict[int, dict[int, np.ndarray]] = {}
    for t, frame in enumerate(reference_parse(path)):
        for body in frame:
            xyz = np.array([[j["x"], j["y"], j["z"]] for j in body["joints"]])
            bodies.setdefault(int(body["body_id"]), {})[t] = xyz
    return bodies


def test_real_joints_equal_those_of_an_independent_extractor(data_folder):
    with np.load(data_folder / "ntu-samples" / "expected-joints.npz") as z:
        for key in (k for k in z.files if k.endswith("/joints")):
            name, body, _ = key.split("/")
            times, joints = ntu.parse_ntu(sample(data_folder, name))[1][body]
            np.testing.assert_array_equal(joints.reshape(-1, 3), z[key])
            np.testing.assert_array_equal(times, z[key.replace("joints", "frames")])


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_the_samples_equal_the_fields_parser_bit_for_bit(data_folder, tmp_path, name, newline):
    data = sample(data_folder, name).replace(b"\r\n", b"\n").replace(b"\n", newline)
    (tmp_path / "clip").write_bytes(data)
    expected = field_joints(tmp_path / "clip")

    frames, bodies = ntu.parse_ntu(data)
    assert len(bodies) == len(expected) == SAMPLES[name] and frames == max(max(b) for b in expected.values()) + 1
    for body, (times, joints) in bodies.items():
        frames_of = expected[int(body) % 1_000_000]
        np.testing.assert_array_equal(joints, np.float32([frames_of[t] for t in times]))
        assert joints.dtype == np.float32 and times.tolist() == sorted(frames_of)

    assert ntu.parse_plain(data) is not None, "the fast path reads what the camera wrote"


def test_both_line_ends_occur_among_the_samples(data_folder):
    assert {b"\r\n" in sample(data_folder, n) for n in SAMPLES} == {True, False}


@given(st.lists(st.from_regex(r"\A-?[0-9]{1,3}(\.[0-9]{0,17})?(e-?[0-9])?\Z"), min_size=3, max_size=75))
def test_any_spelling_of_a_number_is_read_as_float_reads_it(words):
    words = (words * 75)[:75]
    data = ntu_text([{1: np.array(words, object).reshape(25, 3)}])
    expected = np.float32([float(w) for w in words]).reshape(1, 25, 3)
    np.testing.assert_array_equal(ntu.parse_ntu(data)[1]["1"][1], expected)
    np.testing.assert_array_equal(np.float32(ntu.parse_careful(data)[3]), expected)


@given(st.integers(0, 10**9), st.sampled_from(["%.7g", "%.9g", "%.4f", "%.15f", "%e", "%r"]))
def test_plain_decimals_of_any_length_are_exact_in_float64(seed, spelling):
    exponent = np.random.default_rng(seed).integers(-3, 2, (1, 25, 3))
    x = np.random.default_rng(seed).normal(0, 3, (1, 25, 3)) * 10.0 ** exponent
    words = [spelling % v for v in x.ravel().tolist()]
    data = ntu_text([{1: np.array(words, object).reshape(25, 3)}])
    np.testing.assert_array_equal(ntu.parse_plain(data)[3].ravel(), [float(w) for w in words])


@given(st.data())
def test_bodies_that_come_and_go_keep_their_frames(data):
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


def test_a_file_cut_at_any_byte_but_the_last_is_reported():
    data = ntu_text(walker(1))
    whole = ntu.parse_ntu(data)[1]["7"][1]

    # without the last line end, nothing is lost
    for n in range(len(data)):
        try:
            joints = ntu.parse_ntu(data[:n])[1]["7"][1]
        except ntu.Malformed as e:
            assert 1 <= e.line <= data.count(b"\n")
        else:
            assert n == len(data) - 1
            np.testing.assert_array_equal(joints, whole)


FAULTS = {  # in a text of two frames with a body each: line, what it becomes, line and reason reported
    "words for a frame count": (1, b"many", 1, "frames"),
    "more frames than there are": (1, b"3", 57, "ends here"),
    "fewer frames than there are": (1, b"1", 30, "after the last"),
    "a negative frame count": (1, b"-2", 1, "frames"),
    "absurdly many bodies": (2, b"4000000000", 2, "bodies"),
    "a negative number of bodies": (2, b"-1", 2, "bodies"),
    "underscores in a count": (4, b"2_5", 4, "joints"),
    "a body line short of a field": (3, b"7 0 1 1 1 1 0 0.02 2", 3, "10 fields, this line has 9"),
    "another joint count": (4, b"24", 4, "25 joints, this one has 24"),
    "an infinite joint count": (4, b"inf", 4, "joints"),
    "a joint line short of a field": (9, b"1 2 3 4 5 6 7 8 9 10 11", 9, "12 numbers, this line has 11"),
    "a joint line with one too many": (9, b"1 2 3 4 5 6 7 8 9 10 11 12 13", 9, "12 numbers, this line has 13"),
    "an empty line": (9, b"", 9, "this line has 0"),
    "a short line with a blank at its end": (9, b"1 2 3 4 5 6 7 8 9 10 11 ", 9, "this line has 11"),
    "a word for a coordinate": (12, b"1 left 3 4 5 6 7 8 9 10 11 12", 12, "'1 left 3'"),
    "infinity as C writes it": (12, b"1 2 1.#INF00 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "infinity": (12, b"-Infinity 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "underscores in a number": (12, b"1_0.5 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "a dot alone": (12, b". 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "two dots": (12, b"1.2.3 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "a sign inside": (12, b"1.2-3 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "bytes that are no text": (12, b"\xff\xfe 2 3 4 5 6 7 8 9 10 11 12", 12, "finite"),
    "garbage at the end": (58, b"end", 58, "after the last"),
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


NANS = ["nan", "NaN", "-nan", "-nan(ind)", "nan(snan)", "1.#QNAN", "-1.#IND", "-1.#IND00", "1.#QNAN0"]


@pytest.mark.parametrize("word", NANS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_nan_is_a_missing_joint_in_any_spelling(word, newline):
    frames = [{body: joints.astype(object) for body, joints in frame.items()} for frame in walker(14)]
    whole = ntu.parse_ntu(ntu_text(frames))[1]["7"][1]
    frames[3][7][4, 1] = word
    frames[5][7][:] = word

    # as a track; the body is not there where no joint is
    times, joints = ntu.parse_ntu(ntu_text(frames, newline))[1]["7"]
    rest = np.arange(14) != 5
    missing = np.isnan(joints).any(2)
    assert times.tolist() == np.flatnonzero(rest).tolist()
    assert np.argwhere(missing).tolist() == [[3, 4]] and np.isnan(joints[3, 4]).all()
    np.testing.assert_array_equal(joints[~missing], whole[rest][~missing])

    # as an actor
    actors = ntu.clean_bodies({"7": (times, joints)})
    np.testing.assert_array_equal(actors[0], np.where(missing[..., None], 0, joints))


def test_nan_orders_no_bodies_and_makes_none_wide():
    still = [person(t, sway=0.02) for t in range(30)]
    moving = [person(t, 2, sway=0.3) for t in range(30)]
    gaps = np.random.default_rng(0).random((30, 25, 1)) < 0.2
    holes = np.where(gaps, np.nan, still)
    frames = [{1: one, 2: other} for one, other in zip(holes, moving, strict=True)]
    np.testing.assert_array_equal(cleaned(frames), [moving, np.where(gaps, np.float32(0), still)])


def test_a_file_of_nothing_but_nan_has_no_body():
    with pytest.raises(ValueError, match="no body in any frame"):
        cleaned([{1: np.full((25, 3), np.nan)}] * 3)


def test_a_body_twice_in_one_frame_is_reported():
    text = ntu_text([{1: np.zeros((25, 3)), 2: np.ones((25, 3))}]).replace(b"\n2 0 1", b"\n1 0 1")
    with pytest.raises(ntu.Malformed, match="twice") as e:
        ntu.parse_ntu(text)
    assert e.value.line == 30


@pytest.mark.parametrize("change", [
    lambda d: d.replace(b" ", b"  "), lambda d: d.replace(b" ", b"\t"), lambda d: d.replace(b"\n", b" \n"),
    lambda d: d.replace(b"\n", b"\r\n", 9), lambda d: d + b"\n \r\n\n", lambda d: d.rstrip(b"\n")])
def test_other_blanks_than_the_cameras_are_read(change):
    data = ntu_text(walker(2))
    np.testing.assert_array_equal(ntu.parse_ntu(change(data))[1]["7"][1], ntu.parse_ntu(data)[1]["7"][1])


def test_parsing_is_four_times_as_fast_as_the_fields_parser(data_folder, tmp_path):
    data = sample(data_folder, "S001C001P001R001A001")
    (tmp_path / "clip").write_bytes(data)

    def best(f) -> float:
        spent = []
        for _ in range(12):
            start = time.process_time()
            f()
            spent.append(time.process_time() - start)
        return min(spent)

    # `just bench` measures the ratio precisely
    assert best(lambda: reference_parse(tmp_path / "clip")) > 4 * best(lambda: ntu.parse_ntu(data))


# ---------------------------------------------------------------------------------------------------------------------
# Bodies
# ---------------------------------------------------------------------------------------------------------------------

def naive_actors(frames: list[dict[int, np.ndarray]]) -> list[list[np.ndarray]]:
    """The actors of a clip, frame by frame, by the rules in the docstring of clean_bodies."""
    tracks = {}
    for t, bodies in enumerate(frames):
        for body, joints in bodies.items():
            tracks.setdefault(body, {})[t] = joints

    # the most motion first
    motion = {}
    for body, joints in tracks.items():
        motion[body] = sum(np.var(np.concatenate(list(joints.values()))[:, c]) for c in range(3))
    order = sorted(tracks, key=lambda body: -motion[body])

    # neither short nor wide
    if len(order) > 1:
        order = [b for b in order if len(tracks[b]) > 11] or order[:1]
    if len(order) > 1:
        wide = {b: [np.ptp(j[:, 0]) > 0.8 * np.ptp(j[:, 1]) for j in tracks[b].values()] for b in order}
        order = [b for b in order if sum(wide[b]) / len(wide[b]) < 0.69754] or order[:1]

    # two actors, each of tracks that share no frame
    actors: list[dict[int, np.ndarray]] = []
    for b in order:
        free = [a for a in actors if not set(a) & set(tracks[b])]
        if free:
            free[0].update(tracks[b])
        elif len(actors) < 2:
            actors.append(dict(tracks[b]))

    seen = [t for t in range(len(frames)) if any(t in a for a in actors)]
    return [[a.get(t, np.zeros((25, 3))) for t in seen] for a in actors]


# first frame, number of frames, width in metres, frames lost
SPAN = st.tuples(st.integers(0, 30), st.integers(1, 30), st.sampled_from([0.2, 0.7, 0.9, 2.0]), st.integers(0, 12))


@given(st.lists(SPAN, min_size=1, max_size=5), st.integers(0, 10**6))
def test_bodies_are_cleaned_as_a_naive_reading_of_the_rules_does(spans, seed):
    rng = np.random.default_rng(seed)
    frames: list[dict[int, np.ndarray]] = [{} for _ in range(60)]
    for body, (start, length, width, gap) in enumerate(spans):
        for t in range(start, start + length):
            if not start + 3 <= t < start + 3 + gap:  # gone for a while
                joints = rng.normal(0, 1, (25, 3)) * (width, 1, 0.3) + rng.normal(0, 0.1 * body, 3)
                frames[t][body] = np.float32(joints)

    assume(any(frames))
    np.testing.assert_array_equal(cleaned(frames), np.float32(naive_actors(frames)))


def person(t: int, x: float = 0, width: float = 0.5, sway: float = 0.1) -> np.ndarray:
    y = np.linspace(-0.85, 0.85, 25)
    return np.float32(np.stack([x + width * np.sin(9 * y) / 2 + sway * np.sin(t), y, np.full(25, 3.0)], 1))


def cleaned(frames: list[dict[int, np.ndarray]]) -> np.ndarray:
    return ntu.clean_bodies(ntu.parse_ntu(ntu_text(frames))[1])


def test_empty_frames_are_dropped_and_bodies_keep_their_frames():
    frames: list[dict[int, np.ndarray]] = [{} for _ in range(40)]
    for t in (*range(16), *range(19, 40)):
        frames[t][1] = person(t)
        if t < 14 or t > 24:
            frames[t][2] = person(t, 1, sway=0.05)

    joints = cleaned(frames)
    kept = [t for t in range(40) if frames[t]]
    assert joints.shape == (2, 37, 25, 3)
    np.testing.assert_array_equal(joints[1].any((1, 2)), [2 in frames[t] for t in kept])


def test_bystander_and_furniture_are_dropped_and_motion_orders():
    frames = []
    for t in range(30):
        frames.append({1: person(t, sway=0.05), 2: person(t, 1, sway=0.3), 4: person(t, -1, width=2.0, sway=0.5)})
        if t < 11:
            frames[t][3] = person(t, 2, sway=1)
    joints = cleaned(frames)
    assert joints.shape == (2, 30, 25, 3)
    np.testing.assert_array_equal(joints, [[f[2] for f in frames], [f[1] for f in frames]])


def test_a_track_continued_by_another_number_is_one_actor():
    frames = [{(1 if t < 15 else 2): person(t)} for t in range(30)]
    np.testing.assert_array_equal(cleaned(frames), [[person(t) for t in range(30)]])


def test_if_all_are_short_or_wide_the_one_of_most_motion_stays():
    short = [{1: person(t, sway=0.1), 2: person(t, 1, sway=0.4)} for t in range(5)]
    wide = [{1: person(t, width=3.0, sway=0.1), 2: person(t, 1, width=3.0, sway=2.0)} for t in range(30)]
    for frames in (short, wide):
        np.testing.assert_array_equal(cleaned(frames), [[f[2] for f in frames]])


def test_a_lone_body_stays_however_short_or_wide():
    assert cleaned([{1: person(t, width=3.0)} for t in range(3)]).shape == (1, 3, 25, 3)


def test_a_clip_without_any_body_says_so():
    with pytest.raises(ValueError, match="no body"):
        cleaned([{}, {}])
