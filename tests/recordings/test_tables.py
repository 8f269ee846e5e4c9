"""Tables: a row per joint, the alphabets and marks that spreadsheets write, and people by name."""
import numpy as np
import pytest

from phases.recordings.clips import main_two
from phases.recordings.csv_clips import joints_of_table
from phases.recordings.metres import as_joints
from phases.recordings.poses import load_pose
from skeletons import SKELETONS
from tests.helpers.recordings import OWN, contents, own_folder, phase0

RNG = np.random.default_rng(0)
BODY = RNG.normal(size=(6, 20, 3)).astype(np.float32) + 5  # l v 3
NAMES = SKELETONS["kinect20"].joints


def read(tmp_path, text: str | bytes, joints=()) -> np.ndarray:
    (tmp_path / "clip.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return as_joints(load_pose(tmp_path / "clip.csv", joints))


def tidy(header: str, rows: list[tuple]) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)])


def rows_of(x: np.ndarray, joints=range(20), frames=range(6), more=()) -> list[tuple]:
    return [(frames[t], joints[v], *xyz, *more) for t, frame in enumerate(x.tolist()) for v, xyz in enumerate(frame)]


# ---------------------------------------------------------------------------------------------------------------------
# A row per joint
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("header", ["frame,joint,x,y,z", "Frame,landmark_id,X [mm],Y [mm],Z [mm]", "t,jointName,x,y,z",
                                    "image_id,keypoint,x,y,z", "timestamp,bodypart,x,y,z"])
@pytest.mark.parametrize("frames", [range(6), range(7, 13), [0.0, 0.033, 0.067, 0.1, 0.133, 0.167],
                                    [f"{t}.png" for t in range(6)], [0, 33, 67, 100, 133, 167]])
def test_a_row_per_joint_is_a_clip(tmp_path, header, frames):
    np.testing.assert_array_equal(read(tmp_path, tidy(header, rows_of(BODY, frames=frames))), BODY[None])
    assert joints_of_table(tmp_path / "clip.csv") == []

    # from 1, and in any order but that of names
    rows = rows_of(BODY, range(1, 21), frames)
    if not isinstance(frames[0], str):
        rows = rows[::-1]
    np.testing.assert_array_equal(read(tmp_path, tidy(header, rows)), BODY[None])


def test_joints_by_name_get_the_skeletons_order(tmp_path):
    order = RNG.permutation(20)
    rows = rows_of(BODY[:, order], [NAMES[v] for v in order])
    np.testing.assert_array_equal(read(tmp_path, tidy("frame,joint,x,y,z", rows), NAMES), BODY[None])
    np.testing.assert_array_equal(read(tmp_path, tidy("frame,joint,x,y,z", rows)), BODY[None][:, :, order])
    assert len(joints_of_table(tmp_path / "clip.csv")) == 20

    # one is called differently
    rows = rows_of(BODY, ["tip", *NAMES[1:]])
    with pytest.raises(ValueError, match="no columns for the joint"):
        read(tmp_path, tidy("frame,joint,x,y,z", rows), NAMES)


@pytest.mark.parametrize("joints", [range(20), range(1, 21), NAMES])
def test_rows_that_are_not_there_are_missing(tmp_path, joints):
    """A joint that is never seen, a joint in a frame, and a frame."""
    want = BODY.copy()
    want[:, 19] = 0
    want[2, 3] = 0
    want[4] = 0
    rows = [row for row in rows_of(want, joints) if row[2] != 0]
    np.testing.assert_array_equal(read(tmp_path, tidy("frame,joint,x,y,z", rows), NAMES), want[None])

    # an empty cell is, too
    rows[0] = (*rows[0][:4], "")
    assert not read(tmp_path, tidy("frame,joint,x,y,z", rows), NAMES)[0, 0, 0].any()


def test_people_and_scores_of_a_row_per_joint(tmp_path):
    two = np.stack([BODY, 3 * BODY])
    rows = [row for m in range(2) for row in rows_of(two[m], more=(0.5, f"p{m}"))]
    x = read(tmp_path, tidy("frame,joint,x,y,z,score,person_id", rows))
    np.testing.assert_array_equal(x, two)
    np.testing.assert_array_equal(main_two(x), two[::-1])  # the one who moves more is the first

    # a score of 0, flat
    rows = [(t, v, x, y, v % 2) for t, v, x, y, _ in rows_of(BODY)]
    x = read(tmp_path, tidy("frame,joint,x,y,visibility", rows))
    np.testing.assert_array_equal(x[0, :, 1::2, :2], BODY[:, 1::2, :2])
    assert not x[..., 2].any() and not x[0, :, ::2].any()


