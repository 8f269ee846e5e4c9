"""A start from another data set's network: by the names of joints and classes."""
import json
from dataclasses import replace

import pytest
import torch

from last import save_checkpoint
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.transfer import by_names, init_from, joint_axes, same_joints, stand_ins
from skeletons import SKELETONS

NTU, KINECT = SKELETONS["ntu25"], SKELETONS["kinect20"]
SMALL = ("view.frames=16", "model.width=16")
CFG = load_config(["recipe=lite_nano", "data=utd_mhad", *SMALL])
COMMON = SKELETONS["body16"]  # what nearly all bodies have


def shuffled(skeleton, order: list[int]):
    """The same body with its joints listed in another order."""
    at = {v: i for i, v in enumerate(order)}
    regions = {name: tuple(at[v] for v in members) for name, members in skeleton.regions.items()}
    return replace(skeleton, joints=tuple(skeleton.joints[v] for v in order),
                   parents=tuple(at[skeleton.parents[v]] for v in order),
                   regions=regions, pairs=tuple((at[a], at[b]) for a, b in skeleton.pairs))


def saved(folder, model, skeleton, classes: list[str]):
    """A finished run of another data set."""
    theirs = {"data": {"name": "elsewhere", "split": "xsub"}}
    save_checkpoint(folder / "final.pt", {"recipe": json.dumps(theirs), "skeleton": json.dumps(skeleton.to_dict()),
                                          "classes": classes, "model": model.state_dict()})
    return folder


@pytest.mark.parametrize("recipe", ["lite_nano", "last_e", "base"])
def test_tensors_that_grow_with_the_joints_name_their_axes(recipe):
    cfg = load_config([f"recipe={recipe}", *SMALL])
    models = [build_model(cfg, skeleton, 4) for skeleton in (NTU, KINECT)]
    ours, theirs = (dict(model.named_parameters()) for model in models)
    axes = joint_axes(models[0])
    for name, tensor in ours.items():
        grown = tuple(a for a, (n, m) in enumerate(zip(tensor.shape, theirs[name].shape, strict=True)) if n != m)
        assert grown == axes.get(name, ()), name
    assert set(axes) <= set(ours)


@pytest.mark.parametrize("recipe", ["lite_nano", "base"])
def test_joints_in_another_order_are_found_by_name(tmp_path, recipe):
    cfg = load_config([f"recipe={recipe}", *SMALL])
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0)).tolist()
    other = shuffled(NTU, order)
    theirs = build_model(cfg, NTU, 4).eval()
    for tensor in theirs.parameters():
        torch.nn.init.normal_(tensor, std=0.1)
    ours = build_model(replace(cfg, seed=1), other, 4).eval()
    init_from(ours, saved(tmp_path, theirs, NTU, list("abcd")), cfg, other, list("abcd"))

    for name, axes in joint_axes(ours).items():
        found, expected = ours.state_dict()[name], theirs.state_dict()[name]
        for axis in axes:
            expected = expected.index_select(axis, torch.tensor(order))
        assert torch.equal(found, expected), name

    if recipe == "base":  # LAST-Lite's shift follows the order of the joints in a region
        joints = torch.randn(2, 1, 16, 25, 3)
        with torch.no_grad():
            torch.testing.assert_close(ours(joints[:, :, :, order]), theirs(joints), rtol=1e-3, atol=1e-4)


def test_another_skeleton_gives_the_joints_of_the_same_name(tmp_path, capsys):
    theirs = build_model(CFG, NTU, 60)
    rows = stand_ins(NTU, KINECT)
    ours = build_model(replace(CFG, seed=1), KINECT, 27)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    folder = saved(tmp_path, theirs, NTU, [f"n{k}" for k in range(60)])
    init_from(ours, folder, CFG, KINECT, [f"u{k}" for k in range(27)])
    said = capsys.readouterr().err
    after = ours.state_dict()
    pairs = same_joints(NTU, KINECT)
    assert 15 <= len(pairs) < 20 and f"by the names of {len(pairs)} of 20 joints" in said

    found = {ours_at: theirs_at for theirs_at, ours_at in pairs}
    assert all(rows[v] == [found[v]] for v in found) and all(rows)
    for v in range(20):
        expected = theirs.state_dict()["stages.0.embedding"][:, rows[v]].mean(1)
        assert torch.equal(after["stages.0.embedding"][:, v], expected)
    for name in ("head.classifier.weight", "head.classifier.bias"):
        assert torch.equal(after[name], before[name]) and name in said
    assert torch.equal(after["stages.2.mask"], theirs.state_dict()["stages.2.mask"])


