"""The puppet's actions as data: poses, and the moves that lead from one to the next."""
from __future__ import annotations

import numpy as np

# A pose has eight rows of three numbers.
#     ROOT, FOOT, FOOT2   pelvis and ankles, from their place at rest, in leg lengths: out to their side, up, forward
#     HAND, HAND2         wrists, from their shoulder, in arm lengths: out to their side, up, forward
#     HIPS, CHEST, HEAD   radians: bow forward, turn, tilt to the side of HAND
# HAND and FOOT are on the right; left-handers are mirrored.
ROOT, HIPS, CHEST, HEAD, HAND, HAND2, FOOT, FOOT2 = range(8)
REST = np.zeros((8, 3))
REST[HAND] = REST[HAND2] = 0.16, -0.93, 0.08
SEAT = (0, -0.46, -0.5)
LAP = (-0.02, -0.62, 0.48)

# HAND2 while HAND acts: it hangs (in three of five clips), is on the hip, or in front of the belly.
IDLE = ((0, 0, 0), (0, 0, 0), (0, 0, 0), (-0.05, 0.2, 0.12), (-0.5, 0.42, 0.25))
STAY = (2, 2)  # a move with these last two times stays until the end

# A move pulls a part to a pose: (part, pose, start, arrival, release, end), times as shares of the clip. A seventh
# entry makes it a swing: the part oscillates about its place, that many times between start and end.
DRINK = [
    (HAND, (-0.32, 0.06, 0.31), .08, .38, .66, .92), (HEAD, (-0.3, 0, 0), .36, .48, .6, .72)]
PICK_UP = [
    (HIPS, (0.95, 0, 0), .08, .45, .55, .92), (CHEST, (0.75, 0, 0), .08, .45, .55, .92),
    (ROOT, (0, -0.52, -0.25), .08, .45, .55, .92), (HEAD, (-0.3, 0, 0), .1, .4, .55, .9),
    (HAND, (-0.15, -0.1, 0.98), .12, .43, .55, .9), (HAND2, (0, -0.45, 0.6), .12, .43, .55, .9)]
THROW = [
    (HAND, (0.42, 0.45, -0.3), .08, .36, .42, .5), (CHEST, (-0.1, 0.5, 0.1), .08, .36, .42, .52),
    (HAND2, (-0.05, -0.25, 0.7), .1, .36, .42, .6), (FOOT2, (0, 0, 0.4), .3, .46, *STAY),
    (FOOT2, (0, 0.12, 0.25), .28, .38, .4, .47), (ROOT, (0, -0.04, 0.25), .32, .5, *STAY),
    (CHEST, (0.3, -0.5, 0), .42, .54, .62, .9), (HAND, (-0.15, 0.1, 0.97), .44, .53, .56, .75)]
SIT_DOWN = [
    (ROOT, SEAT, .12, .72, *STAY), (HIPS, (0.75, 0, 0), .1, .42, .48, .85),
    (HAND, LAP, .2, .75, *STAY), (HAND2, LAP, .2, .75, *STAY)]
STAND_UP = [
    (ROOT, SEAT, -2, -1, .22, .82), (HIPS, (0.8, 0, 0), .06, .34, .42, .8),
    (HAND, LAP, -2, -1, .25, .8), (HAND2, LAP, -2, -1, .25, .8)]
CLAP = [
    (HAND, (-0.12, -0.22, 0.58), .04, .2, .82, .98), (HAND, (0.2, 0, 0), .12, .24, .78, .9, 5),
    (HAND2, (-0.12, -0.22, 0.58), .04, .2, .82, .98), (HAND2, (0.2, 0, 0), .12, .24, .78, .9, 5)]
WAVE = [
    (HAND, (0.28, 0.72, 0.22), .05, .26, .78, .96), (HAND, (0.36, -0.1, 0), .18, .3, .74, .86, 4),
    (CHEST, (0, 0, -0.06), .05, .26, .78, .96)]
KICK = [
    (FOOT, (0.02, 0.16, -0.4), .15, .34, .38, .46), (FOOT, (-0.05, 0.42, 0.85), .4, .52, .56, .8),
    (HIPS, (-0.2, 0, 0), .4, .52, .58, .8), (HIPS, (0.15, 0, 0), .12, .32, .36, .46),
    (ROOT, (-0.08, -0.01, 0), .1, .25, .75, .95), (HAND2, (0.3, -0.55, 0.55), .36, .52, .58, .85),
    (HAND, (0.4, -0.7, -0.35), .36, .52, .58, .85)]
