"""The synthetic clips are true NTU text of people who move as people do."""
import lzma
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from phases.common import protocols
from phases.recordings import puppet, puppet_body, readers
from phases.recordings.puppet_moves import SYNTHETIC, SYNTHETIC_ACTIONS
from tests.helpers.clip_stores import ROOT

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
TWO = tuple(a for a, name in enumerate(SYNTHETIC_ACTIONS) if name in ("shaking hands", "hugging", "pushing"))
NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:E-\d\d)?"
BODY_LINE = re.compile(rf"\d+ [01] [01] \d [01] \d [01] {NUMBER} {NUMBER} [0-2]")
JOINT_LINE = re.compile(rf"{NUMBER}(?: {NUMBER}){{10}} [0-2]")
R_SHOULDER, R_ELBOW, R_WRIST, L_SHOULDER, L_ELBOW, L_WRIST = 8, 9, 10, 4, 5, 6


def fields(path_or_name) -> dict:
    keys = ("setup", "camera", "subject", "replication", "action")
    numbers = NAME.fullmatch(Path(path_or_name).name.removesuffix(".skeleton")).groups()
    return dict(zip(keys, map(int, numbers), strict=True))


def walk(text: str) -> list[dict[str, np.ndarray]]:
    """Frames of {body id: (25, 12)} of NTU text; checks every line against the grammar, and that no text follows."""
    lines = iter(text.splitlines())
    frames = []

    # number of frames; in each, number of bodies; of each, a line, the number of joints, 25 lines
    for _ in range(int(next(lines))):
        bodies = {}
        frames.append(bodies)
        for _ in range(int(next(lines))):
            head = next(lines)
            assert BODY_LINE.fullmatch(head), head
            assert next(lines) == "25"
            rows = [next(lines) for _ in range(25)]
            assert all(map(JOINT_LINE.fullmatch, rows)), next(r for r in rows if not JOINT_LINE.fullmatch(r))
            assert head.split()[0] not in bodies
            bodies[head.split()[0]] = np.array([r.split() for r in rows], float)

    assert next(lines, None) is None
    return frames


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Every action by four subjects, two of them in xsub's training side, twice: 288 files."""
    folder = tmp_path_factory.mktemp("synthetic")
    assert puppet.write_synthetic(folder, seed=3, workers=1, subjects=(1, 2, 3, 6), replications=2) == 288
    return folder


@pytest.fixture(scope="module")
def walked(clips) -> dict[str, list]:
    return {p.stem: walk(p.read_bytes().decode("ascii")) for p in sorted(clips.glob("*.skeleton"))}


@pytest.fixture(scope="module")
def cleaned(clips) -> dict[str, np.ndarray]:
    return {p.stem: readers.read_clip(p) for p in sorted(clips.glob("*.skeleton"))}


@pytest.fixture(scope="module")
def acts() -> list[tuple[str, np.ndarray]]:
    """(action, joints (T, 25, 3)) before any camera: each part of each action, once right- and once left-handed.

    The puppet looks along -z.
    """
    found = []
    for a, (name, (moves, reply, _)) in enumerate(SYNTHETIC.items()):
        for part, what in enumerate((moves, reply) if reply else (moves,)):
            for lefty in (False, True):
                rng = np.random.default_rng((a, part, lefty))
                found.append((name, puppet.act(what, puppet.person(0, 5 + part), 60, 0, lefty, rng)))
    return found


def test_the_grammar_of_this_file_accepts_the_real_recordings(data_folder):
    for path in sorted((data_folder / "ntu-samples").glob("*.skeleton.xz"))[:3]:
        assert walk(lzma.decompress(path.read_bytes()).decode("ascii"))


def test_every_line_of_every_file_follows_the_ntu_grammar(walked):
    assert len(walked) == 288 and min(map(len, walked.values())) > 20 and max(map(len, walked.values())) < 120


def test_some_files_have_crlf_and_some_lf_and_none_has_both(clips):
    kinds = defaultdict(int)
    for path in clips.glob("*.skeleton"):
        data = path.read_bytes()
        assert data.count(b"\r\n") in (0, data.count(b"\n")) and data.endswith(b"\n")
        kinds[b"\r\n" in data] += 1
    assert min(kinds[True], kinds[False]) > 20


