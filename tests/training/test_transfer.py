"""A start from another data set's network: by the names of joints and classes."""
import json
from dataclasses import replace

import pytest
import torch

from last import save_checkpoint
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.transfer import by_names, init_from, joint_axes, same_joints
from skeletons import SKELETONS

NTU, KINECT = SKELETONS["ntu25"], SKELETONS["kinect20"]
SMALL = ("view.frames=16", "model.width=16")
CFG = load_config(["recipe=lite_nano", "data=utd_mhad", *SMALL])


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
    ours = build_model(replace(CFG, seed=1), KINECT, 27)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    folder = saved(tmp_path, theirs, NTU, [f"n{k}" for k in range(60)])
    init_from(ours, folder, CFG, KINECT, [f"u{k}" for k in range(27)])
    said = capsys.readouterr().err
    after = ours.state_dict()
    pairs = same_joints(NTU, KINECT)
    assert 15 <= len(pairs) < 20 and f"by the names of {len(pairs)} of 20 joints" in said

    found = {ours_at: theirs_at for theirs_at, ours_at in pairs}
    for v in range(20):
        expected = before["stages.0.embedding"][:, v]
        if v in found:
            expected = theirs.state_dict()["stages.0.embedding"][:, found[v]]
        assert torch.equal(after["stages.0.embedding"][:, v], expected)
    for name in ("head.classifier.weight", "head.classifier.bias"):
        assert torch.equal(after[name], before[name]) and name in said
    assert torch.equal(after["stages.2.mask"], theirs.state_dict()["stages.2.mask"])


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
