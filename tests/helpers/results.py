"""Result files written by hand, for the tests of tables."""
import json
from pathlib import Path


def write_result(recipe: str, top1: float, seed: int = 0, data: str = "nw_ucla", split: str = "xview",
                 folder: str = "", **more) -> None:
    """runs/<recipe>/<data>-<split>/seed<k>/result.json, as phase 1 writes it; None leaves a key out."""
    path = Path("runs", folder or recipe, f"{data}-{split}", f"seed{seed}")
    path.mkdir(parents=True)
    result = {"recipe": recipe, "dataset": data, "split": split, "seed": seed,
              "command": f"just phase1 recipe={recipe} data={data} seed={seed}", "epochs": 5, "seconds": 9,
              "device": "a CPU", "commit": "abc", "params": 173826, "macs": 53976000, "top1": top1, "top5": 99.0}
    kept = {key: value for key, value in {**result, **more}.items() if value is not None}
    (path / "result.json").write_text(json.dumps(kept))


def write_entry(folder: Path, row: str, *top1: float, clean: float | None = None,
                place: str = "utd_mhad-xsub") -> None:
    """A committed file with one run per figure, seeds from 0 on; `clean` is what is added to it for clean clips."""
    folder.mkdir(exist_ok=True)
    runs = []
    for seed, figure in enumerate(top1):
        runs.append({"seed": seed, "top1": figure, "top1_clean": None if clean is None else clean + figure,
                     "epochs": 5})
    dataset, split = place.rsplit("-", 1)
    entry = {"recipe": row, "dataset": dataset, "split": split, "runs": runs}
    (folder / f"{row}--{place}.json").write_text(json.dumps(entry))
