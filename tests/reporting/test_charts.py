"""Geometry of a report's drawings."""
import numpy as np
import pytest

from phases.reporting.charts import Chart, chart, confusion_chart, frame_strip, ticks
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose


@pytest.mark.parametrize("low, high", [(0, 1), (0, 97.3), (0.0001, 0.05), (-3, 4), (12, 12.5)])
def test_an_axis_has_three_to_seven_round_numbers(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 7 and low <= min(found) and max(found) <= high + 1e-9
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])


def test_a_curve_spans_the_axes_and_small_values_start_at_zero():
    falling = chart("Loss", {"training": [(1, 2.0), (2, 1.0), (3, 0.2)]})
    (line,) = falling.lines
    assert [x for x, _ in line.points] == [Chart.LEFT, (Chart.LEFT + Chart.RIGHT) / 2, Chart.RIGHT]
    assert line.points[0][1] == Chart.TOP and line.points[2][1] < Chart.BOTTOM
    assert falling.grid[0] == (Chart.BOTTOM, "0") and falling.epochs[-1] == (Chart.RIGHT, "3")


def test_one_epoch_and_constant_values_are_drawn():
    constant = chart("Learning rate", {"training": [(1, 0.5)]})
    assert constant.lines[0].points == [(Chart.LEFT, Chart.BOTTOM)] and constant.epochs == [(Chart.LEFT, "1")]


def test_a_confusion_matrix_has_a_cell_per_pair_that_occurs():
    confusion = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    drawn = confusion_chart(confusion, ["sit", "stand", "a name of more than 22 letters"])
    cells = [(cell.clips, round(cell.share, 2), cell.is_right, cell.about) for cell in drawn.cells]
    assert cells == [(3, 0.75, True, "sit taken for sit: 3 of 4"), (1, 0.25, False, "sit taken for stand: 1 of 4"),
                     (2, 1.0, True, "stand taken for stand: 2 of 2")]
    assert drawn.cells[1].x == drawn.margin + drawn.cell and drawn.cells[1].y == drawn.margin
    assert [name for _, name in drawn.names] == ["sit", "stand", "a name of more than 2…"]


@pytest.mark.parametrize("classes, cell, named", [(15, 30, True), (30, 22, True), (60, 10, True), (61, 10, False)])
def test_many_classes_make_small_cells_without_names(classes, cell, named):
    drawn = confusion_chart(np.eye(classes, dtype=int), [f"class {k}" for k in range(classes)])
    assert drawn.cell == cell and bool(drawn.names) == named
    assert drawn.size == drawn.margin + drawn.side + 10


def test_a_strip_has_eight_frames_and_leaves_missing_bones_out():
    skeleton = SKELETONS["ntu25"]
    joints = np.tile(rest_pose(skeleton) + (0, 0, 3), (2, 20, 1, 1))
    whole = frame_strip(joints, skeleton)
    assert len(whole.bones) == 8 * 2 * 24 and sum(bone.is_main_body for bone in whole.bones) == 8 * 24
    assert all(0 <= x <= whole.width and 0 <= y <= whole.HEIGHT
               for bone in whole.bones for x, y in (bone.ends[:2], bone.ends[2:]))

    joints[1, :, skeleton.joints.index("head")] = 0
    assert len(frame_strip(joints, skeleton).bones) == 8 * (2 * 24 - 1)