NEAREST = {  # joints that COMMON lacks: what stands for them
    "ntu25": "spine base: hip centre, spine mid: spine, left hand tip: left wrist, right foot: right ankle, "
             "spine shoulder: left shoulder + right shoulder",
    "kinect20": "shoulder centre: neck, left hand: left wrist, right foot: right ankle",
    "coco17": "nose: head, left eye: head, right ear: head",
    "mediapipe33": "nose: head, left mouth: head, right thumb: right wrist, left heel: left ankle",
    "openpose25": "mid hip: hip centre, right small toe: right ankle, left eye: head",
    "azure32": "pelvis: hip centre, spine navel: spine, left hand tip: left wrist, nose: head",
    "smpl24": "spine2: spine, left hand: left wrist, left collar: left shoulder * 3 + right shoulder",
    "jhmdb15": "belly: spine", "holistic": "left hand pinky tip: left wrist"}


@pytest.mark.parametrize("name", NEAREST)
@pytest.mark.parametrize("recipe", ["lite_nano", "lite_pair", "lite_small"])
def test_a_joint_that_they_lack_begins_as_the_nearest(recipe, name, tmp_path, capsys):
    cfg = load_config([f"recipe={recipe}", *SMALL])
    skeleton = SKELETONS[name]
    theirs = build_model(cfg, COMMON, 60)
    ours = build_model(replace(cfg, seed=1), skeleton, 5)
    tables = {key: x.clone() for key, x in ours.named_buffers() if key.endswith("flat")}
    init_from(ours, saved(tmp_path, theirs, COMMON, [f"n{k}" for k in range(60)]), cfg, skeleton, list("abcde"))
    assert "joints and what is nearest to" in capsys.readouterr().err

    # joints of the same name, and those of the list
    stands = {joint: joint for joint in skeleton.joints if joint in COMMON.joints}
    stands |= dict(line.split(": ") for line in NEAREST[name].split(", "))
    for stage in range(3):
        key = f"stages.{stage}.embedding"
        found, given = ours.state_dict()[key], theirs.state_dict()[key]
        for joint, said in stands.items():
            means = []
            for part in said.split(" + "):
                other, _, times = part.partition(" * ")
                means += [given[:, COMMON.joints.index(other)]] * int(times or 1)
            expected = torch.stack(means, 1).mean(1)
            torch.testing.assert_close(found[:, skeleton.joints.index(joint)], expected, rtol=1e-6, atol=1e-8)

    # all but the classes is theirs; the shifts follow the skeleton
    for key, x in theirs.state_dict().items():
        if "embedding" not in key and not key.startswith("head.classifier"):
            assert torch.equal(ours.state_dict()[key], x), key
    assert all(torch.equal(dict(ours.named_buffers())[key], x) for key, x in tables.items())


@pytest.mark.parametrize("frames", [8, 16, 32, 64])
def test_masks_keep_their_frequencies_and_gates_their_place(tmp_path, frames):
    """A start for another number of frames: a filter and a gate over the clip stay the same functions."""
    theirs = build_model(CFG, KINECT, 3)
    k, t = torch.arange(16), (torch.arange(16) + 0.5) / 16
    with torch.no_grad():
        theirs.stages[0].mask.copy_(k.expand_as(theirs.stages[0].mask))
        theirs.stages[0].gate.copy_(t.expand_as(theirs.stages[0].gate))
    cfg = load_config(["recipe=lite_nano", "data=utd_mhad", f"view.frames={frames}"])
    ours = build_model(cfg, KINECT, 3)
    init_from(ours, saved(tmp_path, theirs, KINECT, list("abc")), cfg, KINECT, list("abc"))
    stage = ours.stages[0]
    assert torch.equal(stage.mask[0], torch.arange(frames).clamp(max=15).float())
    place = ((torch.arange(frames) + 0.5) / frames).clamp(t[0], t[-1])
    torch.testing.assert_close(stage.gate[0], place)
    assert torch.equal(ours.head.gate, theirs.head.gate)


