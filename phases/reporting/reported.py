"""A run as its report shows it: the files of its folder, and its answers to the test clips."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from last import load_checkpoint
from phases.common.files import read_json, read_log
from phases.common.limits import load_npz, reading
from phases.recordings.wild import CLEAN, COUNTED
from phases.reporting.charts import Matrix, Strip, confusion_chart, frame_strip
from phases.reporting.drawing import as_camera
from phases.reporting.measured import read_result
from phases.reporting.ranking import Rankings, rankings
from phases.training.clip_store import ClipStore, clip_joints

WORST = 6       # confusions that are listed
EXAMPLES = 2    # clips of each
ROWS = 8        # of changed clips that are listed


@dataclass(frozen=True)
class ReportedRun:
    """The contents of a run folder; result and scores are empty while it is under way."""
    folder: Path
    recipe: dict
    log: list[dict]         # one line per epoch
    result: dict
    classes: list[str]
    name: np.ndarray        # n, of the test clips
    label: np.ndarray       # n
    logits: np.ndarray      # n k
    wild: dict              # what `just wild` measured; empty without it
    declining: dict         # threshold and likeness of each test clip, by phase 4; empty without it
    store: ClipStore | None


def load_reported(folder: Path) -> ReportedRun:
    """What a run folder holds, and its clip store; ValueError names a damaged file."""
    recipe = read_json(folder / "recipe.json")
    result = read_json(folder / "result.json") if (folder / "result.json").is_file() else {}

    # names, labels and logits of the test clips; a run of phase 3 has none
    scores = {"name": [], "label": [], "logits": []}
    if result and (folder / "scores.npz").is_file():
        with reading(folder / "scores.npz"):
            arrays = load_npz(folder / "scores.npz")
            scores = {key: arrays[key] for key in scores}
    scores = {key: np.asarray(array) for key, array in scores.items()}

    # its accuracy on changed clips
    changed = folder / "wild.json"
    wild = read_result(changed, "mean", "mean_of", "top1", "confidence") if changed.is_file() else {}

    # what an exported file of it declines
    declining = folder / "declining.json"
    declining = read_result(declining, "threshold", "likeness") if declining.is_file() else {}

    # the clip store, if it is there
    place = Path(recipe["data"]["store"] or f"stores/{recipe['data']['name']}")
    store = ClipStore(place) if (place / "meta.json").is_file() else None

    # names of the classes: the network's, else the store's, else numbers
    classes = list(store.classes) if store else []
    if (folder / "final.pt").is_file():
        classes = list(load_checkpoint(folder / "final.pt").get("classes", classes))
    if not classes:
        classes = [f"class {k}" for k in range(recipe["data"]["num_classes"])]
    log = read_log(folder / "metrics.jsonl")
    return ReportedRun(folder, recipe, log, result, classes, wild=wild, declining=declining, store=store, **scores)


# ---------------------------------------------------------------------------------------------------------------------
# Answers to the test clips
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Example:
    """A clip that got a wrong name."""
    clip: str
    answers: str            # the wrong class and the right one, with their probabilities
    strip: Strip | None


@dataclass(frozen=True)
class Confusion:
    """Clips of the class `true` that were named `taken`."""
    true: str
    taken: str
    clips: int
    of: int                 # clips of the class
    examples: list[Example]


@dataclass(frozen=True)
class Recall:
    """The share of a class's clips that got its name."""
    name: str
    right: int
    clips: int
    share: float


@dataclass(frozen=True)
class Answers:
    """What a network made of the test clips."""
    matrix: Matrix
    worst: list[Confusion]
    recalls: list[Recall]   # the worst first
    rankings: Rankings | None


def answers_of(run: ReportedRun) -> Answers | None:
    """What a run's network made of the test clips; None before they were tested."""
    if not len(run.label):
        return None

    # probabilities, n k
    p = np.exp(run.logits - run.logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)

    # clips of each (class, answer), k k
    confusion = np.zeros((p.shape[1],) * 2, int)
    np.add.at(confusion, (run.label, p.argmax(1)), 1)

    matrix = confusion_chart(confusion, run.classes)
    return Answers(matrix, worst_confusions(run, confusion, p), recalls(confusion, run.classes),
                   rankings(p, run.label, run.classes))


