"""Bodies as data, numpy only: what joints a sensor gives, how they hang together, and one body turned into another.

    1. Skeleton       joints, parents, regions; bones, hops, mirror and shift tables follow from them
    2. SKELETONS      the bodies of the common sensors and pose estimators
    3. Retargeting    one skeleton's joints as means of another's

Axis letters as in last.py: m body · c channel · t frame · v joint · k hop.
"""
from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# ---------------------------------------------------------------------------------------------------------------------
# 1. Skeleton
# ---------------------------------------------------------------------------------------------------------------------

SIDES = {"l": "left", "r": "right", "left": "left", "right": "right"}
ALIKE = {"center": "centre", "naval": "navel", "handtip": "hand tip"}


def spelled(joint: str) -> str:
    """A joint's name in one spelling: LeftShoulder, left_shoulder, LShoulder and shoulder_l become `left shoulder`.

    hip center becomes hip centre, HANDTIP_LEFT left hand tip, and MediaPipe's foot index is the foot.
    """
    # a capital after a small letter, or after a leading L or R, begins a word
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=\b[LR])(?=[A-Z][a-z])", " ", re.sub("[_.-]", " ", joint))
    words = [ALIKE.get(word, word) for word in parted.lower().split()]

    # the side comes first, written out
    sides = [SIDES[word] for word in words if word in SIDES]
    if len(sides) == 1 < len(words):
        words = sides + [word for word in words if word not in SIDES]
    return " ".join(words).replace("foot index", "foot")


