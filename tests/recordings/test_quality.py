"""What phase 0 prints of a store reads well with equal numbers and with one of a kind."""
from pathlib import Path

from phases.recordings.quality import stored


def report(per_label: dict, frames: tuple[int, float, int], copied: int) -> list[str]:
    """The lines about a store with clips of these classes, of one subject, camera and setup."""
    counts = {"given": {"train": 20, "test": 10}}
    quality = {"clips": sum(per_label.values()), "frames": frames, "two_bodies": 0, "per_label": per_label,
               "per_subject": {"1": 1}, "per_camera": {}, "per_setup": {}, "test_clips_in_training": {"given": copied}}
    return list(stored({"quality": quality, "counts": counts}, Path("stores/mine")))


def test_equal_numbers_and_ones_are_no_ranges_and_no_plurals():
    assert report({"a": 30, "b": 30}, (16, 16, 16), 1) == [
        "stores/mine: 60 clips, 16 frames, 0 with two bodies",
        "  2 classes with 30 clips each",
        "  given: 20 training, 10 test; 1 test clip is a copy of a training clip"]
    assert report({"a": 1, "b": 1}, (1, 1, 1), 0)[:2] == [
        "stores/mine: 2 clips, 1 frame, 0 with two bodies", "  2 classes with 1 clip each"]
    assert report({"a": 1}, (1, 1, 1), 0)[0] == "stores/mine: 1 clip, 1 frame, 0 with two bodies"


def test_numbers_that_differ_are_a_range():
    assert report({"a": 4, "b": 30}, (8, 12.5, 20), 2) == [
        "stores/mine: 34 clips, 8 to 20 frames (median 12.5), 0 with two bodies",
        "  2 classes with 4 to 30 clips each",
        "  given: 20 training, 10 test; 2 test clips are copies of training clips"]
