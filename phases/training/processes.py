"""Several processes: start them for gpus=N, and join them."""
from __future__ import annotations

import os
import signal
import sys
import warnings

import torch
import torch.distributed as dist

from last import rank_of
from phases.training.recipe import Config


def start_processes(cfg: Config, argv: list[str]) -> int | None:
    """gpus=N: run this program in N processes and return the exit code. Inside one of them: join them, return None.

    argv: the words of the command line; the program is the module that `python -m` runs.
    """
    if rank_of()[1] > 1:
        join_processes(cfg.torch_device)
        return None
    if cfg.gpus == 1:
        return None
    check_gpus(cfg)

    # imported only here: on macOS and Windows the import prints a warning
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(1, 1, cfg.gpus, run_id=str(os.getpid()), rdzv_backend="c10d", rdzv_endpoint="localhost:0",
                          max_restarts=0)
    program = sys.modules["__main__"].__spec__.name
    try:
        elastic_launch(launch, sys.executable)("-m", program, *argv)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as e:
        # the first that ended; it has printed bad input and an interrupt itself
        number, failure = min(e.failures.items(), key=lambda f: f[1].timestamp)
        code = failure.exitcode
        if code in (2, 130):
            return code
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        print(f"error: process {number} of {cfg.gpus} ended ({how}), and with it the run: "
              f"the same command goes on from {cfg.run / 'last.pt'}", file=sys.stderr)
        return 1
    return 0


def check_gpus(cfg: Config) -> None:
    """ValueError unless this machine has a device for each of cfg.gpus processes."""
    device = cfg.torch_device.type
    if ":" in cfg.device:
        raise ValueError(f"device = {cfg.device!r}: gpus = {cfg.gpus} takes the first ones: give no number")
    if device == "cuda" and cfg.gpus > torch.cuda.device_count():
        raise ValueError(f"gpus = {cfg.gpus}: this machine has {torch.cuda.device_count()}")
    if device == "cpu" and cfg.device != "cpu":
        raise ValueError(f"gpus = {cfg.gpus}: this machine has none; give device=cpu as well to train in {cfg.gpus} "
                         "processes without")


def join_processes(device: torch.device) -> None:
    """Join the other processes of this run, which torchrun or `start_processes` started."""
    if device.type == "cuda":
        torch.cuda.set_device(device)

    # depthwise kernels trigger this warning: it costs a copy and changes nothing
    warnings.filterwarnings("ignore", "Grad strides do not match")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
