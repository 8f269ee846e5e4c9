"""A network as TFLite files, in FP32 and with weights in 8 bits. Needs the extra `tflite`.

The converter writes graphs of fixed shapes, and a view takes any number of frames: these files hold the network alone,
viewed joints (1, M, T, V, 3) -> logits (1, K).
"""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from phases.common.files import atomic

TFLITE_FILES = {"tflite": "model.tflite", "tflite_w8": "model.w8.tflite"}  # of each form


def require_tflite() -> None:
    """ValueError if a package of the extra `tflite` is missing."""
    packages = ("litert-torch", "ai-edge-litert", "ai-edge-quantizer")
    missing = [p for p in packages if importlib.util.find_spec(p.replace("-", "_")) is None]
    if missing:
        raise ValueError(f"format = 'tflite' needs {', '.join(missing)}: pip install -e '.[tflite]' (about 2 GB)")


class LogitsOnly(nn.Module):
    """A deployed network without its features."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, joints: Tensor) -> Tensor:  # b m t v 3
        return self.module(joints)[0]


def write_tflite(module: nn.Module, folder: Path, clips: np.ndarray) -> dict[str, np.ndarray]:
    """Write TFLITE_FILES to `folder`; the logits (N, K) of clips (N, M, T, V, 3) by form."""
    import litert_torch  # here, because the extra is optional
    from ai_edge_quantizer import quantizer, recipe

    # FP32
    fp32, w8 = (folder / name for name in TFLITE_FILES.values())
    with atomic(fp32) as part:
        litert_torch.convert(LogitsOnly(module), (torch.from_numpy(clips[:1]),)).export(str(part))

    # weights in 8 bits, from that file
    with atomic(w8) as part:
        weights = quantizer.Quantizer(str(fp32))
        weights.load_quantization_recipe(recipe.weight_only_wi8_afp32())
        part.write_bytes(weights.quantize().quantized_model)
    return {form: tflite_logits(folder / name, clips) for form, name in TFLITE_FILES.items()}


def tflite_logits(path: Path, clips: np.ndarray) -> np.ndarray:
    """Logits (N, K) of clips (N, M, T, V, 3), one at a time."""
    from ai_edge_litert.interpreter import Interpreter  # here, because the extra is optional

    # the network's only input and output
    run = Interpreter(model_path=str(path))
    run.allocate_tensors()
    source = run.get_input_details()[0]["index"]
    sink = run.get_output_details()[0]["index"]

    # clip by clip
    out = []
    for clip in clips:
        run.set_tensor(source, clip[None])
        run.invoke()
        out.append(run.get_tensor(sink)[0].copy())
    return np.stack(out)