JUMP = [
    (ROOT, (0, -0.26, -0.08), .06, .3, .36, .44), (HIPS, (0.45, 0, 0), .06, .3, .36, .44),
    (ROOT, (0, 0.36, 0), .4, .53, .55, .68),
    (FOOT, (0, 0.34, -0.03), .42, .53, .55, .66), (FOOT2, (0, 0.34, -0.03), .42, .53, .55, .66),
    (ROOT, (0, -0.2, -0.06), .66, .73, .76, .95), (HIPS, (0.35, 0, 0), .66, .73, .76, .95),
    (HAND, (0.25, -0.8, -0.42), .06, .28, .34, .44), (HAND2, (0.25, -0.8, -0.42), .06, .28, .34, .44),
    (HAND, (0.2, 0.3, 0.75), .4, .52, .58, .8), (HAND2, (0.2, 0.3, 0.75), .4, .52, .58, .8)]
SHAKE = [
    (HAND, (-0.33, -0.38, 0.68), .08, .34, .78, .97), (HAND, (0, 0.12, 0), .32, .4, .72, .8, 4),
    (HIPS, (0.12, 0, 0), .08, .34, .78, .97)]
HUG = [
    (ROOT, (0, 0, 0.42), .12, .42, *STAY), (FOOT, (0, 0, 0.42), .1, .28, *STAY),
    (FOOT, (0, 0.12, 0.2), .1, .18, .2, .29), (HIPS, (0.12, 0, 0), .3, .5, .9, 1),
    (FOOT2, (0, 0, 0.36), .28, .46, *STAY), (FOOT2, (0, 0.12, 0.2), .28, .36, .38, .47),
    (HAND, (0.35, -0.1, 0.8), .1, .32, .36, .55), (HAND2, (0.35, -0.1, 0.8), .1, .32, .36, .55),
    (HAND, (-0.42, -0.12, 0.75), .4, .58, .85, 1.1), (HAND2, (-0.42, -0.4, 0.72), .4, .58, .85, 1.1)]
PUSH = [
    (HAND, (0.1, -0.22, 0.4), .06, .28, .34, .46), (HAND2, (0.1, -0.22, 0.4), .06, .28, .34, .46),
    (HAND, (-0.1, -0.02, 0.97), .36, .47, .53, .78), (HAND2, (-0.1, -0.02, 0.97), .36, .47, .53, .78),
    (FOOT2, (0, 0, 0.35), .26, .44, *STAY), (FOOT2, (0, 0.1, 0.2), .26, .34, .36, .45),
    (ROOT, (0, -0.05, 0.25), .3, .48, *STAY), (HIPS, (0.2, 0, 0), .34, .47, .55, .85)]
PUSHED = [
    (HIPS, (-0.25, 0, 0), .44, .56, .6, .85), (HEAD, (0.3, 0, 0), .44, .52, .56, .7),
    (ROOT, (0, -0.05, -0.45), .45, .66, *STAY),
    (FOOT2, (0, 0, -0.55), .46, .6, *STAY), (FOOT2, (0, 0.12, -0.3), .46, .52, .54, .61),
    (FOOT, (0, 0, -0.36), .6, .74, *STAY), (FOOT, (0, 0.1, -0.2), .6, .66, .68, .75),
    (HAND, (0.35, -0.35, 0.55), .44, .56, .62, .85), (HAND2, (0.35, -0.35, 0.55), .44, .56, .62, .85)]
SYNTHETIC = {  # name: (moves, moves of the other person or None, metres between the two)
    "drink water": (DRINK, None, 0), "pick up": (PICK_UP, None, 0), "throw": (THROW, None, 0),
    "sit down": (SIT_DOWN, None, 0), "stand up": (STAND_UP, None, 0), "clapping": (CLAP, None, 0),
    "hand waving": (WAVE, None, 0), "kicking something": (KICK, None, 0), "jump up": (JUMP, None, 0),
    "shaking hands": (SHAKE, SHAKE, 0.86), "hugging": (HUG, HUG, 1.0), "pushing": (PUSH, PUSHED, 0.95)}
SYNTHETIC_ACTIONS = tuple(SYNTHETIC)
