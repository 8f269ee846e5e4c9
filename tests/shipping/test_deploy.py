"""The deploy form computes the function of the trained network."""
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from last import STREAMS, causal
from phases.shipping.deploy import deploy
from phases.shipping.verify import network_outputs
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.networks import joints, network, stirred


@settings(max_examples=12)
@given(st.sampled_from(["nano", "pair", "small"]), st.sampled_from(sorted(SKELETONS)), st.integers(5, 24),
       st.sampled_from([1, 2]), st.sampled_from([1, 7]), st.tuples(*[st.booleans()] * 5),
       st.lists(st.sampled_from(STREAMS), min_size=1, unique=True))
def test_the_deploy_form_is_the_network_in_every_switch(variant, skeleton, T, M, B, switches, streams):
    embedding, dct, gate, region, is_causal = switches
    if variant == "pair":  # makes the velocities itself
        streams = [stream for stream in streams if stream in STREAMS[:2]] or ["joint"]
    model = network(skeleton, f"model.variant={variant}", f"view.frames={T}",
                    f"model.streams={json.dumps(streams)}",
                    f"model.joint_embedding={str(embedding).lower()}", f"model.dct_gate={str(dct).lower()}",
                    f"model.frame_gate={str(gate).lower()}", f"model.shift={'region' if region else 'random'}")

    # the two forms give the same logits and features
    x = joints(B, M, T, SKELETONS[skeleton].num_joints)
    want = network_outputs(model, is_causal, [x])
    torch.testing.assert_close(deploy(model, is_causal)(x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", ["base", "B0", "B11", "last_e"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_the_teachers_deploy_form_is_their_network(recipe, is_causal):
    cfg = load_config([f"recipe={recipe}", "view.frames=9", "model.width=16"])
    model = stirred(build_model(cfg, SKELETONS["kinect20"], 5))
    x = joints(3, 2, 9, 20)

    # the function of the trained network, which stays as it is
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad(), causal(model, is_causal):
        want = model(x)
    module = deploy(model, is_causal)
    torch.testing.assert_close(module(x)[0], want, rtol=1e-4, atol=1e-4)
    after = model.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in after.items()), "the trained network must stay as it is"


def test_the_deploy_form_has_no_norm_and_nothing_to_learn():
    module = deploy(network("ntu25", "view.frames=16"))
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    tables = [b for b in module.buffers() if b.dtype not in (torch.float32,)]
    assert tables
    assert all(b.dtype == torch.int32 and b.ndim == 1 for b in tables), "index tables are never wider than C·V"