@dataclass(frozen=True)
class Skeleton:
    """A body as data; joints are numbered from 0.

    parents[v] is the joint nearer to the root; the root is its own parent. Regions are disjoint and cover all joints;
    the names of arms and legs end in arm and leg (for region_shift, which rotates a region's joints in their order).
    Pairs are (left, right) joints; if empty, they are derived from the joints' names.
    """
    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    regions: dict[str, tuple[int, ...]]
    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        V = len(self.joints)
        where = f"skeleton {self.name!r}"
        if V < 2 or len(set(self.joints)) != V:
            raise ValueError(f"{where}: needs at least 2 joints, all of different names")
        self._check_parents(where)
        self._check_regions(where)

        # pairs: as given, or by the joints' names
        paired = [v for pair in self.pairs for v in pair]
        if len(set(paired)) != len(paired) or any(not 0 <= v < V for v in paired):
            raise ValueError(f"{where}: pairs must name different joints in 0..{V - 1}: {self.pairs}")
        if not self.pairs:
            object.__setattr__(self, "pairs", self._pairs_by_name())

    def _check_parents(self, where: str) -> None:
        V = len(self.joints)
        if len(self.parents) != V:
            raise ValueError(f"{where}: {len(self.parents)} parents for {V} joints; give one each, the root is its own")
        for v, parent in enumerate(self.parents):
            if not 0 <= parent < V:
                raise ValueError(f"{where}: parents must lie in 0..{V - 1}; {self.joints[v]} has {parent}")

        # one root
        roots = [v for v in range(V) if self.parents[v] == v]
        if len(roots) != 1:
            raise ValueError(f"{where}: exactly one joint, the root, must be its own parent; here are {roots}")

        # every joint reaches it in at most V steps
        for v in range(V):
            u = v
            for _ in range(V):
                u = self.parents[u]
            if u != roots[0]:
                raise ValueError(f"{where}: joint {v} ({self.joints[v]}) never reaches the root: parents form a cycle")

    def _check_regions(self, where: str) -> None:
        V = len(self.joints)
        members = [v for region in self.regions.values() for v in region]
        if sorted(members) == list(range(V)):
            return
        missing_or_unknown = sorted(set(range(V)) ^ set(members))
        twice = sorted({v for v in members if members.count(v) > 1})
        raise ValueError(f"{where}: every joint must stand in exactly one region; look at joints "
                         f"{missing_or_unknown or twice}")

    def _pairs_by_name(self) -> tuple[tuple[int, int], ...]:
        number = {spelled(joint): v for v, joint in enumerate(self.joints)}
        pairs = []
        for joint, v in number.items():
            mate = number.get(joint.replace("left", "right"))
            if "left" in joint and mate is not None:
                pairs.append((v, mate))
        return tuple(pairs)

    @classmethod
    def from_dict(cls, d: dict) -> Skeleton:
        """The skeleton of a metadata file: keys name, joints, parents, regions; pairs if names lack left and right."""
        where = f"skeleton {d.get('name', '?')!r}"
        missing = [key for key in ("joints", "parents", "regions") if key not in d]
        if missing:
            raise ValueError(f"{where}: lacks {', '.join(missing)}; it needs joints, parents and regions")

        try:
            if not all(isinstance(joint, str) for joint in d["joints"]):
                raise TypeError
            parents = tuple(map(int, d["parents"]))
            regions = {name: tuple(map(int, joints)) for name, joints in d["regions"].items()}
            pairs = tuple((int(left), int(right)) for left, right in d.get("pairs", ()))
        except (TypeError, AttributeError, ValueError, OverflowError):
            raise ValueError(f"{where}: joints must be a list of names, parents a list of joint numbers (from 0), "
                             "regions a table of lists of joint numbers, pairs lists of two joint numbers") from None
        return cls(str(d.get("name", "own")), tuple(d["joints"]), parents, regions, pairs)

    def to_dict(self) -> dict:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def bones(self) -> list[tuple[int, int]]:
        """(child, parent) of every joint; the root's bone leads to itself and has length 0."""
        return list(enumerate(self.parents))

    @property
    def root(self) -> int:
        return next(v for v, parent in self.bones if v == parent)

    @cached_property
    def hops(self) -> np.ndarray:
        """(V, V) number of bones on the path between two joints."""
        V = self.num_joints
        hops = np.where(np.eye(V, dtype=bool), 0, V)
        for child, parent in self.bones:
            if child != parent:
                hops[child, parent] = hops[parent, child] = 1

        for k in range(V):  # Floyd-Warshall
            hops = np.minimum(hops, hops[:, k, None] + hops[None, k, :])
        return hops

    @property
    def adjacency(self) -> np.ndarray:
        """(V, V) D^-1/2 (A + I) D^-1/2, symmetric (Kipf and Welling, arXiv:1609.02907)."""
        A = (self.hops <= 1).astype(np.float32)
        d = A.sum(1) ** -0.5
        return d[:, None] * A * d[None, :]

    def _named(self, *words: str) -> list[int]:
        """The joints whose name contains the first word that occurs in any joint's name; [] if none does."""
        for word in words:
            hit = [v for v, joint in enumerate(self.joints) if word in spelled(joint)]
            if hit:
                return hit
        return []

    @cached_property
    def centre(self) -> list[int]:
        """Joints whose mean is the body's centre: the spine, else the hips, else the root."""
        return self._named("spine mid", "spine", "hip") or [self.root]

    @property
    def trunk(self) -> tuple[list[int], list[int], list[int], list[int]] | None:
        """(left shoulder, right shoulder, left hip, right hip), each a list of one joint; None if one is missing."""
        four = tuple(self._named(name)[:1] for name in ("left shoulder", "right shoulder", "left hip", "right hip"))
        return four if all(four) else None

    @property
    def mirror(self) -> list[int]:
        """mirror[v] replaces joint v when left and right are exchanged."""
        swap = list(range(self.num_joints))
        for left, right in self.pairs:
            swap[left] = right
            swap[right] = left
        return swap

    def region_shift(self, channels: int) -> np.ndarray:
        """(C, V) table of the body-region shift: the joint that each (channel, joint) reads.

        Channels [0, C/4) rotate within each arm, [C/4, C/2) within each leg, [C/2, 5C/8) within the torso and any other
        region. Channel i of a group reads, at the q-th joint of a region, joint (q + i + 1) mod size; joints outside
        its regions read themselves. Channel i of [5C/8, C) reads entry i mod n of the sorted list of joint v and its
        n - 1 neighbours.
        """
        V, C = self.num_joints, channels
        table = np.tile(np.arange(V), (C, 1))

        # five eighths of the channels: rotations within a region; the eighths in which each kind of region rotates
        arms, legs, others = (0, 2), (2, 4), (4, 5)
        for name, region in self.regions.items():
            low, high = others
            if name.endswith("arm"):
                low, high = arms
            elif name.endswith("leg"):
                low, high = legs
            first = low * C // 8
            for c in range(first, high * C // 8):
                table[c, list(region)] = np.roll(region, -(c - first + 1))

        # the rest: each joint reads itself and its neighbours in turn
        first = 5 * C // 8
        neighbours = [np.flatnonzero(self.hops[v] <= 1) for v in range(V)]
        for c in range(first, C):
            table[c] = [near[(c - first) % len(near)] for near in neighbours]
        return table

    def random_shift(self, channels: int, seed: int = 0) -> np.ndarray:
        """(C, V) table of the random shift (rows L0 and L8): a seeded permutation of the joints for each channel."""
        rng = np.random.default_rng(seed)
        return np.stack([rng.permutation(self.num_joints) for _ in range(channels)])


# ---------------------------------------------------------------------------------------------------------------------
# 2. The bodies of the common sensors and pose estimators
# ---------------------------------------------------------------------------------------------------------------------

def _skeleton(name: str, joints: str, parents: Sequence[int], **regions: Sequence[int]) -> Skeleton:
    names = tuple(joint.strip() for joint in joints.split(","))
    return Skeleton(name, names, tuple(parents), {k: tuple(v) for k, v in regions.items()})


FINGERS = {"thumb": "cmc mcp ip tip", **dict.fromkeys(("index finger", "middle finger", "ring finger", "pinky"),
                                                      "mcp pip dip tip")}


def _hand(name: str, *palm: str) -> Skeleton:
    """The wrist, perhaps the palm, and FINGERS from root to tip, which begin at the last joint of the palm."""
    P = len(palm)
    joints = list(palm)
    parents = [max(0, v - 1) for v in range(P)]
    regions = {"palm": range(P)}

    # fingers begin at the palm
    for finger, parts in FINGERS.items():
        root = len(joints)
        joints += [f"{finger} {part}" for part in parts.split()]
        parents += [P - 1, root, root + 1, root + 2]
        regions[finger.split()[0]] = range(root, root + 4)
    return _skeleton(name, ",".join(joints), parents, **regions)


def _with_hands(name: str, body: Skeleton, hand: Skeleton) -> Skeleton:
    """A body with a left and a right hand at its wrists."""
    joints = list(body.joints)
    parents = list(body.parents)
    regions = dict(body.regions)

    # a hand's root hangs on the body's wrist
    for side in ("left", "right"):
        first = len(joints)
        joints += [f"{side} hand {joint}" for joint in hand.joints]
        parents += [body.joints.index(f"{side} wrist"), *(first + parent for parent in hand.parents[1:])]
        regions |= {f"{side}_{finger}": [first + v for v in members] for finger, members in hand.regions.items()}
    return _skeleton(name, ",".join(joints), parents, **regions)


SKELETONS = {s.name: s for s in (
    _skeleton("ntu25",  # Kinect v2, NTU RGB+D (Shahroudy et al., CVPR 2016)
              "spine base, spine mid, neck, head, left shoulder, left elbow, left wrist, left hand, right shoulder, "
              "right elbow, right wrist, right hand, left hip, left knee, left ankle, left foot, right hip, "
              "right knee, right ankle, right foot, spine shoulder, left hand tip, left thumb, right hand tip, "
              "right thumb",
              [1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11],
              left_arm=[4, 5, 6, 7, 21, 22], right_arm=[8, 9, 10, 11, 23, 24], left_leg=[12, 13, 14, 15],
              right_leg=[16, 17, 18, 19], torso=[0, 1, 2, 3, 20]),
    _skeleton("kinect20",  # Kinect v1, Northwestern-UCLA (Wang et al., CVPR 2014)
              "hip centre, spine, shoulder centre, head, left shoulder, left elbow, left wrist, left hand, "
              "right shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, left foot, "
              "right hip, right knee, right ankle, right foot",
              [1, 2, 2, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18],
              left_arm=[4, 5, 6, 7], right_arm=[8, 9, 10, 11], left_leg=[12, 13, 14, 15], right_leg=[16, 17, 18, 19],
              torso=[0, 1, 2, 3]),
    _skeleton("coco17",  # COCO key points (Lin et al., ECCV 2014), rooted at the nose
              "nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, right elbow, "
              "left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, right ankle",
              [0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14],
              left_arm=[5, 7, 9], right_arm=[6, 8, 10], left_leg=[11, 13, 15], right_leg=[12, 14, 16],
              torso=[0, 1, 2, 3, 4]),
    _skeleton("mediapipe33",  # MediaPipe's pose landmarks (BlazePose, arXiv:2006.10204), rooted at the nose
              "nose, left eye inner, left eye, left eye outer, right eye inner, right eye, right eye outer, left ear, "
              "right ear, left mouth, right mouth, left shoulder, right shoulder, left elbow, right elbow, left wrist, "
              "right wrist, left pinky, right pinky, left index, right index, left thumb, right thumb, left hip, "
              "right hip, left knee, right knee, left ankle, right ankle, left heel, right heel, left foot, right foot",
              [0, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25, 26,
               27, 28, 27, 28],
              left_arm=[11, 13, 15, 17, 19, 21], right_arm=[12, 14, 16, 18, 20, 22], left_leg=[23, 25, 27, 29, 31],
              right_leg=[24, 26, 28, 30, 32], torso=[*range(11)]),
    _skeleton("openpose25",  # OpenPose's BODY_25 (Cao et al., TPAMI 2021, arXiv:1812.08008)
              "nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow, left wrist, mid hip, "
              "right hip, right knee, right ankle, left hip, left knee, left ankle, right eye, left eye, right ear, "
              "left ear, left big toe, left small toe, left heel, right big toe, right small toe, right heel",
              [1, 8, 1, 2, 3, 1, 5, 6, 8, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11],
              left_arm=[5, 6, 7], right_arm=[2, 3, 4], left_leg=[12, 13, 14, 19, 20, 21],
              right_leg=[9, 10, 11, 22, 23, 24], torso=[0, 1, 8, 15, 16, 17, 18]),
    _skeleton("openpose18",  # OpenPose's COCO model: Kinetics-Skeleton (Yan et al., AAAI 2018)
              "nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow, left wrist, right hip, "
              "right knee, right ankle, left hip, left knee, left ankle, right eye, left eye, right ear, left ear",
              [1, 1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15],
              left_arm=[5, 6, 7], right_arm=[2, 3, 4], left_leg=[11, 12, 13], right_leg=[8, 9, 10],
              torso=[0, 1, 14, 15, 16, 17]),
    _skeleton("halpe26",  # AlphaPose's Halpe body (Fang et al., TPAMI 2022, arXiv:2211.03375)
              "nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, right elbow, "
              "left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, right ankle, head, "
              "neck, mid hip, left big toe, right big toe, left small toe, right small toe, left heel, right heel",
              [18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, 19, 15, 16, 20, 21, 15, 16],
              left_arm=[5, 7, 9], right_arm=[6, 8, 10], left_leg=[11, 13, 15, 20, 22, 24],
              right_leg=[12, 14, 16, 21, 23, 25], torso=[0, 1, 2, 3, 4, 17, 18, 19]),
    _skeleton("h36m17",  # Human3.6M's 17 joints (Ionescu et al., TPAMI 2014), as most 3-D estimators give them
              "mid hip, right hip, right knee, right ankle, left hip, left knee, left ankle, spine, thorax, neck, "
              "head, left shoulder, left elbow, left wrist, right shoulder, right elbow, right wrist",
              [0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15],
              left_arm=[11, 12, 13], right_arm=[14, 15, 16], left_leg=[4, 5, 6], right_leg=[1, 2, 3],
              torso=[0, 7, 8, 9, 10]),
    _skeleton("azure32",  # Azure Kinect's body tracking (k4abt_joint_id_t)
              "pelvis, spine navel, spine chest, neck, left clavicle, left shoulder, left elbow, left wrist, "
              "left hand, left hand tip, left thumb, right clavicle, right shoulder, right elbow, right wrist, "
              "right hand, right hand tip, right thumb, left hip, left knee, left ankle, left foot, right hip, "
              "right knee, right ankle, right foot, head, nose, left eye, left ear, right eye, right ear",
              [0, 0, 1, 2, 2, 4, 5, 6, 7, 8, 7, 2, 11, 12, 13, 14, 15, 14, 0, 18, 19, 20, 0, 22, 23, 24, 3, 26, 26, 26,
               26, 26],
              left_arm=[*range(4, 11)], right_arm=[*range(11, 18)], left_leg=[18, 19, 20, 21],
              right_leg=[22, 23, 24, 25], torso=[0, 1, 2, 3, *range(26, 32)]),
    _skeleton("smpl24",  # SMPL (Loper et al., SIGGRAPH Asia 2015)
              "pelvis, left hip, right hip, spine1, left knee, right knee, spine2, left ankle, right ankle, spine3, "
              "left foot, right foot, neck, left collar, right collar, head, left shoulder, right shoulder, "
              "left elbow, right elbow, left wrist, right wrist, left hand, right hand",
              [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21],
              left_arm=[13, 16, 18, 20, 22], right_arm=[14, 17, 19, 21, 23], left_leg=[1, 4, 7, 10],
              right_leg=[2, 5, 8, 11], torso=[0, 3, 6, 9, 12, 15]),
    _skeleton("nite15",  # OpenNI's order (XnSkeletonJoint), as in SBU Kinect Interaction (Yun et al., CVPRW 2012)
              "head, neck, torso, left shoulder, left elbow, left hand, right shoulder, right elbow, right hand, "
              "left hip, left knee, left foot, right hip, right knee, right foot",
              [1, 2, 2, 1, 3, 4, 1, 6, 7, 2, 9, 10, 2, 12, 13],
              left_arm=[3, 4, 5], right_arm=[6, 7, 8], left_leg=[9, 10, 11], right_leg=[12, 13, 14], torso=[0, 1, 2]),
    _skeleton("jhmdb15",  # JHMDB's puppet, in 2-D (Jhuang et al., ICCV 2013)
              "neck, belly, head, right shoulder, left shoulder, right hip, left hip, right elbow, left elbow, "
              "right knee, left knee, right wrist, left wrist, right ankle, left ankle",
              [1, 1, 0, 0, 0, 1, 1, 3, 4, 5, 6, 7, 8, 9, 10],
              left_arm=[4, 8, 12], right_arm=[3, 7, 11], left_leg=[6, 10, 14], right_leg=[5, 9, 13], torso=[0, 1, 2]),
    _skeleton("body16",  # what nearly all of these have: the body of a network that has seen many data sets
              "hip centre, spine, neck, head, left shoulder, left elbow, left wrist, left hip, left knee, left ankle, "
              "right shoulder, right elbow, right wrist, right hip, right knee, right ankle",
              [1, 1, 1, 2, 2, 4, 5, 0, 7, 8, 2, 10, 11, 0, 13, 14],
              left_arm=[4, 5, 6], right_arm=[10, 11, 12], left_leg=[7, 8, 9], right_leg=[13, 14, 15],
              torso=[0, 1, 2, 3]),
    _hand("hand21", "wrist"),  # MediaPipe's hand (Zhang et al., arXiv:2006.10214), and OpenPose's
    _hand("shrec22", "wrist", "palm"),  # SHREC'17 and DHG-14/28 (De Smedt et al., 3DOR 2017)
)}

# AMASS and HumanML3D leave out SMPL's hands; MediaPipe Holistic gives both
SMPL = SKELETONS["smpl24"]
SKELETONS["smpl22"] = _skeleton("smpl22", ",".join(SMPL.joints[:22]), SMPL.parents[:22],
                                **{name: [v for v in region if v < 22] for name, region in SMPL.regions.items()})
BODY = SKELETONS["body16"]
KINECT = SKELETONS["kinect20"]  # whose joints UTD-MHAD (Chen et al., ICIP 2015) has from the head down
SKELETONS["utd20"] = _skeleton("utd20", ",".join(KINECT.joints[3::-1] + KINECT.joints[4:]),
                               [1, 2, 3, 3, 1, 4, 5, 6, 1, 8, 9, 10, 3, 12, 13, 14, 3, 16, 17, 18], **KINECT.regions)
SKELETONS["holistic"] = _with_hands("holistic", SKELETONS["mediapipe33"], SKELETONS["hand21"])
RECORDED = tuple(skeleton for skeleton in SKELETONS.values() if skeleton is not BODY)  # sensors and estimators give


# ---------------------------------------------------------------------------------------------------------------------
# 3. Retargeting
# ---------------------------------------------------------------------------------------------------------------------

HIPS = ("left hip", "right hip")
SHOULDERS = ("left shoulder", "right shoulder")
BASE = (("mid hip",), ("pelvis",), HIPS)
MIDDLE = (("spine",), ("spine mid",), ("spine navel",), ("spine2",), ("torso",), ("belly",), SHOULDERS + HIPS)
CHEST = (("thorax",), ("spine shoulder",), ("shoulder centre",), ("left clavicle", "right clavicle"),
         ("left collar", "right collar"), SHOULDERS)
LIMBS = {  # of either side
    "hand": (("pinky", "index"), ("wrist",)), "hand tip": (("index",), ("hand",), ("wrist",)),
    "thumb": (("wrist",), ("hand",)), "wrist": (("hand",),), "foot": (("big toe",), ("ankle",)), "ankle": (("foot",),),
    "big toe": (("foot",),), "small toe": (("foot",),), "heel": (("ankle",),)}

MEANS: dict[str, tuple[tuple[str, ...], ...]] = {  # joint -> joints whose mean can stand for it; twice: counts twice
    "spine base": BASE, "hip centre": BASE, "mid hip": BASE, "hip": BASE, "pelvis": BASE,
    **dict.fromkeys(("spine mid", "spine", "spine navel", "spine2", "torso", "belly"), MIDDLE),
    "spine1": (SHOULDERS + HIPS * 2,), "spine3": (SHOULDERS * 2 + HIPS,), "spine chest": (SHOULDERS * 2 + HIPS,),
    "shoulder centre": CHEST, "spine shoulder": CHEST, "thorax": CHEST,
    "neck": (("shoulder centre",), (*SHOULDERS, "nose"), SHOULDERS),
    "head": (("left ear", "right ear"), ("nose",)),
    **{f"{side} {name}": tuple(tuple(f"{side} {joint}" for joint in joints) for joints in found)
       for side in ("left", "right") for name, found in LIMBS.items()},
    **{f"{side} {name}": ((f"{side} {other}",), (f"{side} shoulder",) * 3 + (f"{twin} shoulder",))
       for side, twin in (("left", "right"), ("right", "left"))
       for name, other in (("collar", "clavicle"), ("clavicle", "collar"))},
    "palm": (("wrist", "middle finger mcp"),),
}


FEWEST = 6  # joints that a body must have to become body16
ALWAYS = {  # joints of body16 that lie elsewhere in every sensor's body: always made of those that all agree on
    "hip centre": (HIPS,), "spine": (SHOULDERS + HIPS,), "neck": (SHOULDERS,)}


def means(source: Sequence[str], target: Sequence[str]) -> list[list[int]] | None:
    """For each joint of `target` the joints of `source` whose mean it is; None if one cannot be had.

    body16 is the body of networks that have seen many, and joints that are missing: it may lack some, which have no
    sources, [], if at least six others can be had. Its trunk is that of the shoulders and hips.
    """
    number = {spelled(joint): v for v, joint in enumerate(source)}
    is_any = tuple(target) == BODY.joints
    found = []
    for joint in map(spelled, target):
        choices = (*(ALWAYS.get(joint, ()) if is_any else ()), (joint,), *MEANS.get(joint, ()))
        names = next((names for names in choices if all(name in number for name in names)), ())
        found.append([number[name] for name in names])

    had = sum(map(bool, found))
    return found if had == len(target) or is_any and had >= FEWEST else None


def retarget_tables(target: Skeleton, sources: Iterable[Skeleton] = RECORDED) -> dict[str, dict]:
    """What an exported file carries: for each of `sources` that can be turned into `target`, its name -> how."""
    found = {}
    for source in sources:
        if list(map(spelled, source.joints)) == list(map(spelled, target.joints)):
            continue
        table = means(source.joints, target.joints)
        if table:
            trunk = [joints[0] for joints in source.trunk] if source.trunk else None
            found[source.name] = {"joints": source.num_joints, "trunk": trunk, "means": table}
    return found


def retargeted(joints: np.ndarray, table: list[list[int]]) -> np.ndarray:
    """Joints (M, T, V, 3) -> (M, T, W, 3): means of those that are seen; a joint without any is missing."""
    seen = joints.any(3)  # m t v
    out = []
    for sources in table:
        count = seen[:, :, sources].sum(2)[..., None]
        out.append(joints[:, :, sources].sum(2) / np.maximum(count, 1))
    return np.stack(out, 2).astype(np.float32)
