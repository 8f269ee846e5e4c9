"""Clips that the page's JavaScript reads, against what predict reads of the same files."""
import base64
from pathlib import Path

import numpy as np

from phases.shipping.exported import ExportedModel
from tests.helpers.browser import node

READ = """
const { Network } = await import(root + "/network.js");
return jobs.map(({ model, clip }) => {
  const network = new Network("network", fs.readFileSync(model));
  try {
    const name = clip.split("/").at(-1), bytes = new Uint8Array(fs.readFileSync(clip));
    const { clip: found, said } = network.read(name, bytes), { skeleton } = network.source(name, bytes);
    const x = Buffer.from(found.x.buffer).toString("base64");
    return { x, shape: [found.M, found.L, found.V, 3], said, skeleton };
  } catch (e) {
    return { error: e.message };
  }
});
"""


def check_clips(jobs: list[tuple[Path, Path]], atol: float = 1e-4) -> list[str]:
    """A network gets in JavaScript what predict gives it, for pairs (network, clip): joints within atol metres, of the
    same skeleton. What the page says to each.
    """
    found = node(READ, [{"model": str(model), "clip": str(clip)} for model, clip in jobs])
    models = {model: ExportedModel(model) for model, _ in jobs}
    for (path, clip), got in zip(jobs, found, strict=True):
        assert "error" not in got, (clip.name, got)
        model = models[path]
        recording = model.recording(clip)
        want = model.main_people(recording)[0]
        ours = np.frombuffer(base64.b64decode(got["x"]), np.float32).reshape(got["shape"])
        ours = ours[ours.any((1, 2, 3))]  # the page leaves out unseen bodies as it asks the network
        assert np.abs(want).max() > 0.1
        assert got["skeleton"] == model.people(recording).source, clip.name
        np.testing.assert_allclose(ours, want, atol=atol, err_msg=clip.name)
    return [got["said"] for got in found]
