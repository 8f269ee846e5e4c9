"""Protocols of the public data sets, their class names and their limits, as published. numpy only.

A protocol is a rule, {field, train, test}: which values of a field train and which test. With one of the two lists,
the other side is the rest.
"""
from __future__ import annotations

import numpy as np

# ---------------------------------------------------------------------------------------------------------------------
# The public data sets
# ---------------------------------------------------------------------------------------------------------------------

FIELDS = ("subject", "camera", "setup", "replication")  # of a rule
XSUB60 = [1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38]
XSUB120 = [*XSUB60, 45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98,
           100, 103]
PROTOCOLS = {
    "ntu60": {"xsub": {"field": "subject", "train": XSUB60},
              "xview": {"field": "camera", "train": [2, 3], "test": [1]}},
    "ntu120": {"xsub": {"field": "subject", "train": XSUB120},
               "xset": {"field": "setup", "train": list(range(2, 33, 2))}},
    "nw_ucla": {"xview": {"field": "camera", "train": [1, 2], "test": [3]},
                "view12": {"field": "camera", "train": [1], "test": [2]},  # to tune without camera 3, the test camera
                "view21": {"field": "camera", "train": [2], "test": [1]}},
}
PROTOCOLS["synthetic"] = {**PROTOCOLS["ntu60"], "xset": PROTOCOLS["ntu120"]["xset"]}
ONE_SHOT = {  # data set: {novel class: the name of its exemplar}; the network is trained on the other classes
    # Liu et al., TPAMI 2020: every sixth of 120 classes
    "ntu120": {k: f"S{1 if k < 60 else 18:03}C003P008R001A{k + 1:03}" for k in range(0, 120, 6)},
    # SL-DML, arXiv:2004.11085, as its author's gimme_signals_action_recognition sorts files: the last 4 of 27
    "utd_mhad": {k: f"a{k + 1}_s1_t1" for k in range(23, 27)}}
WITHIN = {  # largest number of each field; NTU-60 is the part of NTU-120 within its limits
    "ntu60": {"setup": 17, "subject": 40, "label": 59},
    "ntu120": {"setup": 32, "subject": 106, "label": 119}}
NW_UCLA_CLASSES = ("pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
                   "stand up", "donning", "doffing", "throw", "carry")


# A001 to A120; the first 60 are NTU-60.
NTU_NAMES = """\
drink water, eat a meal or snack, brush teeth, brush hair, drop, pick up, throw, sit down, stand up, clap, read,
write, tear up paper, put on jacket, take off jacket, put on a shoe, take off a shoe, put on glasses, take off
glasses, put on a hat or cap, take off a hat or cap, cheer up, wave a hand, kick something, reach into pocket, hop,
jump up, make or answer a phone call, play with phone or tablet, type on a keyboard, point to something, take a
selfie, check the time, rub two hands together, nod or bow, shake head, wipe face, salute, put palms together, cross
hands in front, sneeze or cough, stagger, fall, headache, chest pain, back pain, neck pain, nausea or vomiting, fan
oneself, punch or slap somebody, kick somebody, push somebody, pat somebody on the back, point at somebody, hug
somebody, give something to somebody, touch somebody's pocket, shake hands, walk towards each other, walk apart, put
on headphones, take off headphones, shoot at a basket, bounce a ball, swing a tennis racket, juggle table tennis
balls, hush, flick hair, thumb up, thumb down, make an ok sign, make a victory sign, staple a book, count money, cut
nails, cut paper, snap fingers, open a bottle, sniff, squat down, toss a coin, fold paper, ball up paper, play magic
cube, apply cream on face, apply cream on back of hand, put on a bag, take off a bag, put something into a bag, take
something out of a bag, open a box, move heavy objects, shake fist, throw up a cap or hat, both hands up, cross arms,
circle arms, swing arms, run on the spot, kick backward, cross toe touch, kick to the side, yawn, stretch oneself,
blow nose, hit somebody with something, wield a knife towards somebody, knock somebody over, grab somebody's stuff,
shoot at somebody with a gun, step on somebody's foot, high-five, cheers and drink, carry something together, take a
photo of somebody, follow somebody, whisper in somebody's ear, exchange things, support somebody with a hand, rock
paper scissors"""
NTU_CLASSES = [" ".join(name.split()) for name in NTU_NAMES.split(",")]


# ---------------------------------------------------------------------------------------------------------------------
# Rules
# ---------------------------------------------------------------------------------------------------------------------

def sides(rule: dict, clips: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N,) of the training and the test clips under a rule."""
    value = clips[rule["field"]]
    train = np.isin(value, rule["train"]) if "train" in rule else ~np.isin(value, rule["test"])
    test = np.isin(value, rule["test"]) if "test" in rule else ~train
    return train, test


def check_rules(protocols: dict) -> dict:
    """The protocols of a recipe, {name: rule}; ValueError for a malformed rule, or one with a value on both sides."""
    for name, rule in protocols.items():
        check_rule(f"data.protocols.{name}", rule)
    return protocols


def check_rule(path: str, rule: object) -> None:
    """ValueError, which names the rule by its path in the recipe, for one that is malformed or contradicts itself."""
    # a table of the right keys
    if not isinstance(rule, dict) or set(rule) - {"field", "train", "test"} or not {"train", "test"} & set(rule):
        example = '{ field = "subject", train = [1, 2] }'
        raise ValueError(f"{path} = {rule}: must look like {example}, with train, test or both")

    # with values of the right kind
    if rule.get("field") not in FIELDS:
        raise ValueError(f"{path}.field = {rule.get('field')!r}: must be subject, camera, setup or replication")
    for side in {"train", "test"} & set(rule):
        if not isinstance(rule[side], list) or not all(type(v) is int for v in rule[side]):
            raise ValueError(f"{path}.{side} = {rule[side]!r}: must be a list of whole numbers, such as [1, 2]")

    # a clip that trains does not test
    both = sorted(set(rule.get("train", ())) & set(rule.get("test", ())))
    if both:
        raise ValueError(f"{path}: {rule['field']} {both[0]} stands on both sides")
