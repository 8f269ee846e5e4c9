"""Changed clips before a network: the view sees them as it sees a store's, and figures are as defined."""
import numpy as np
import torch

from phases.recordings.wild import ROWS, changed
from phases.training.changed_clips import BINS, answers_by_row, judge, judged, memory_store
from phases.training.clip_store import ClipStore, clip_joints
from phases.training.settings import View
from phases.training.view import ClipView


def test_a_view_sees_clips_in_memory_as_those_of_the_store(store):
    stored = ClipStore(store)
    clips = [clip_joints(stored, i) for i in range(len(stored))]
    copied = memory_store(clips, stored.clips["label"], stored.skeleton)
    for cfg in (View(frames=16, bodies=2, trunk_scale=True), View(frames=8, smooth=1.0, heading=True, extent=True)):
        index = torch.arange(len(stored))
        want = ClipView(stored, cfg)(index)
        torch.testing.assert_close(ClipView(copied, cfg)(index), want, rtol=0, atol=1e-6)
    assert np.array_equal(copied.clips["label"], stored.clips["label"])


def test_every_clip_is_asked_once_for_each_row_in_order(store):
    stored = ClipStore(store)
    index = np.array([5, 2, 9])
    asked = []

    def answers(clips: list[np.ndarray]) -> np.ndarray:
        asked.append(clips)
        return np.array([[joints.sum(), 0] for joints in clips])

    found = list(answers_by_row(answers, stored, index, list(ROWS[:2])))
    assert [row for row, _ in found] == ["clean", ROWS[0].name, ROWS[1].name]
    for clips, row in zip(asked, (None, *ROWS[:2]), strict=True):
        for joints, i in zip(clips, index, strict=True):
            as_stored = clip_joints(stored, i)
            want = changed(as_stored, row, f"clip{i:03d}", stored.skeleton) if row else as_stored
            assert np.array_equal(joints, want)


def test_confidence_and_calibration_error_are_as_defined():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5] * 4, 300).astype(np.float32)
    p[0] = (1, 0, 0, 0)
    label = rng.integers(0, 4, 300)
    sure, right = p.max(1).astype(float), p.argmax(1) == label

    ece = 0.0
    for k in range(BINS):
        inside = (sure >= k / BINS) & ((sure < (k + 1) / BINS) | (k == BINS - 1))
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    found = judged(p, label)
    np.testing.assert_allclose([found["top1"], found["confidence"], found["ece"]],
                               [100 * right.mean(), 100 * sure.mean(), 100 * ece])


def test_the_mean_is_of_the_rows_that_count_and_are_there():
    label = np.array([0, 0, 1, 1])
    right, wrong = np.eye(2)[label], np.eye(2)[1 - label]
    half = np.concatenate([right[:2], wrong[2:]])
    by_row = [("clean", right), ("noise 5 cm", wrong), ("noise 10 cm", wrong), ("spikes 2 %", half)]

    figures = judge(iter(by_row), label)
    assert figures["mean"] == 50 and figures["mean_of"] == 3 and "top1_clean" not in figures
    assert figures["top1"] == {"clean": 100, "noise 5 cm": 0, "noise 10 cm": 0, "spikes 2 %": 50}
    assert figures["confidence"]["noise 5 cm"] == figures["ece"]["noise 5 cm"] == 100

    # without the clips of a class that was copied
    figures = judge(iter(by_row), label, leaked=(1,))
    assert figures["top1_clean"]["spikes 2 %"] == 100 and round(figures["mean_clean"], 1) == 66.7