def worst_confusions(run: ReportedRun, confusion: np.ndarray, p: np.ndarray) -> list[Confusion]:
    """The most frequent confusions, and of each the clips that the network is surest about. p: n k."""
    # pairs of classes, the most frequent first
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST]
    pairs = [np.unravel_index(k, wrong.shape) for k in order if wrong.flat[k]]

    found = []
    for true, taken in pairs:
        clips = np.flatnonzero((run.label == true) & (p.argmax(1) == taken))
        of = int((run.label == true).sum())

        # those of the largest probability of the wrong class
        surest = clips[np.argsort(-p[clips, taken], kind="stable")][:EXAMPLES]
        examples = [example(run, i, p[i], (taken, true)) for i in surest]
        found.append(Confusion(run.classes[true], run.classes[taken], len(clips), of, examples))
    return found


def example(run: ReportedRun, i: int, p: np.ndarray, classes: tuple[int, int]) -> Example:
    """Test clip i with the probabilities of two classes, of p: k; and its frames, if the clip store has it."""
    name = str(run.name[i])
    answers = [f"{run.classes[k]} {100 * p[k]:.0f} %" for k in classes]

    # its frames, upright
    strip = None
    if run.store:
        stored = np.flatnonzero(run.store.clips["name"] == name)
        if len(stored):
            up = run.store.meta.get("recorded", {}).get("up", "y")
            joints = as_camera(clip_joints(run.store, stored[-1]), up)
            strip = frame_strip(joints, run.store.skeleton)
    return Example(name, " · ".join(answers), strip)


def recalls(confusion: np.ndarray, classes: list[str]) -> list[Recall]:
    """The recall of each class that has test clips, the worst first."""
    clips = confusion.sum(1)
    right = np.diag(confusion)
    share = right / np.maximum(clips, 1)

    order = np.argsort(share, kind="stable")
    return [Recall(classes[k], right[k], clips[k], share[k]) for k in order if clips[k]]


# ---------------------------------------------------------------------------------------------------------------------
# Declined clips
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Declined:
    """The test clips of a class that an exported file declines: none of these."""
    name: str
    clips: list[str]        # their names; of a clip that had a wrong name also that
    of: int                 # clips of the class
    right: int              # of the declined ones, those that had the right name

    @property
    def share(self) -> float:
        return len(self.clips) / self.of


def declined_classes(run: ReportedRun) -> list[Declined]:
    """The declined clips of each class that has test clips, the largest share first; empty without an export."""
    if not run.declining or not len(run.label):
        return []
    missing = [name for name in run.name if name not in run.declining["likeness"]]
    if missing:
        raise ValueError(f"{run.folder / 'declining.json'}: lacks the test clip {missing[0]}: export the run again")

    # which clips; their names by the network
    likeness = np.array([run.declining["likeness"][name] for name in run.name])
    is_declined = likeness < run.declining["threshold"]
    answer = run.logits.argmax(1)

    found = []
    for k in np.unique(run.label):
        of_class = run.label == k
        clips = []
        for i in np.flatnonzero(of_class & is_declined):
            wrong = "" if answer[i] == k else f" ({run.classes[answer[i]]})"
            clips.append(f"{run.name[i]}{wrong}")
        right = int((of_class & is_declined & (answer == k)).sum())
        found.append(Declined(run.classes[k], clips, int(of_class.sum()), right))
    return sorted(found, key=lambda one: -one.share)


# ---------------------------------------------------------------------------------------------------------------------
# Changed clips
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class WildRow:
    """Percent of the test clips that got their name under a change, and the mean probability of the answers."""
    name: str
    top1: float
    confidence: float


def worst_rows(wild: dict) -> list[WildRow]:
    """The changes of the mean under which a network is worst, of what `just wild` measured; empty without it."""
    if not wild:
        return []
    changes = [row for row in COUNTED if row in wild["top1"] and row != CLEAN]
    worst = sorted(changes, key=wild["top1"].get)[:ROWS]
    return [WildRow(row, wild["top1"][row], wild["confidence"][row]) for row in worst]