def test_points_are_projections_and_orientations_quaternions(walked):
    for frames in list(walked.values())[::12]:
        for joints in (j for frame in frames for j in frame.values()):
            x, y, z = joints[:, :3].T
            depth = np.stack((256.3 + 366.4 * x / z, 208.5 - 366.4 * y / z), 1)
            colour = np.stack((976.0 + 1055.0 * x / z, 567.3 - 1056.5 * y / z), 1)
            np.testing.assert_allclose(joints[:, 3:5], depth, rtol=1e-3)
            np.testing.assert_allclose(joints[:, 5:7], colour, rtol=1e-3)

            norm = np.linalg.norm(joints[:, 7:11], axis=1)
            ends = np.isin(np.arange(25), (3, 15, 19, 21, 22, 23, 24))  # a Kinect gives them no orientation
            assert not norm[ends].any() and np.allclose(norm[~ends], 1, atol=1e-4)


def test_people_stand_upright_some_metres_before_the_camera(cleaned):
    for name, joints in cleaned.items():
        seen = joints[joints.any((-1, -2))]
        assert 1.2 < seen[..., 2].min() and seen[..., 2].max() < 5.5, name
        assert (seen[:, 3, 1] > seen[:, 15, 1]).all(), name


def test_files_depend_on_the_seed_and_their_name_alone(clips, tmp_path):
    assert puppet.write_synthetic(tmp_path / "two", seed=3, workers=2, subjects=(6,), replications=1) == 36
    assert puppet.write_synthetic(tmp_path / "other", seed=4, workers=1, subjects=(6,), replications=1) == 36
    for path in (tmp_path / "two").glob("*.skeleton"):
        assert path.read_bytes() == (clips / path.name).read_bytes() != (tmp_path / "other" / path.name).read_bytes()


def test_a_second_run_writes_what_is_missing_and_no_more(clips, tmp_path):
    def write(seed: int) -> int:
        return puppet.write_synthetic(tmp_path, seed=seed, workers=1, subjects=(6,), replications=1)

    assert (write(3), write(3)) == (36, 0)
    gone, kept = sorted(tmp_path.glob("*A005.skeleton")), (tmp_path / "S001C001P006R001A001.skeleton")
    before = kept.stat().st_mtime_ns
    gone[0].unlink()
    assert write(3) == 3 and gone[0].read_bytes() == (clips / gone[0].name).read_bytes()
    assert kept.stat().st_mtime_ns == before
    assert write(4) == 36, "another seed replaces every file"
    assert kept.read_bytes() != (clips / kept.name).read_bytes()


def test_a_killed_run_leaves_no_torn_file_and_is_continued(clips, tmp_path):
    code = ("import sys; from phases.recordings import puppet; "
            "puppet.write_synthetic(sys.argv[1], seed=3, workers=1, subjects=(1, 2, 3, 6))")
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)

    # killed when some files are written
    end = time.monotonic() + 30
    while len(list(tmp_path.glob("*.skeleton"))) < 20 and run.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    run.kill()
    run.wait()

    # each file is whole
    done = list(tmp_path.glob("*.skeleton"))
    assert 20 <= len(done) < 288
    assert all(p.read_bytes() == (clips / p.name).read_bytes() for p in done)

    # the next run writes the others
    assert puppet.write_synthetic(tmp_path, seed=3, workers=1, subjects=(1, 2, 3, 6)) >= 288 - len(done)
    completed, expected = ({p.name: p.stat().st_size for p in d.glob("*.skeleton")} for d in (tmp_path, clips))
    assert completed == expected


def test_a_folder_of_other_recordings_is_refused_and_kept(tmp_path):
    (tmp_path / "S001C001P001R001A001.skeleton").write_text("0\n")
    with pytest.raises(ValueError, match="of another origin"):
        puppet.write_synthetic(tmp_path, workers=1, subjects=(1,))
    assert (tmp_path / "S001C001P001R001A001.skeleton").read_text() == "0\n"


@pytest.mark.parametrize("wrong", [
    {"seed": -1}, {"replications": 0}, {"subjects": ()}, {"subjects": (0,)}, {"subjects": (1000,)}])
def test_impossible_wishes_are_refused_before_any_file(tmp_path, wrong):
    with pytest.raises(ValueError, match="synthetic clips"):
        puppet.write_synthetic(tmp_path / "none", workers=1, **wrong)
    assert not (tmp_path / "none").exists()


def test_every_action_stands_on_both_sides_of_every_protocol(walked):
    rules = {n: (r["field"], set(r["train"])) for n, r in protocols.PROTOCOLS["synthetic"].items()}
    assert set(rules) == {"xsub", "xview", "xset"}
    for field, train in rules.values():
        sides = defaultdict(set)
        for f in map(fields, walked):
            sides[f["action"]].add(f[field] in train)
        assert len(sides) == len(SYNTHETIC_ACTIONS) >= 12 and all(s == {True, False} for s in sides.values())