@pytest.mark.parametrize("change, words", [
    (lambda rows: [*rows, rows[0]], "frame 0, joint '0' is there twice"),
    (lambda rows: [(0, 5, 1, 2, "inf"), *rows[20:]], "frame 0, joint '5': 'inf' is not finite"),
    (lambda rows: [(0, 5, 1, 2, "b"), *rows[20:]], "frame 0, joint '5': 'b' is not a number"),
    (lambda rows: [(0, "", 1, 2, 3)], "names none"),
    (lambda rows: [*rows, (10**9, 0, 1, 2, 3)], "at most")])
def test_a_row_per_joint_that_is_wrong_is_one_line(tmp_path, change, words):
    with pytest.raises(ValueError, match=words) as e:
        read(tmp_path, tidy("frame,joint,x,y,z", change(rows_of(BODY))))
    assert "\n" not in str(e.value)


# ---------------------------------------------------------------------------------------------------------------------
# Alphabets
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
def test_tables_in_any_usual_alphabet(tmp_path, encoding):
    text = "Hüfte_x;Hüfte_y;Fuß_x;Fuß_y\n1,5;2;3;4\n"
    np.testing.assert_array_equal(read(tmp_path, text.encode(encoding))[0, 0, :, :2], [[1.5, 2], [3, 4]])
    assert joints_of_table(tmp_path / "clip.csv") == ["hüfte", "fuß"]


def test_decimal_commas_in_quotes_are_read_and_thousands_are_not(tmp_path):
    rows = '"1,5","-2,250",3,"4,125e1","well, well"\n1,2,"0,125",4,\n'
    x = read(tmp_path, "a_x,a_y,b_x,b_y,note\n" + rows)
    np.testing.assert_array_equal(x[0, :, :, :2], [[[1.5, -2.25], [3, 41.25]], [[1, 2], [0.125, 4]]])
    numbers = ",".join('"1,5"' for _ in range(51))
    assert (read(tmp_path, f"{numbers}\n{numbers}\n") == 1.5).all()

    # nothing tells thousands from thousandths
    with pytest.raises(ValueError, match="'1,250' is not a number"):
        read(tmp_path, 'a_x,a_y\n"1,250",2\n')


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_labels_in_any_usual_alphabet_with_any_mark(tmp_path, encoding, mark):
    raw = own_folder(tmp_path / "raw", "", a=BODY, b=BODY + 1)
    (raw / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    lines = [["name", "label", "subject"], ["a", "gähnen", "1"], ["b", "grüßen", "3"]]
    (raw / "labels.csv").write_bytes("\n".join(map(mark.join, lines)).encode(encoding))
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")
    _, table, meta = contents(tmp_path / "store")
    assert meta["classes"] == ["grüßen", "gähnen"] and table["subject"] == [1, 3]


# ---------------------------------------------------------------------------------------------------------------------
# People by name
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("people, numbers, said", [
    (["Zoe", "anna", "zoe", "Ben"], [3, 1, 3, 2], "anna is 1, Ben is 2, Zoe is 3"),
    (["S07", "S02", "S07", "S10"], [7, 2, 7, 10], ""),
    (["S1", "P1", "S1", "P2"], [3, 1, 3, 2], "P1 is 1, P2 is 2, S1 is 3"),
    (["P0", "P1", "P0", "P2"], [1, 2, 1, 3], "P0 is 1"),
    (["4", "2", "4", "9"], [4, 2, 4, 9], "")])
@pytest.mark.parametrize("packed", [False, True])
def test_people_may_have_names(tmp_path, capsys, people, numbers, said, packed):
    names = "abcd"
    if packed:
        np.savez(tmp_path / "x.npz", data=np.concatenate([BODY + i for i in range(4)]), offsets=range(0, 25, 6),
                 names=list(names), labels=[0, 1, 0, 1], subject=people)
        (tmp_path / "x.json").write_text('{"skeleton": "kinect20"}')
        raw = tmp_path / "x.npz"
    else:
        lines = [f"{name},{'wave' if i % 2 else 'sit'},{people[i]}" for i, name in enumerate(names)]
        text = "\n".join(["name,label,subject", *lines])
        raw = own_folder(tmp_path / "raw", text, **{name: BODY + i for i, name in enumerate(names)})

    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")
    assert contents(tmp_path / "store")[1]["subject"] == numbers
    told = [line for line in capsys.readouterr().err.splitlines() if "subject" in line]
    assert len(told) == bool(said) and said in "".join(told)
