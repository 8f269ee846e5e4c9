"""Blocks of Markdown pages: the text between `<!-- table: NAME -->` and `<!-- end -->` is made from files in results/.

A block may have options: `<!-- table: measured data=nw_ucla -->`. blocks_results.py, blocks_ablations.py,
blocks_speed.py, blocks_speedrun.py, blocks_robustness.py, blocks_wild.py, blocks_live.py and blocks_few.py hold the
functions that make the texts, each from a folder of results.
"""
from __future__ import annotations

import inspect
import re

from phases.common.command import nearest
from phases.reporting import (
    blocks_ablations,
    blocks_few,
    blocks_live,
    blocks_results,
    blocks_robustness,
    blocks_speed,
    blocks_speedrun,
    blocks_wild,
)
from phases.reporting.measured import Results

BLOCKS = {
    "headline": blocks_results.headline,
    "peers": blocks_results.beside_peers,
    "measured": blocks_results.all_rows,
    "distilled": blocks_results.gains_of_distilling,
    "taught": blocks_results.streams_and_students,
    "teacher-study": blocks_results.teacher_study,
    "exports": blocks_results.exported_files,
    "small-sets": blocks_results.small_set_variants,
    "networks": blocks_results.shipped_networks,
    "ablation": blocks_ablations.short_ablation,
    "full-width": blocks_ablations.full_width,
    "verdicts": blocks_ablations.verdicts,
    "speed": blocks_speed.short_speed,
    "lite-speed": blocks_speed.lite_speed,
    "attention-speed": blocks_speed.attention_speed,
    "against": blocks_speed.steps_before_and_after,
    "beside-peer": blocks_speed.beside_peer,
    "tried-speed": blocks_speed.tried_for_speed,
    "side-by-side": blocks_speed.jobs_side_by_side,
    "teacher-share": blocks_speed.teacher_share,
    "in-browser": blocks_speed.in_browser,
    "int8-nodes": blocks_speed.int8_nodes,
    "gpu-steps": blocks_speed.gpu_steps,
    "levers": blocks_speedrun.levers,
    "record": blocks_speedrun.record,
    "robust": blocks_robustness.faults_and_survivals,
    "bystanders": blocks_robustness.who_is_meant,
    "wild": blocks_wild.rows_that_count,
    "wild-more": blocks_wild.other_rows,
    "wild-sure": blocks_wild.confidence,
    "wild-picture": blocks_wild.picture_link,
    "wild-study": blocks_wild.study,
    "view-study": blocks_wild.view_study,
    "decline": blocks_wild.declining,
    "decline-study": blocks_wild.scores_that_decline,
    "decline-trained": blocks_wild.trainings_that_decline,
    "few-shot": blocks_few.few_examples,
    "declining-rules": blocks_few.declining_rules,
    "last-layers": blocks_few.last_layers,
    "copies": blocks_few.copies,
    "doubts": blocks_few.doubts,
    "one-shot": blocks_few.one_example,
    "starts-compared": blocks_few.starts_compared,
    "starts-judged": blocks_few.starts_judged,
    "bodies": blocks_few.one_network_many_bodies,
    "live": blocks_live.events_at_rates,
}
MARK = r"<!-- table: "
BLOCK = re.compile(rf"({MARK}([\w-]+)((?: \w+=[\w.-]+)*) -->\n)(?:(?!{MARK}).)*?(<!-- end -->)", re.S)


def render_blocks(text: str, results: Results) -> str:
    """A page with each of its blocks made anew; ValueError for a marker that names none or has no end."""
    # markers that are no block
    odd = re.search(rf"^{MARK}.*", BLOCK.sub("", text), re.M)
    if odd:
        raise ValueError(f"{odd[0]!r}: has no `<!-- end -->` before the next table, or words other than key=value")

    # the text between the markers is replaced, the markers stay
    def render(match: re.Match) -> str:
        start, name, words, end = match.groups()
        options = dict(word.split("=") for word in words.split())
        return f"{start}{block(name, options, results)}\n{end}"

    return BLOCK.sub(render, text)


def block(name: str, options: dict[str, str], results: Results) -> str:
    """The text of a block; ValueError for an unknown name or option."""
    if name not in BLOCKS:
        raise ValueError(f"no table {name!r}{nearest(name, BLOCKS)}")
    make = BLOCKS[name]

    # its options are the parameters after the folder of results
    known = list(inspect.signature(make).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(f"table {name!r} has no option {option!r}{nearest(option, known)}")
    return make(results, **options)