def test_two_thirds_of_the_subjects_train_and_setups_are_mixed():
    train = [s for s in puppet.SUBJECTS if s in protocols.XSUB60]
    assert len(train) * 3 == len(puppet.SUBJECTS) * 2
    for side in (train, set(puppet.SUBJECTS) - set(train)):
        assert {(1 + s % 6) % 2 for s in side} == {0, 1}


def test_only_two_person_actions_have_two_bodies_face_to_face(cleaned):
    for name, joints in cleaned.items():
        assert len(joints) == 1 + (fields(name)["action"] - 1 in TWO), name
        if len(joints) < 2:
            continue
        both = joints.any((-1, -2)).all(0)
        assert both.mean() > 0.8

        # in the first frame that shows both
        first, second = joints[:, both][:, 0]
        apart = (second[0] - first[0]) * (1, 0, 1)
        assert 0.5 < np.linalg.norm(apart) < 1.6
        for body, way in ((first, apart), (second, -apart)):
            behind = np.cross(body[8] - body[4], body[20] - body[0])  # right x up
            assert -(behind * way).sum() / np.linalg.norm(behind) / np.linalg.norm(way) > 0.6


def test_a_performance_is_the_same_from_three_cameras(cleaned):
    """Distances between joints do not depend on the camera: those of one performance agree up to noise."""
    for base in ("S002C00{}P001R001A003", "S003C00{}P002R002A007"):
        views = [cleaned[base.format(c)][0] for c in (1, 2, 3)]
        if len({len(v) for v in views}) == 1:  # no camera lost a frame
            spans = [np.linalg.norm(v[:, [10, 6, 19]] - v[:, [0]], axis=-1) for v in views]
            assert max(abs(spans[0] - s).mean() for s in spans[1:]) < 0.02


def test_the_cameras_faults_are_lost_bodies_and_false_ones(walked, cleaned):
    empty = [n for n, frames in walked.items() if any(not f for f in frames)]
    brief, wide, renamed = [], [], []
    for name, frames in walked.items():
        seen = {b: [f[b] for f in frames if b in f] for b in set().union(*frames)}
        extent = {b: np.ptp(np.array(j)[..., :2], axis=1) for b, j in seen.items()}

        # furniture, somebody who passes, a body that gets another number
        wide += [name for e in extent.values() if (e[:, 0] > 0.8 * e[:, 1]).mean() > 0.95 and len(e) > 11]
        brief += [name for j in seen.values() if len(j) <= 11]
        people = 1 + (fields(name)["action"] - 1 in TWO)
        renamed += [name] * (len(seen) > people and max(map(len, frames)) == people and name not in brief + wide)

    assert 3 <= len(empty) <= 60 and len(brief) >= 3 and len(wide) >= 3 and len(renamed) >= 1
    for name in empty:  # cleaning drops the frames without a body and keeps the others
        assert cleaned[name].shape[1] == sum(bool(f) for f in walked[name]) or name in wide + brief


def test_bones_keep_their_length_but_for_the_cameras_noise(acts, cleaned):
    # before any camera
    parents = puppet_body.PARENT
    for name, J in acts:
        assert np.ptp(np.linalg.norm(J - J[:, parents], axis=-1), axis=0).max() < 1e-9, name

    # as recorded
    for name, joints in list(cleaned.items())[::5]:
        body = joints[0][joints[0].any((-1, -2))]
        spread = np.linalg.norm(body - body[:, parents], axis=-1).std(0)
        assert spread.max() < 0.05 and spread[[1, 2, 3, 4, 8, 20]].max() < 0.01, name

    # and there is noise
    spreads = []
    for joints in cleaned.values():
        if joints[0].any((-1, -2)).all():
            spreads.append(np.linalg.norm(joints[0] - joints[0][:, parents], axis=-1).std(0))
    assert np.median(spreads) > 0.001


def test_knees_bend_forwards_and_never_sideways_or_back(acts):
    for name, J in acts:
        for hip, knee, ankle in ((12, 13, 14), (16, 17, 18)):
            way = J[:, ankle] - J[:, hip]
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            out = J[:, knee] - J[:, hip]
            out -= (out * way).sum(1, keepdims=True) * way
            out /= np.linalg.norm(out, axis=1, keepdims=True)

            # upwards in a high kick or on a seat
            assert abs(out[:, 0]).max() < 0.75, name
            forwards, upwards = -out[:, 2], out[:, 1]
            assert (np.maximum(forwards, upwards) > 0.3).all(), name


