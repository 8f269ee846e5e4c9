"""Tracks of the bodies that a Kinect numbered -> joints of one or two actors, cleaned as the field does. numpy only."""
from __future__ import annotations

import numpy as np

from phases.recordings.metres import missing_as_zeros

Track = tuple[np.ndarray, np.ndarray]   # frame numbers (F,), joints (F, V, 3); a missing joint is NaN


def clean_bodies(bodies: dict[str, Track], ids: list | None = None) -> np.ndarray:
    """Actors (M, L, V, 3), M = 1 or 2, from the tracks of a clip, cleaned as in CTR-GCN and SGN.

    1. Drop tracks of at most 11 frames.
    2. Drop tracks with at least a share of 0.69754 implausible frames: frames wider than 0.8 times their height.
       Both rules keep the track with the most motion if they would drop all.
    3. Order the tracks by motion, the sum of the variances of x, y and z, the largest first.
    4. Each track joins the first of at most two actors with which it shares no frame, or is dropped.
    5. Drop the frames without an actor.

    A joint that is missing in the tracks, NaN, counts in no rule, and is 0, 0, 0 in the actors. ids: the body id of
    each actor's first track is appended. ValueError for a clip without a body.
    """
    tracks = sorted(bodies.values(), key=motion, reverse=True)
    if not tracks:
        raise ValueError("no body in any frame")
    for is_good in (is_long, is_plausible):
        if len(tracks) > 1:
            tracks = [track for track in tracks if is_good(track)] or tracks[:1]
    actors = actors_of(tracks)
    if ids is not None:
        number = {id(track): name for name, track in bodies.items()}
        ids += [number[id(actor[0])] for actor in actors]

    # the frames that show an actor
    seen = np.unique(np.concatenate([frames for actor in actors for frames, _ in actor]))
    joints = np.zeros((len(actors), len(seen), *tracks[0][1].shape[1:]), np.float32)
    for m, actor in enumerate(actors):
        for frames, xyz in actor:
            joints[m, np.searchsorted(seen, frames)] = xyz
    return missing_as_zeros(joints)


def motion(track: Track) -> float:
    _, joints = track
    points = joints.reshape(-1, 3)
    missing = np.isnan(points[:, 0])
    return (points[~missing] if missing.any() else points).var(0).sum()


def is_long(track: Track) -> bool:
    frames, _ = track
    return len(frames) > 11


def is_plausible(track: Track) -> bool:
    """Whether a body is a standing person in most frames, not a wide piece of furniture."""
    _, joints = track
    extent = np.nanmax(joints, axis=1) - np.nanmin(joints, axis=1)  # f 3
    return (extent[:, 0] > 0.8 * extent[:, 1]).mean() < 0.69754


def actors_of(tracks: list[Track]) -> list[list[Track]]:
    """The tracks of each of at most two actors; the camera may lose a body and find it under another number."""
    actors: list[list[Track]] = []
    for track in tracks:
        absent = [actor for actor in actors if not np.isin(track[0], np.concatenate([t[0] for t in actor])).any()]
        if absent:
            absent[0].append(track)
        elif len(actors) < 2:
            actors.append([track])
    return actors
