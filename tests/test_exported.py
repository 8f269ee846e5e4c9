"""The view in numpy, which an exported file is used with, is the view of the training."""
import numpy as np
import torch
from conftest import write_store
from exported import clip_view
from hypothesis import given
from hypothesis import strategies as st
from p4_export import description
from recipe import load_config
from run import ClipStore, build_model
from shipped import recorded

from last import ClipView


@given(st.sampled_from(["uniform", "crop", "stretch"]), st.integers(1, 40), st.sampled_from([1, 2]),
       st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.3]), st.booleans(), st.booleans(), st.booleans())
def test_the_view_in_numpy_is_the_view(tmp_path_factory, sampling, T, M, smooth, missing, heading, trunk, extent):
    folder = tmp_path_factory.getbasetemp() / "view-store"
    if not folder.exists():
        write_store(folder, clips=12)
    store = ClipStore(folder)
    lost = np.random.default_rng(T).random(store.frames.shape[:2])[..., None] < missing
    store.frames = np.where(lost, 0, store.frames)
    switches = {"heading": heading, "trunk_scale": trunk, "extent": extent}
    cfg = load_config(["recipe=lite_nano", f"view.frames={T}", f"view.sampling={sampling}", f"view.bodies={M}",
                       f"view.smooth={smooth}", *(f"view.{k}={str(v).lower()}" for k, v in switches.items())])
    want = ClipView(store, cfg.view)(torch.arange(12)).numpy()
    model = build_model(cfg, store.skeleton, len(store.classes))
    about = description(cfg, store.skeleton, store.classes, model, False)
    for i in range(12):
        got = clip_view(recorded(store, i), about["view"], about["skeleton"])
        np.testing.assert_allclose(got, want[i], rtol=1e-4, atol=1e-5)
