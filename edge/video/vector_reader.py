"""From the motion vectors that a decoder exports to velocities.

A vector leads from a block to the same content in a picture that was decoded before: one shown
earlier or, of a B picture, later. Divided by the time between both it is a velocity, from which the
flow of any interval follows, whatever the kind of the picture, and whichever pictures are skipped.

The decoder says "earlier" or "later", not which picture. The one that is shown nearest is taken, of
those that were decoded before and that others may refer to. That is right for MPEG-1, 2 and 4;
H.264 may refer to pictures further away, whose vectors then count as faster than they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.video.coded_picture import CodedPicture, coded_picture
from edge.video.motion_vectors import MotionVectors, no_vectors

_HELD_MAX = 17  # pictures; H.264 keeps 16 at most that others may refer to


class VectorReader:
    """Gives the pictures of one stream their motion vectors.

    A B picture waits for the picture that it refers to, which was decoded before and is shown after
    it; all others are passed on at once.
    """

    def __init__(self) -> None:
        self._waiting: deque[CodedPicture] = deque()
        self._references: deque[CodedPicture] = deque(maxlen=_HELD_MAX)  # that were passed on
        self._last = no_vectors()

    def push(self, picture: Any, time_s: float) -> Iterator[tuple[Any, float, MotionVectors]]:
        """Add the next picture as it is shown, an av.VideoFrame decoded with `export_vectors`.

        Yields the pictures that are complete, with their times and vectors. Times must rise.
        """
        self._waiting.append(coded_picture(picture, time_s))
        while self._waiting and self._is_complete(self._waiting[0]):
            yield self._next()

    def flush(self) -> Iterator[tuple[Any, float, MotionVectors]]:
        """The pictures that still wait, at the end of the stream."""
        while self._waiting:
            yield self._next()

    def _is_complete(self, first: CodedPicture) -> bool:
        needs_later = first.looks_ahead or first.are_lost
        full = len(self._waiting) >= _HELD_MAX
        return not needs_later or full or self._later(first) is not None

    def _next(self) -> tuple[Any, float, MotionVectors]:
        first = self._waiting[0]
        vectors = self._vectors(first)
        self._waiting.popleft()
        if first.is_reference:
            # without its planes, which the decoder needs again
            self._references.append(replace(first, picture=None, vectors=None))
        self._last = vectors
        return first.picture, first.time_s, vectors

    def _vectors(self, first: CodedPicture) -> MotionVectors:
        """Of the picture itself, or else of one that spans the same time, or else of the last."""
        earlier, later = self._earlier(first), self._later(first)
        own = velocities_of(first, earlier, later)
        if own is not None:
            return own
        other = None
        if first.are_lost and later is not None:
            other = velocities_of(later, self._earlier(later), None)
        return replace(other or self._last, coverage=0.0, repeated=True)

    def _later(self, first: CodedPicture) -> CodedPicture | None:
        """The nearest reference of a picture among those shown after it."""
        later = (one for one in self._waiting if one.is_reference and one.place < first.place)
        return next(later, None)

    def _earlier(self, first: CodedPicture) -> CodedPicture | None:
        """The nearest reference of a picture among those that were passed on."""
        return next((one for one in reversed(self._references) if one.place < first.place), None)


def velocities_of(
    picture: CodedPicture, earlier: CodedPicture | None, later: CodedPicture | None
) -> MotionVectors | None:
    """The velocities of a picture's blocks; None if it has no vectors.

    earlier, later: the pictures that its vectors refer to, as shown; vectors to one that is not
    known are left out.
    """
    raw = picture.vectors
    if raw is None or not len(raw):
        return None
    per_px = np.zeros(len(raw))  # px per second of a vector of one px
    for reference, side in ((earlier, raw["source"] < 0), (later, raw["source"] > 0)):
        if reference is not None:
            # negative for an earlier one: the vector leads back in time
            per_px[side] = 1 / (reference.time_s - picture.time_s)
    raw, per_px = raw[per_px != 0], per_px[per_px != 0]
    motion = np.stack([raw["motion_x"], raw["motion_y"]], axis=1)  # (N, 2)
    velocities = motion * (per_px / raw["motion_scale"])[:, None]
    boxes = boxes_of(raw)
    size_hw = picture.picture.height, picture.picture.width
    return MotionVectors(boxes, velocities.astype(np.float32), coverage_of(boxes, size_hw))


def boxes_of(raw: NDArray[Any]) -> NDArray[np.float32]:
    """The blocks (N, 4) of FFmpeg's vectors, whose positions are those of the centres."""
    x, y = raw["dst_x"].astype(np.float32), raw["dst_y"].astype(np.float32)
    half_w, half_h = raw["w"] / np.float32(2), raw["h"] / np.float32(2)
    return np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=1)


def coverage_of(boxes: NDArray[np.float32], size_hw: tuple[int, int]) -> float:
    """The share of a picture in these blocks (N, 4); one with two vectors is there twice."""
    height, width = size_hw
    # two blocks with one centre are one block; one number for each sorts faster than rows
    key = (boxes[:, 0] + boxes[:, 2]).astype(np.float64) * (1 << 20) + boxes[:, 1] + boxes[:, 3]
    _, first = np.unique(key, return_index=True)
    left, top, right, bottom = boxes[first].T
    inside_w = np.maximum(np.minimum(right, width) - np.maximum(left, 0), 0)
    inside_h = np.maximum(np.minimum(bottom, height) - np.maximum(top, 0), 0)
    return min(float(inside_w @ inside_h) / (height * width), 1.0)
