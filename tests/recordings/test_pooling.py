"""Clips of several data sets as those of one body: phases/recordings/pooling.py."""
import numpy as np
import pytest

from phases.recordings.pooling import BODY, Source, lines_about, pooled_classes, pooled_clips
from phases.training.clip_store import ClipStore
from skeletons import SKELETONS, Skeleton, means
from tests.helpers.clip_stores import write_store


def source(folder, name, skeleton, **how):
    store = ClipStore(write_store(folder / name, skeleton, **how))
    side = np.arange(len(store)) % 3 - 1
    return Source(name, store.skeleton, store.classes, store.frames, store.clips, side)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [source(folder, "one", "kinect20", clips=9), source(folder, "two", "coco17", clips=12, classes=4, bodies=1)]


def test_classes_are_told_apart_by_data_set(sources):
    classes = pooled_classes(sources)
    assert len(classes) == len(set(classes)) == 7
    assert [name.split(": ")[0] for name in classes] == ["one"] * 3 + ["two"] * 4


def test_each_clip_keeps_its_label_and_side(sources):
    clips = list(pooled_clips(sources))
    assert [clip.name.split("/")[0] for clip in clips] == ["one"] * 9 + ["two"] * 12
    for at, own, first in ((0, sources[0], 0), (9, sources[1], 3)):
        for index in range(len(own.side)):
            clip = clips[at + index]
            assert clip.label == first + own.clips["label"][index]
            assert clip.splits == {"pool": own.side[index], own.name: own.side[index]}


def test_no_two_people_have_one_number(sources):
    clips = list(pooled_clips(sources))
    people = [{clip.subject for clip in clips if clip.name.startswith(name)} for name in ("one", "two")]
    assert not people[0] & people[1]


@pytest.mark.parametrize("index", [0, 1, 5])
def test_joints_are_means_of_the_main_body(sources, index):
    own = sources[1]
    at = own.clips["offset"][index, 0]
    recorded = own.frames[at:at + own.clips["length"][index]]
    found = own.joints(index)[0]
    for v, of in enumerate(means(SKELETONS["coco17"].joints, BODY.joints)):
        seen = recorded[:, of].any(2)
        is_whole = seen.all(1)
        np.testing.assert_allclose(found[is_whole, v], recorded[is_whole][:, of].mean(1), atol=1e-6)


def test_a_hand_is_no_body(tmp_path):
    with pytest.raises(ValueError, match="hands: too few of the joints of 'hand21'"):
        source(tmp_path, "hands", "hand21", clips=3)


def test_what_a_sensor_lacks_is_said(sources):
    waist_up = Skeleton("desk", ("nose", "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist",
                                 "right wrist"), (0, 0, 0, 1, 2, 3, 4), {"all": tuple(range(7))})
    own = sources[0]
    desk = Source("desk", waist_up, own.classes, own.frames[:, :7], own.clips, own.side)
    assert lines_about([desk])[0].endswith("desk; lacks hip centre, spine, left hip, left knee, left ankle, right hip, "
                                           "right knee, right ankle")
