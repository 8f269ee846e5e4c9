"""Phase 2: distil a trained teacher into LAST-Lite.

    just phase2 recipe=lite_small_base                      teacher: the finished run of `base` on the same data set
    just phase2 recipe=lite_nano_small data=nw_ucla seed=1  teacher: the finished run of `lite_small` on NW-UCLA
    just phase2 recipe=lite_small_base distil.teacher=base:0,base:1                two teachers: seeds 0 and 1 of `base`
    just phase2 recipe=lite_small_base distil.teacher=runs/base/ntu60-xsub/seed0   a teacher by its run folder
    just phase2 recipe=L12                                  the student starts from phase 3's encoder

    loss = alpha · CE + beta · tau² KL(teacher ‖ student) + gamma · sum over stages of MSE(proj(student), teacher)

The target is the teacher's probabilities, or their mean if there are several teachers. The stage maps are those of the
first teacher (the joint stream). Teachers are frozen. They see the same augmented batch as the student, in the same
causal mode if distil.shared_causal is true. distil.kind=dkd replaces KD by decoupled KD. view.mix=0.5 blends half of
the clips in pairs: a teacher is a function to match, also between clips (Beyer et al., CVPR 2022, arXiv:2106.05237).

In:  the clip store of phase 0; the run folders of the teachers, trained on the same clips, view and classes.
Out: runs/<recipe>/<dataset>-<split>/seed<k>/ as in phase 1; last.pt also holds the projections, final.pt does not.
After an interruption the same command continues. Exit codes: 0 done (or already done), 1 a process died
(gpus=N), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from last import Conv1x1, TemporalConv, classify, cross_entropy, fit, mean_correction, rank_of
from phases.common.command import run
from phases.training.batches import Batches
from phases.training.processes import start_processes
from phases.training.recipe import Config, Distil, load_config
from phases.training.run_folder import accuracies, check_phase
from phases.training.session import OpenedData, announce, finish, open_data, start_network
from phases.training.teachers import Teacher, fingerprints, load_teachers


def main(argv: list[str]) -> int:
    cfg = load_config(argv)
    check_phase(cfg, "phase2")
    check_student(cfg)
    exit_code = start_processes(cfg, argv)
    if exit_code is not None:
        return exit_code

    data = open_data(cfg, "phase2", argv)
    if data is None:
        return 0

    # frozen teachers; the student, with a projection of each stage map to the teacher's width
    networks, folders = load_teachers(cfg, data.store, data.view.device)
    teacher = Teacher(networks, cfg.distil.tau)
    student = start_network(cfg, data)
    example = data.view(torch.as_tensor(data.train[:1], device=data.view.device))
    model = make_distilled(student, teacher, cfg.distil.gamma, example).to(data.view.device)
    announce_distillation(cfg, data, model, folders)

    # a run continues only with the teachers that it started with
    identity = data.identity | {"teachers": fingerprints(folders)}
    loss_fn = distil_loss(teacher, cfg.distil, cfg.train.label_smoothing)
    fit(model, data.batches, loss_fn, cfg.train, cfg.run, dataclasses.asdict(cfg), cfg.seed, data.plain, data.score,
        identity)

    if rank_of()[0] == 0:
        reached = judge(teacher, cfg, data.test_batches)
        finish(cfg, data, model.student, {"teacher": [str(folder) for folder in folders], **reached})
    return 0


def check_student(cfg: Config) -> None:
    if cfg.model.name != "lite":
        raise ValueError(f"model.name = {cfg.model.name!r}: phase 2 distils into LAST-Lite; give model.name=lite")


def announce_distillation(cfg: Config, data: OpenedData, model: Distilled, folders: list[Path]) -> None:
    size = sum(p.numel() for p in model.projections.parameters())
    announce(cfg, data, more=f"; teacher {', '.join(map(str, folders))}; {size:,} parameters of projections, "
                             "dropped at the end")


def judge(teacher: Teacher, cfg: Config, test: Batches) -> dict:
    """Accuracy in percent of the target on the test clips: teacher_top1, and teacher_top1_clean if clips leak."""
    # by the test view, as a network is judged
    targets = []
    labels = []
    for batch in test():
        targets.append(teacher(batch["joints"])[0].cpu())
        labels.append(batch["label"].cpu())

    result = accuracies(cfg, torch.cat(targets), torch.cat(labels))
    return {f"teacher_{key}": result[key] for key in ("top1", "top1_clean") if key in result}


# ---------------------------------------------------------------------------------------------------------------------
# The student, and projections of its stage maps
# ---------------------------------------------------------------------------------------------------------------------

class Distilled(nn.Module):
    """The student, and bias-free 1x1 projections of its stage maps to the teacher's widths.

    The projections train with the student and are dropped at the end.
    """

    def __init__(self, student: nn.Module, widths: list[tuple[int, int]]):
        super().__init__()
        self.student = student
        self.projections = nn.ModuleList(Conv1x1(own, theirs) for own, theirs in widths)

    def forward(self, joints: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits (B, K); in training also the projected maps of the bodies present."""
        if not self.training:
            return self.student(joints)
        logits, maps = classify(self.student, joints, drop_absent=True)
        return logits, [project(m) for project, m in zip(self.projections, maps, strict=False)]