def test_every_body_finds_a_start_and_a_hand_none():
    for skeleton in SKELETONS.values():
        has_joints = all(stand_ins(COMMON, skeleton))
        assert has_joints != (skeleton.name in ("hand21", "shrec22")), skeleton.name
    assert not any(stand_ins(COMMON, SKELETONS["hand21"]))


def test_a_hand_starts_from_a_body_with_joints_of_its_own(tmp_path):
    hand = SKELETONS["hand21"]
    ours = build_model(CFG, hand, 4)
    before = ours.state_dict()["stages.1.embedding"].clone()
    init_from(ours, saved(tmp_path, build_model(CFG, COMMON, 9), COMMON, list("abcdefghi")), CFG, hand, list("abcd"))
    assert torch.equal(ours.state_dict()["stages.1.embedding"], before)


@pytest.mark.parametrize("words, told", [
    ("data.split=all", ""), ("data.split=xsub", ""), ("data.split=other", "data.split = 'other'"),
    ("data.validate.subject=[3]", "data.validate")])
def test_a_network_of_many_sets_knows_no_held_out_clip(words, told, tmp_path):
    model = build_model(CFG, KINECT, 2)
    folder = saved(tmp_path, model, KINECT, ["utd_mhad: wave", "elsewhere: sit"])
    cfg = load_config(["recipe=lite_nano", "data=utd_mhad", *SMALL, words])
    if told:
        with pytest.raises(ValueError, match=f"learned from utd_mhad's training clips of its split 'xsub'.*{told}"):
            init_from(model, folder, cfg, KINECT, ["wave", "sit"])
    else:
        init_from(model, folder, cfg, KINECT, ["wave", "sit"])
    init_from(model, folder, load_config(["recipe=lite_nano", "data=nw_ucla", *SMALL]), KINECT, ["wave", "sit"])


def test_the_last_layer_is_taken_for_the_same_classes_only(tmp_path):
    theirs = build_model(CFG, KINECT, 3)
    folder = saved(tmp_path, theirs, KINECT, list("abc"))
    for classes, same in (("abc", True), ("abd", False)):
        ours = build_model(replace(CFG, seed=1), KINECT, 3)
        init_from(ours, folder, CFG, KINECT, list(classes))
        assert torch.equal(ours.head.classifier.weight, theirs.head.classifier.weight) == same


def test_matrices_over_joints_take_only_pairs_that_both_know():
    ours, theirs = torch.zeros(2, 3, 3), torch.arange(32.0).reshape(2, 4, 4)
    found = by_names(ours, theirs, (1, 2), [(3, 0), (1, 2)])
    assert torch.equal(found[0], torch.tensor([[15.0, 0, 13], [0, 0, 0], [7, 0, 5]]))
    other = by_names(torch.empty(2, 3, 3, device="meta", dtype=torch.bfloat16), theirs, (1, 2), [(3, 0)])
    assert other.device.type == "meta" and other.dtype == torch.bfloat16, "the network may lie on a GPU"
    assert by_names(ours, theirs[:1], (1, 2), [(0, 0)]) is None and by_names(ours, theirs, (1, 2), []) is None


def test_another_network_is_refused(tmp_path):
    other = build_model(load_config(["recipe=lite_small", *SMALL]), KINECT, 27)
    folder = saved(tmp_path, other, KINECT, ["a"])
    with pytest.raises(ValueError, match="holds another network"):
        init_from(build_model(CFG, KINECT, 27), folder, CFG, KINECT, ["a"])
