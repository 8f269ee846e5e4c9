"""Phase 2: distil a trained teacher into LAST-Lite.

    just phase2 recipe=lite_small_base                      teacher: the finished run of `base` on the same data set
    just phase2 recipe=lite_nano_small data=nw_ucla seed=1  teacher: the finished run of `lite_small` on NW-UCLA
    just phase2 recipe=lite_small_base distil.teacher=base:0,base:1                two teachers: seeds 0 and 1 of `base`
    just phase2 recipe=lite_small_base distil.teacher=runs/base/ntu60-xsub/seed0   a teacher by its run folder
    just phase2 recipe=L12                                  the student starts from phase 3's encoder

    loss = alpha · CE + beta · tau² KL(teacher ‖ student) + gamma · sum over stages of MSE(proj(student), teacher)

The target is the teacher's probabilities, or their mean if there are several teachers. The stage maps come from the
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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from last import Conv1x1, TemporalConv, classify, cross_entropy, fit, rank_of, share_of
from phases.common.settings_cli import cli
from phases.training.clip_store import open_store, splits, validation
from phases.training.networks import build_model, find_runs
from phases.training.processes import start_processes
from phases.training.recipe import Config, Distil, load_config
from phases.training.run_folder import accuracies, already_done, announce, check_phase, commit, finish, identity
from phases.training.teachers import Teacher, fingerprints, load_teachers
from phases.training.transfer import init_from
from phases.training.view import Batches, ClipView, plain_batches


class Distilled(nn.Module):
    """The student, and bias-free 1x1 projections of its stage maps to the teacher's widths.

    The projections train with the student and are dropped at the end.
    """

    def __init__(self, student: nn.Module, widths: list[tuple[int, int]]):
        super().__init__()
        self.student, self.projections = student, nn.ModuleList(Conv1x1(a, b) for a, b in widths)

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
    with torch.no_grad():
        own = classify(student.eval(), joints, drop_absent=False)[1]
    theirs = teacher(joints)[1]
    if [m.shape[2:] for m in own] != [m.shape[2:] for m in theirs]:
        shapes = [" ".join("x".join(map(str, m.shape[1:])) for m in maps) for maps in (theirs, own)]
        raise ValueError(f"distil.gamma = {gamma}: the teacher's stages (C x T x V) {shapes[0]} and the student's "
                         f"{shapes[1]} differ in frames or joints; give gamma=0, or another teacher")
    return Distilled(student, [(a.shape[1], b.shape[1]) for a, b in zip(own, theirs, strict=True)])


def soft_loss(logits: Tensor, target: Tensor, batch: dict, cfg: Distil) -> Tensor:
    """KD or DKD of logits (B, K) to the teacher's probabilities.

    DKD needs a label: a blended clip counts for both of its labels, in their shares.
    """
    def dkd(label: Tensor, share: float | Tensor) -> Tensor:
        return dkd_loss(logits, target, label, cfg.tau, cfg.dkd_alpha * share, cfg.dkd_beta * share)

    if cfg.kind == "kd":
        return kd_loss(logits, target, cfg.tau)
    if "share" not in batch:
        return dkd(batch["label"], 1.0)
    return dkd(batch["label"], batch["share"]) + dkd(batch["other"], 1 - batch["share"])


def distil_loss(teacher: Teacher, cfg: Distil, smoothing: float = 0.0) -> Callable:
    """loss_fn of phase 2, for a Distilled student: the formula at the top of this file."""
    def top1(scores: Tensor, label: Tensor) -> Tensor:
        return (scores.argmax(1) == label).float().mean()

    def loss_fn(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        joints, label = batch["joints"], batch["label"]
        student_is_causal = any(m.causal for m in model.modules() if isinstance(m, TemporalConv))
        target, maps = teacher(joints, cfg.shared_causal and student_is_causal)
        logits, projected = model(joints)
        logits = logits.float()
        ce = cross_entropy(logits, batch, smoothing)
        kd = soft_loss(logits, target, batch, cfg)
        loss = cfg.alpha * ce + cfg.beta * kd
        metrics = {"top1": top1(logits, label), "teacher_top1": top1(target, label), "ce": ce, "kd": kd}
        if projected:
            mimicry = share_of(len(maps[0]), batch) * mimicry_loss(projected, maps)
            loss = loss + cfg.gamma * mimicry
            metrics["mimicry"] = mimicry
        return loss, metrics
    return loss_fn


def judge(teacher: Teacher, cfg: Config, test: Batches) -> dict:
    """Accuracy in percent of the target on the test clips: teacher_top1, and teacher_top1_clean if clips leak."""
    targets, labels = [], []
    for batch in test():
        targets.append(teacher(batch["joints"])[0].cpu())
        labels.append(batch["label"].cpu())
    result = accuracies(cfg, torch.cat(targets), torch.cat(labels))
    return {f"teacher_{key}": result[key] for key in ("top1", "top1_clean") if key in result}


def check_recipe(cfg: Config) -> None:
    check_phase(cfg, "phase2")
    if cfg.model.name != "lite":
        raise ValueError(f"model.name = {cfg.model.name!r}: phase 2 distils into LAST-Lite; give model.name=lite")


def main(argv: list[str]) -> int:
    cfg, command, revision = load_config(argv), "just phase2 " + " ".join(argv), commit()
    check_recipe(cfg)
    exit_code = start_processes(cfg, argv)
    if exit_code is not None:
        return exit_code
    store = open_store(cfg)
    train_clips, held_clips, test_clips = splits(store, cfg)
    same = identity("phase2", store, train_clips, held_clips, test_clips)
    if already_done(cfg, "phase2", same):
        return 0

    device = cfg.torch_device
    nets, folders = load_teachers(cfg, store, device)
    run_identity = same | {"teachers": fingerprints(folders)}
    view, teacher = ClipView(store, cfg.view, device), Teacher(nets, cfg.distil.tau)
    student = build_model(cfg, store.skeleton, cfg.data.num_classes).to(device)
    if cfg.init:
        init_from(student, find_runs(cfg.init, cfg, cfg.seed)[0], cfg, store.skeleton, store.classes)
    example = view(torch.as_tensor(train_clips[:1], device=device))
    model = make_distilled(student, teacher, cfg.distil.gamma, example).to(device)
    projections = sum(p.numel() for p in model.projections.parameters())
    announce(cfg, f"{len(train_clips)} training, {len(held_clips)} validation, {len(test_clips)} test clips", device,
             f"; teacher {', '.join(map(str, folders))}; {projections:,} parameters of projections, dropped at the end")

    batches = Batches(view, train_clips, cfg.train.batch, True, cfg.seed, cfg.train.balanced)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    score = validation(view, held_clips, cfg)
    loss_fn = distil_loss(teacher, cfg.distil, cfg.train.label_smoothing)
    fit(model, batches, loss_fn, cfg.train, cfg.run, dataclasses.asdict(cfg), cfg.seed, plain, score, run_identity)
    if rank_of()[0] == 0:
        teacher_result = judge(teacher, cfg, Batches(view, test_clips, cfg.train.batch))
        more = {"teacher": [str(f) for f in folders], **teacher_result}
        finish(cfg, command, revision, store, view, model.student, test_clips, more)
    return 0


if __name__ == "__main__":
    cli(main)


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
    own, teacher = F.one_hot(label, logits.shape[1]).bool(), teacher.float()
    s = (logits.float() / tau).log_softmax(1)  # b k
    rest = s.masked_fill(own, -math.inf).logsumexp(1)  # b, log(1 - p[label]) of the student
    t_rest = teacher.masked_fill(own, 0).sum(1)
    pair, t_pair = (torch.stack([x.gather(1, label[:, None])[:, 0], others], 1)
                    for x, others in ((s, rest), (teacher, t_rest)))
    target = F.kl_div(pair, t_pair, reduction="none").sum(1)
    q = (teacher / t_rest.clamp(min=1e-30)[:, None]).masked_fill(own, 0)
    others = F.kl_div((s - rest[:, None]).masked_fill(own, 0), q, reduction="none").sum(1)
    return tau ** 2 * (alpha * target + beta * others).mean()


def mimicry_loss(projected: list[Tensor], maps: list[Tensor]) -> Tensor:
    """Sum over the stages of MSE(projected student map, teacher map) (FitNets, Romero et al., arXiv:1412.6550)."""
    return torch.stack([F.mse_loss(p.float(), m.float()) for p, m in zip(projected, maps, strict=True)]).sum()
