"""The report of an export as a page, report.md: its forms, what they lose, their times, the layers that cost most."""
from __future__ import annotations

from phases.shipping.onnx_files import FILES
from phases.shipping.tflite import TFLITE_FILES

COLUMNS = ("form", "file", "bytes", "top-1", "points lost to FP32 (paired 95 %)", "agreement",
           "largest logit difference")


def markdown(report: dict) -> str:
    """The whole page."""
    # what was exported
    lines = [
        f"# {report['recipe']} on {report['dataset']} {report['split']}, exported",
        "",
        f"{report['params']:,} parameters, {report['clips']} test clips; `{report['command']}`, commit "
        f"{report['commit']}, {report['device']}.",
        "",
    ]

    # a table of the forms
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *form_rows(report), ""]

    # times, and a warning
    ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in report["latency"].items())
    lines.append(f"Time of one clip, one thread, as a ratio to the FP32 deploy form: {ratios}.")
    if not report["accepted"]:
        lines += ["", *refusal(report)]
    return "\n".join(lines) + "\n"


def form_rows(report: dict) -> list[str]:
    """A row of the table for each form that was written."""
    rows = []
    for form, name in (FILES | TFLITE_FILES).items():
        if form not in report:
            continue
        figures = report[form]

        # FP32 loses nothing to itself
        loss = " | | |"
        if "drop" in figures:
            low, high = figures["drop_ci95"]
            loss = (f"{figures['drop']:.2f} ({low:.2f} to {high:.2f}) | {figures['agreement']:.1f} | "
                    f"{figures['max_diff']:.2g} |")

        rows.append(f"| {form} | {name} | {figures['bytes']:,} | {figures['top1']:.1f} | {loss}")
    return rows


def refusal(report: dict) -> list[str]:
    """Why INT8 is refused, and the layers to blame."""
    lines = [f"**INT8 lost {report['int8']['drop']:.2f} points, 1 or more: do not ship it.** Layers that cost most:"]
    for layer in report["layers"][:5]:
        lines.append(f"- {layer['layer']}: {layer['saves']:.1f} % of the logit error")
    return lines
