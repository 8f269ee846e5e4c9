"""Phase 2: distil a trained teacher into LAST-Lite.

    just phase2 recipe=lite_small_base                          teacher: the finished run of recipe `base` on the same data set
    just phase2 recipe=lite_nano_small data=nw_ucla seed=1      teacher: lite_small there
    just phase2 recipe=lite_small_base distil.teacher=base:0,base:1     seeds 0 and 1 of base; or folders, runs/base/ntu60-xsub/seed0
    just phase2 recipe=L12                                      the student starts from phase 3's encoder

    loss = alpha · CE + beta · tau² KL(teacher ‖ student) + gamma · sum over stages of MSE(proj(student map), teacher map)

Several teachers give their mean probabilities, the first one (the joint stream) the maps. They are frozen, see the very same augmented
batch as the student, and, with distil.shared_causal, in the same causal mode. distil.kind=dkd takes decoupled KD instead,
view.mix=0.5 blends half of the clips in pairs (Beyer et al., CVPR 2022, arXiv:2106.05237: a teacher is a function to match, also between clips).

In:  the clip store of phase 0; the teachers' folders, made on the same clips, view and classes.
Out: runs/<recipe>/<dataset>-<split>/seed<k>/ as in phase 1; last.pt also holds the projections, final.pt the student alone.
Cut off at any moment, the same command goes on. Exit codes: 0 done (or already done), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from recipe import Config, Distil, cli, load_config
from run import (
    ClipStore,
    accuracies,
    already_done,
    announce,
    build_model,
    check_leakage,
    check_phase,
    commit,
    find_runs,
    finish,
    identity,
    init_from,
    load_run,
    open_store,
    splits,
    start_processes,
)
from torch import Tensor, nn

from last import (
    Batches,
    ClipView,
    TemporalConv,
    accuracy,
    bodies_present,
    causal,
    classify,
    conv1x1,
    cross_entropy,
    dkd_loss,
    fit,
    kd_loss,
    mimicry_loss,
    plain_batches,
    predict,
    rank_of,
    share_of,
)

SEEN = ("frames", "bodies", "sampling", "smooth", "heading", "trunk_scale", "extent")  # of a view: what teacher and student must agree on


class Teacher:
    """Frozen networks: the mean over them of softmax(logits / tau), and the stage maps of the first, of all bodies (B M)."""

    def __init__(self, nets: list[nn.Module], tau: float):
        self.nets, self.tau = [net.eval().requires_grad_(False) for net in nets], tau

    def __call__(self, joints: Tensor, is_causal: bool = False) -> tuple[Tensor, list[Tensor]]:
        with torch.inference_mode(), contextlib.ExitStack() as stack:
            for net in self.nets:
                stack.enter_context(causal(net, is_causal))
            outputs = [classify(net, joints, drop_absent=False) for net in self.nets]
            mean = torch.stack([(logits.float() / self.tau).softmax(1) for logits, _ in outputs]).mean(0)
        return mean.clone(), [m.clone() for m in outputs[0][1]]  # copies, for no inference tensor can be saved for a backward pass


class Distilled(nn.Module):
    """The student, and bias-free 1x1 projections of its stage maps to the teacher's widths: trained along, dropped at the end."""

    def __init__(self, student: nn.Module, widths: list[tuple[int, int]]):
        super().__init__()
        self.student, self.projections = student, nn.ModuleList(conv1x1(a, b) for a, b in widths)

    def forward(self, joints: Tensor) -> Tensor | tuple[Tensor, list[Tensor]]:
        if not self.training:
            return self.student(joints)
        logits, maps = classify(self.student, joints, drop_absent=True)
        return logits, [project(m) for project, m in zip(self.projections, maps, strict=False)]


