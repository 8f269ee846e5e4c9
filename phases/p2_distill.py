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
import hashlib
from collections.abc import Callable
from pathlib import Path

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
    load_run,
    open_store,
    read_scores,
    splits,
    start_processes,
    validation,
)
from torch import Tensor, nn
from transfer import init_from

from last import (
    Batches,
    ClipView,
    Conv1x1,
    TemporalConv,
    causal,
    classify,
    cross_entropy,
    dkd_loss,
    fit,
    kd_loss,
    mimicry_loss,
    plain_batches,
    rank_of,
    share_of,
)

# fields of the view that teacher and student must share: they see the same batch
SEEN = ("frames", "bodies", "sampling", "smooth", "heading", "trunk_scale", "extent")


class Teacher:
    """Frozen networks. The target (B, K) is the mean over the networks of softmax(logits / tau). The stage maps
    (N, C, T, V) are those of the first network, for the N bodies present, in order: an absent body costs no time.
    """

    def __init__(self, nets: list[nn.Module], tau: float):
        self.nets, self.tau = [net.eval().requires_grad_(False) for net in nets], tau

    def __call__(self, joints: Tensor, is_causal: bool = False) -> tuple[Tensor, list[Tensor]]:  # b m t v 3
        probabilities, stage_maps = [], []
        with torch.inference_mode():
            for net in self.nets:
                with causal(net, is_causal):
                    logits, maps = classify(net, joints, drop_absent=True)
                probabilities.append((logits.float() / self.tau).softmax(1))                # b k
                stage_maps = stage_maps or maps
            target = torch.stack(probabilities).mean(0)                                     # b k
        # autograd cannot save an inference tensor for the backward pass; a clone is an ordinary tensor
        return target.clone(), [m.clone() for m in stage_maps]


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


def load_teachers(cfg: Config, store: ClipStore, device: torch.device) -> tuple[list[nn.Module], list[Path]]:
    """The networks of distil.teacher and their run folders; ValueError if one does not fit the clips or the view."""
    nets, folders = [], teacher_folders(cfg)
    for folder in folders:
        net, theirs, skeleton, classes = load_run(folder, device)
        where = f"distil.teacher: {folder}"
        if (skeleton.joints, skeleton.parents) != (store.skeleton.joints, store.skeleton.parents):
            raise ValueError(f"{where} has the skeleton {skeleton.name!r}, "
                             f"the store {cfg.store} has {store.skeleton.name!r}")
        check_classes(theirs, classes, cfg, store, where)
        check_leakage(dataclasses.asdict(theirs), cfg, where)
        check_test_side(folder, theirs, cfg, store, where)
        check_view(theirs, cfg, where)
        nets.append(net)
    return nets, folders


def teacher_folders(cfg: Config) -> list[Path]:
    """Run folders of distil.teacher, a comma-separated list of recipe, recipe:seed or folder."""
    names = [name.strip() for name in cfg.distil.teacher.split(",") if name.strip()]
    if not names:
        raise ValueError("distil.teacher is empty: give recipes that were trained on this data set, or run folders, "
                         "separated by commas")
    folders = []
    for name in names:
        recipe, _, seed = name.rpartition(":")
        folders += find_runs(recipe, cfg, int(seed)) if recipe and seed.isdigit() else find_runs(name, cfg)
    return folders


def check_classes(theirs: Config, classes: list[str], cfg: Config, store: ClipStore, where: str) -> None:
    if classes == store.classes and theirs.data.num_classes == cfg.data.num_classes:
        return
    difference = f"{theirs.data.num_classes} classes there, {cfg.data.num_classes} here"
    for k, (there, here) in enumerate(zip(classes, store.classes, strict=False)):
        if there != here:
            difference = f"class {k} is {there!r} there, {here!r} here"
            break
    raise ValueError(f"{where} was trained on other classes than {cfg.store} has: {difference}")


def check_test_side(folder: Path, theirs: Config, cfg: Config, store: ClipStore, where: str) -> None:
    """ValueError if the teacher's scores lack a test clip of this run: the teacher may have trained on that clip."""
    if theirs.data.name != cfg.data.name or not (folder / "scores.npz").exists():
        return
    tested = set(read_scores(folder)[0])
    ours = {str(name) for name in store.clips["name"][store.split(cfg.data.split)[1]]}
    missing = sorted(ours - tested)
    if missing:
        raise ValueError(f"{where} was not tested on {missing[0]} and {len(missing) - 1} more test clips of this run, "
                         f"and may have trained on them: was {cfg.store} made anew?")


def check_view(theirs: Config, cfg: Config, where: str) -> None:
    """ValueError if the teacher was trained on another view, or never in the causal mode that it would run in."""
    if cfg.train.causal and cfg.distil.shared_causal and not theirs.train.causal:
        raise ValueError(f"{where} never saw a causal batch (its train.causal is 0), but train.causal = "
                         f"{cfg.train.causal} asks it for some: give distil.shared_causal=false, or a teacher like B12")
    for key in SEEN:
        there, here = getattr(theirs.view, key), getattr(cfg.view, key)
        if there != here:
            raise ValueError(f"{where} was trained with view.{key} = {there!r}, the student has {here!r}: "
                             "both must see the same batch")


def fingerprints(folders: list[Path]) -> list[str]:
    """The teachers, wherever their folders lie, and a short hash of the weights of each: a run continues only with the
    teachers it started with."""
    return ["/".join([*f.resolve().parts[-3:], hashlib.sha256((f / "final.pt").read_bytes()).hexdigest()[:12]])
            for f in folders]


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