def test_elbows_point_down_out_or_back_and_fold_as_elbows_do(acts):
    for name, J in acts:
        up = J[:, 20] - J[:, 1]
        up /= np.linalg.norm(up, axis=1, keepdims=True)
        for side, (s, e, w) in ((1, (R_SHOULDER, R_ELBOW, R_WRIST)), (-1, (L_SHOULDER, L_ELBOW, L_WRIST))):
            right = J[:, R_SHOULDER] - J[:, L_SHOULDER]
            right /= np.linalg.norm(right, axis=1, keepdims=True)
            behind = np.cross(right, up)

            # where the elbow is, off the line from shoulder to wrist
            way = J[:, w] - J[:, s]
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            out = J[:, e] - J[:, s]
            out -= (out * way).sum(1, keepdims=True) * way
            share = [(out * axis).sum(1) / np.linalg.norm(out, axis=1) for axis in (side * right, -up, behind)]
            assert (np.max(share, axis=0) > 0.4).all() and share[2].min() > -0.35, name

            # the angle between upper arm and forearm
            upper, fore = J[:, e] - J[:, s], J[:, w] - J[:, e]
            cosine = (upper * fore).sum(1) / np.linalg.norm(upper, axis=1) / np.linalg.norm(fore, axis=1)
            bend = np.degrees(np.arccos(cosine))
            assert 5 < bend.min() and bend.max() < 135, name


def test_feet_stand_on_the_floor_unless_the_action_lifts_them(acts):
    for name, J in acts:
        ankle = J[:, [14, 18], 1]
        floor = ankle[0].min()
        lift = ankle - floor
        assert 0.04 < floor < 0.12 and lift.min() > -0.02, name

        if name == "jump up":
            assert lift.min(1).max() > 0.1
        elif name != "kicking something":
            assert lift.min(1).max() < 0.02 and lift.max() < 0.15, name

        # nobody slides on standing feet
        if name not in ("throw", "kicking something", "hugging", "pushing"):
            down = (lift < 0.01).all(1)
            assert np.ptp(J[down][:, [14, 18]], axis=0).max() < 0.03, name


def test_each_action_does_what_its_name_says(acts):
    for name, J in acts:
        hands, head = J[:, [7, 11]], J[:, [3]]
        reach = np.linalg.norm(hands - head, axis=-1)
        apart = np.linalg.norm(hands[:, 0] - hands[:, 1], axis=-1)
        pelvis = J[:, 0, 1] / J[[0, -1], 0, 1].max()
        middle = slice(len(J) // 3, 2 * len(J) // 3)

        seen = {
            "drink water": reach.min() < 0.32 and reach[0].min() > 0.45,
            "pick up": J[:, [21, 23], 1].min() < 0.35 and pelvis[-1] > 0.9,
            "throw": np.linalg.norm(np.diff(hands, axis=0), axis=-1).max() > 0.08,
            "sit down": pelvis[0] > 0.9 and pelvis[-1] < 0.75,
            "stand up": pelvis[0] < 0.75 and pelvis[-1] > 0.9,
            "clapping": apart[middle].min() < 0.2,
            "hand waving": (hands[..., 1] > head[..., 1]).any(1).mean() > 0.3,
            "kicking something": J[:, [14, 18], 1].max() > 0.3,
            "jump up": pelvis.max() > 1.1,
        }
        assert seen.get(name, True), name


def test_hands_meet_when_two_people_shake_them(cleaned):
    near = []
    for name, joints in cleaned.items():
        if fields(name)["action"] - 1 == TWO[0]:
            a, b = joints
            near.append(min(np.linalg.norm(a[:, i] - b[:, j], axis=-1).min() for i in (7, 11) for j in (7, 11)))
    assert np.median(near) < 0.15


def test_remembered_coordinates_do_not_solve_unseen_subjects(cleaned):
    """Nearest neighbour on raw coordinates of 16 frames: above chance (1 in 12), and far from solved."""
    both = [np.concatenate((j[0], j[-1] * (len(j) == 2)), 1) for j in cleaned.values()]
    x = np.stack([j[np.linspace(0, len(j) - 1, 16).round().astype(int)].ravel() for j in both])
    action = np.array([fields(n)["action"] for n in cleaned])
    train = np.array([fields(n)["subject"] in protocols.XSUB60 for n in cleaned])
    nearest = ((x[~train, None] - x[None, train]) ** 2).sum(-1).argmin(1)
    assert 0.15 < (action[train][nearest] == action[~train]).mean() < 0.8
