"""Clips on paper, and the bars of a network's answers."""
import numpy as np
import pytest

from phases.reporting.drawing import drawn_lines, project, segments
from phases.reporting.pictures import Bars, views
from skeletons import SKELETONS


def test_a_picture_has_the_sides_of_the_camera():
    joints = np.ones((1, 1, 25, 3)) * (0.5, 1.0, 3.0)
    joints[0, 0, 4] = 0  # missing
    front, side = (project(joints, SKELETONS["ntu25"], view) for view in ("front", "side"))
    assert front[0, 0, 0].tolist() == [-0.5, 1.0] and side[0, 0, 0].tolist() == [3.0, 1.0]
    assert np.isnan(front[0, 0, 4]).all() and views(joints) == ("front", "side")


def test_flat_clips_are_drawn_upright_and_have_no_side():
    coco = SKELETONS["coco17"]
    flat = np.zeros((1, 2, 17, 3)) + (10, 100, 0)
    flat[..., [15, 16], 1] = 300  # pixels count downwards
    paper = project(flat, coco, "front")
    assert (paper[..., 0, 1] > paper[..., 15, 1]).all() and views(flat) == ("front",)

    # a webcam sees no legs
    flat[..., [5, 6], 1], flat[..., 7:, :] = 180, 0
    paper = project(flat, coco, "front")
    assert (paper[..., 0, 1] > paper[..., 5, 1]).all()


@pytest.mark.parametrize("name", ["coco17", "mediapipe33", "holistic"])
def test_a_body_without_neck_and_spine_is_drawn_with_both(name):
    body = SKELETONS[name]
    place = {joint: np.random.default_rng(v).normal(size=2) for v, joint in enumerate(body.joints)}
    paper = np.array([place[joint] for joint in body.joints])
    lines = drawn_lines(body)
    drawn = segments(paper, lines)
    assert drawn.shape == (len(lines), 2, 2)

    # the lines of the trunk, by hand; none from the nose to a shoulder
    shoulders = [place["left shoulder"], place["right shoulder"]]
    hips = [place["left hip"], place["right hip"]]
    neck = [np.mean(shoulders, 0), place["nose"]]
    spine = [np.mean(shoulders, 0), np.mean(hips, 0)]
    for ends in (shoulders, hips, neck, spine):
        assert any(np.allclose(ends, found) for found in drawn)
    assert not any(np.allclose([shoulder, place["nose"]], found) for shoulder in shoulders for found in drawn)

    # without a shoulder there is neither neck nor spine
    paper[body.joints.index("left shoulder")] = np.nan
    lost = np.isnan(segments(paper, lines)).any((1, 2))
    assert lost.sum() == 3 + sum("left shoulder" in (body.joints[c], body.joints[p]) for c, p in body.bones) - 1


@pytest.mark.parametrize("name", sorted(set(SKELETONS) - {"coco17", "mediapipe33", "holistic"}))
def test_other_bodies_are_drawn_bone_by_bone(name):
    body = SKELETONS[name]
    lines = [(line.start, line.end) for line in drawn_lines(body)]
    assert lines == [((child,), (parent,)) for child, parent in body.bones if child != parent]


def test_bars_show_a_ranking_label_by_label():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure
    bars = Bars(Figure().subplots(), 2)
    bars.show([("wave", 0.75), ("sit", 0.25)])
    bars.show([("sit", 0.5), ("wave", 0.125)])
    assert [bar.get_width() for bar in bars.bars] == [0.5, 0.125]
    assert [text.get_text() for text in (*bars.names, *bars.shares)] == ["sit", "wave", "50 %", "12 %"]