def make_distilled(student: nn.Module, teacher: Teacher, gamma: float, joints: Tensor) -> Distilled:
    """The student and one projection per stage, sized by the maps of an example batch; no projections if gamma is 0."""
    if not gamma:
        return Distilled(student, [])

    # stage maps of both, to compare and to take widths from
    with torch.no_grad():
        own = classify(student.eval(), joints, drop_absent=False)[1]
    theirs = teacher(joints)[1]

    if [m.shape[2:] for m in own] != [m.shape[2:] for m in theirs]:
        shapes = [" ".join("x".join(map(str, m.shape[1:])) for m in maps) for maps in (theirs, own)]
        raise ValueError(f"distil.gamma = {gamma}: the teacher's stages (C x T x V) {shapes[0]} and the student's "
                         f"{shapes[1]} differ in frames or joints; give gamma=0, or another teacher")
    return Distilled(student, [(a.shape[1], b.shape[1]) for a, b in zip(own, theirs, strict=True)])


# ---------------------------------------------------------------------------------------------------------------------
# The loss
# ---------------------------------------------------------------------------------------------------------------------

def distil_loss(teacher: Teacher, cfg: Distil, smoothing: float = 0.0) -> Callable:
    """loss_fn of phase 2, for a Distilled student: the formula at the top of this file."""
    def top1(scores: Tensor, label: Tensor) -> Tensor:
        return (scores.argmax(1) == label).float().mean()

    def loss_fn(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        joints = batch["joints"]
        label = batch["label"]

        # the teacher sees the batch as the student does
        student_is_causal = any(m.causal for m in model.modules() if isinstance(m, TemporalConv))
        target, maps = teacher(joints, cfg.shared_causal and student_is_causal)
        logits, projected = model(joints)
        logits = logits.float()

        # labels and the teacher's probabilities
        ce = cross_entropy(logits, batch, smoothing)
        kd = soft_loss(logits, target, batch, cfg)
        loss = cfg.alpha * ce + cfg.beta * kd
        named = logits if len(logits) == len(label) else sum(logits.chunk(2))  # by a pair
        metrics = {"top1": top1(named, label), "teacher_top1": top1(target, label), "ce": ce, "kd": kd}

        # stage maps: a mean over the bodies present, of which each process has another number
        if projected:
            mimicry = mean_correction(len(maps[0]), batch) * mimicry_loss(projected, maps)
            loss = loss + cfg.gamma * mimicry
            metrics["mimicry"] = mimicry
        return loss, metrics

    return loss_fn


def soft_loss(logits: Tensor, target: Tensor, batch: dict, cfg: Distil) -> Tensor:
    """KD or DKD of logits (B, K) to the teacher's probabilities target (B, K); of a pair's (2·B, K) the sum of both.

    DKD needs a label: a blended clip counts for both of its labels, in their shares.
    """
    if len(logits) > len(target):
        return sum(soft_loss(half, target, batch, cfg) for half in logits.chunk(2))

    def dkd(label: Tensor, share: float | Tensor) -> Tensor:
        return dkd_loss(logits, target, label, cfg.tau, cfg.dkd_alpha * share, cfg.dkd_beta * share)

    if cfg.kind == "kd":
        return kd_loss(logits, target, cfg.tau)
    if "share" not in batch:
        return dkd(batch["label"], 1.0)
    return dkd(batch["label"], batch["share"]) + dkd(batch["other"], 1 - batch["share"])


def kd_loss(logits: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """tau² · KL(teacher ‖ student), mean over the batch (Hinton et al., arXiv:1503.02531).

    teacher (B, K): probabilities, already softened by tau.
    """
    return tau ** 2 * F.kl_div((logits.float() / tau).log_softmax(1), teacher.float(), reduction="batchmean")


def dkd_loss(logits: Tensor, teacher: Tensor, label: Tensor, tau: float, alpha: float | Tensor,
             beta: float | Tensor) -> Tensor:
    """Decoupled KD: tau² · (alpha · KL(b ‖ b_student) + beta · KL(q ‖ q_student)).

    Zhao et al., CVPR 2022, arXiv:2203.08679. b = (p[label], 1 - p[label]); q: the other classes' probabilities among
    themselves. KD equals alpha = 1, beta = 1 - p[label] of each clip, p the teacher's: a confident teacher makes the
    second term vanish. teacher (B, K): probabilities, already softened by tau.
    """
    own = F.one_hot(label, logits.shape[1]).bool()
    teacher = teacher.float()
    log_student = (logits.float() / tau).log_softmax(1)                                     # b k

    # b: the labelled class against all others
    rest = teacher.masked_fill(own, 0).sum(1)                                               # b: 1 - p[label]
    log_rest = log_student.masked_fill(own, -math.inf).logsumexp(1)
    pair = torch.stack([teacher.gather(1, label[:, None])[:, 0], rest], 1)                  # b 2
    log_pair = torch.stack([log_student.gather(1, label[:, None])[:, 0], log_rest], 1)
    target = F.kl_div(log_pair, pair, reduction="none").sum(1)

    # q: the others among themselves
    q = (teacher / rest.clamp(min=1e-30)[:, None]).masked_fill(own, 0)                      # b k
    log_q = (log_student - log_rest[:, None]).masked_fill(own, 0)
    others = F.kl_div(log_q, q, reduction="none").sum(1)
    return tau ** 2 * (alpha * target + beta * others).mean()


def mimicry_loss(projected: list[Tensor], maps: list[Tensor]) -> Tensor:
    """Sum over the stages of MSE(projected student map, teacher map) (FitNets, Romero et al., arXiv:1412.6550)."""
    return torch.stack([F.mse_loss(p.float(), m.float()) for p, m in zip(projected, maps, strict=True)]).sum()


if __name__ == "__main__":
    run(main)
