"""Protocols have the published numbers of clips."""
import lzma

import numpy as np

from phases.common import protocols
from phases.recordings.ntu import ntu_fields
from tests.helpers.clip_stores import ROOT


def test_protocols_give_the_published_counts_on_all_names(data_folder):
    names = lzma.decompress((data_folder / "ntu-names.txt.xz").read_bytes()).decode().split()
    table = [ntu_fields(n) for n in names]
    all120 = {k: np.array([f[k] for f in table]) for k in table[0]}
    in60 = (all120["setup"] <= 17) & (all120["subject"] <= 40) & (all120["label"] < 60)
    all60 = {k: v[in60] for k, v in all120.items()}

    counts = {}
    for data, fields in (("ntu60", all60), ("ntu120", all120)):
        for name, rule in protocols.PROTOCOLS[data].items():
            counts[data, name] = tuple(int(side.sum()) for side in protocols.sides(rule, fields))
    assert counts == {("ntu60", "xsub"): (40_091, 16_487), ("ntu60", "xview"): (37_646, 18_932),
                      ("ntu120", "xsub"): (63_026, 50_919), ("ntu120", "xset"): (54_468, 59_477)}

    missing = (ROOT / "recipes" / "ntu-missing.txt").read_text().split()
    assert not set(missing) & set(names) and len(names) + len(missing) == 114_480

    # one-shot: 20 novel classes, each exemplar is a usable sample of its class
    exemplars = protocols.ONE_SHOT["ntu120"]
    assert len(exemplars) == 20 and set(exemplars.values()) <= set(names)
    assert [ntu_fields(name)["label"] for name in exemplars.values()] == list(exemplars)
    assert {name[:16] for name in exemplars.values()} == {"S001C003P008R001", "S018C003P008R001"}


def test_the_unusable_samples_are_535_of_which_302_of_ntu60():
    names = (ROOT / "recipes" / "ntu-missing.txt").read_text().split()
    fields = [ntu_fields(n) for n in names]
    assert len(names) == len(set(names)) == 535
    assert sum(f["setup"] <= 17 and f["subject"] <= 40 and f["label"] < 60 for f in fields) == 302