def soft_loss(logits: Tensor, target: Tensor, batch: dict, cfg: Distil) -> Tensor:
    """KD or DKD of logits (B, K) to a teacher's probabilities; a blended clip is decoupled at both of its labels, by their shares."""
    if cfg.kind == "kd":
        return kd_loss(logits, target, cfg.tau)
    of = lambda label, share: dkd_loss(logits, target, label, cfg.tau, cfg.dkd_alpha * share, cfg.dkd_beta * share)  # noqa: E731
    if "share" not in batch:
        return of(batch["label"], 1.0)
    return of(batch["label"], batch["share"]) + of(batch["other"], 1 - batch["share"])


def distil_loss(teacher: Teacher, cfg: Distil, smoothing: float = 0.0) -> Callable:
    """loss_fn of phase 2, for a Distilled student."""
    def loss_fn(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        joints, label = batch["joints"], batch["label"]
        is_causal = cfg.shared_causal and any(m.causal for m in model.modules() if isinstance(m, TemporalConv))
        target, maps = teacher(joints, is_causal)
        logits, projected = model(joints)
        logits = logits.float()
        ce = cross_entropy(logits, batch, smoothing)
        kd = soft_loss(logits, target, batch, cfg)
        loss, parts = cfg.alpha * ce + cfg.beta * kd, {"ce": ce, "kd": kd}
        if projected:
            present = bodies_present(joints).flatten().nonzero().squeeze(1)
            parts["mimicry"] = share_of(len(present), batch) * mimicry_loss(projected, [m[present] for m in maps])
            loss = loss + cfg.gamma * parts["mimicry"]
        hit = lambda scores: (scores.argmax(1) == label).float().mean()  # noqa: E731
        return loss, {"top1": hit(logits), "teacher_top1": hit(target), **parts}
    return loss_fn


def load_teachers(cfg: Config, store: ClipStore, device: torch.device) -> tuple[list[nn.Module], list[Path]]:
    """The networks of distil.teacher, each checked against the clips and the view that the student will see, and their folders."""
    names = [n.strip() for n in cfg.distil.teacher.split(",") if n.strip()]
    if not names:
        raise ValueError("distil.teacher is empty: give a recipe that was trained on this data set, or the folders of runs with commas between")
    folders = []
    for name in names:
        recipe, _, seed = name.rpartition(":")
        folders += find_runs(recipe, cfg, int(seed)) if recipe and seed.isdigit() else find_runs(name, cfg)
    nets = []
    for folder in folders:
        net, theirs, skeleton, classes = load_run(folder, device)
        where = f"distil.teacher: {folder}"
        if (skeleton.joints, skeleton.parents) != (store.skeleton.joints, store.skeleton.parents):
            raise ValueError(f"{where} knows the skeleton {skeleton.name!r}, the store {cfg.store} has {store.skeleton.name!r}")
        if classes != store.classes or theirs.data.num_classes != cfg.data.num_classes:
            odd = next((f"class {k} is {a!r} there, {b!r} here" for k, (a, b) in enumerate(zip(classes, store.classes, strict=False)) if a != b),
                       f"{theirs.data.num_classes} classes there, {cfg.data.num_classes} here")
            raise ValueError(f"{where} was trained on other classes than {cfg.store} has: {odd}")
        check_leakage(dataclasses.asdict(theirs), cfg, where)
        if theirs.data.name == cfg.data.name and (folder / "scores.npz").exists():
            with np.load(folder / "scores.npz") as z:
                if unseen := sorted({str(n) for n in store.clips["name"][store.split(cfg.data.split)[1]]} - {str(n) for n in z["name"]}):
                    raise ValueError(f"{where} was not tested on {unseen[0]} and {len(unseen) - 1} more test clips of this run, and may have trained "
                                     f"on them: was {cfg.store} made anew?")
        if cfg.train.causal and cfg.distil.shared_causal and not theirs.train.causal:
            raise ValueError(f"{where} never saw a causal batch (its train.causal is 0), and train.causal = {cfg.train.causal} would ask it in "
                             "that mode: give distil.shared_causal=false, or a teacher trained like B12")
        for key in SEEN:
            if (a := getattr(theirs.view, key)) != (b := getattr(cfg.view, key)):
                raise ValueError(f"{where} was trained with view.{key} = {a!r}, the student has {b!r}: both must see the same batch")
        nets.append(net)
    return nets, folders


def make_distilled(student: nn.Module, teacher: Teacher, gamma: float, joints: Tensor) -> Distilled:
    """The student with the projections that the teacher's maps of an example batch ask for; none where gamma is 0."""
    with torch.no_grad():
        own = classify(student.eval(), joints, drop_absent=False)[1]
    theirs = teacher(joints)[1]
    if gamma and [m.shape[2:] for m in own] != [m.shape[2:] for m in theirs]:
        shapes = [" ".join("x".join(map(str, m.shape[1:])) for m in maps) for maps in (theirs, own)]
        raise ValueError(f"distil.gamma = {gamma}: the teacher's stages (C x T x V) {shapes[0]} do not match the student's {shapes[1]} "
                         "in frames and joints; give gamma=0, or another teacher")
    return Distilled(student, [(a.shape[1], b.shape[1]) for a, b in zip(own, theirs, strict=True)] if gamma else [])


def judge(teacher: Teacher, cfg: Config, test: Batches) -> dict:
    """The accuracy of what the student is shown, {teacher_top1, teacher_top1_clean where clips leak}, percent of the test clips."""
    shown, labels = zip(*((teacher(b["joints"])[0].cpu(), b["label"].cpu()) for b in test()), strict=True)
    of = accuracies(cfg, torch.cat(shown), torch.cat(labels))
    return {f"teacher_{key}": of[key] for key in ("top1", "top1_clean") if key in of}


def main(argv: list[str]) -> int:
    cfg, command, code = load_config(argv), "just phase2 " + " ".join(argv), commit()
    check_phase(cfg, "phase2")
    if (exit_code := start_processes(cfg, argv)) is not None:
        return exit_code
    store = open_store(cfg)
    train_clips, held_clips, test_clips = splits(store, cfg)
    recipe = dataclasses.asdict(cfg)
    if cfg.model.name != "lite":
        raise ValueError(f"model.name = {cfg.model.name!r}: phase 2 distils into LAST-Lite; give model.name=lite")
    if already_done(cfg, "phase2"):
        return 0
    device = cfg.torch_device
    nets, folders = load_teachers(cfg, store, device)
    fingerprints = {str(f): hashlib.sha256((f / "final.pt").read_bytes()).hexdigest()[:12] for f in folders}
    view, teacher = ClipView(store, cfg.view, device), Teacher(nets, cfg.distil.tau)
    student = build_model(cfg, store.skeleton, cfg.data.num_classes).to(device)
    if cfg.init:
        init_from(student, find_runs(cfg.init, cfg, cfg.seed)[0], cfg)
    model = make_distilled(student, teacher, cfg.distil.gamma, view(torch.as_tensor(train_clips[:1], device=device))).to(device)
    projections = sum(p.numel() for p in model.projections.parameters())
    announce(cfg, f"{len(train_clips)} training, {len(held_clips)} validation, {len(test_clips)} test clips", device,
          f"; teacher {', '.join(map(str, folders))}; {projections:,} parameters of projections, dropped at the end")

    batches = Batches(view, train_clips, cfg.train.batch, training=True, seed=cfg.seed)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    held = Batches(view, held_clips, cfg.train.batch)
    score = (lambda net: accuracy(*predict(net, held))["top1"]) if len(held_clips) else None
    fit(model, batches, distil_loss(teacher, cfg.distil, cfg.train.label_smoothing), cfg.train, cfg.run, recipe, cfg.seed, plain, score,
        identity("phase2", store, train_clips, held_clips, test_clips) | {"teachers": fingerprints})
    if rank_of()[0] == 0:
        own = judge(teacher, cfg, Batches(view, test_clips, cfg.train.batch))
        finish(cfg, command, code, store, view, model.student, test_clips, {"teacher": [str(f) for f in folders], **own})
    return 0


if __name__ == "__main__":
    cli(main)
