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

from edge.compiled import Kernel
from edge.video.coded_picture import CodedPicture, coded_picture
from edge.video.motion_vectors import MotionVectors, no_vectors

# As PyAV gives them.
AV_MOTION_VECTOR = np.dtype(
    [
        *[("source", np.int32), ("w", np.uint8), ("h", np.uint8)],
        *[(name, np.int16) for name in ("src_x", "src_y", "dst_x", "dst_y")],
        *[("flags", np.uint64), ("motion_x", np.int32), ("motion_y", np.int32)],
        ("motion_scale", np.uint16),
    ],
    align=True,
)
_velocities = Kernel(
    "edge.video.vectors_kernel",
    "velocities",
    *("int32[2]", "int16[2]", "uint8[2]", "float64", "float64"),
    *("uint8[2]!", "float32[2]!", "float32[2]!", "int64[1]!"),
)
_HELD_MAX = 17  # pictures; H.264 keeps 16 at most that others may refer to


class VectorReader:
    """Gives the pictures of one stream their motion vectors.

    A B picture waits for the picture that it refers to, which was decoded before and is shown after
    it; all others are passed on at once.
    """

    def __init__(self) -> None:
        _velocities.load()  # not while a camera waits
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
    if raw.dtype != AV_MOTION_VECTOR:
        raise ValueError(f"FFmpeg's motion vectors are laid out in another way: {raw.dtype}")

    def per_px(reference: CodedPicture | None) -> float:
        # negative for an earlier one: the vector leads back in time
        return 0.0 if reference is None else 1 / (reference.time_s - picture.time_s)

    count, raw = len(raw), np.ascontiguousarray(raw)
    size_hw = picture.picture.height, picture.picture.width
    seen = np.zeros((size_hw[0] + 1, size_hw[1] + 1), np.uint8)
    boxes, velocities = np.empty((count, 4), np.float32), np.empty((count, 2), np.float32)
    found = np.zeros(2, np.int64)
    _velocities(
        *(raw.view(dtype).reshape(count, -1) for dtype in (np.int32, np.int16, np.uint8)),
        *(per_px(earlier), per_px(later)),
        *(seen, boxes, velocities, found),
    )
    coverage = min(int(found[1]) / (size_hw[0] * size_hw[1]), 1.0)
    return MotionVectors(boxes[: found[0]], velocities[: found[0]], coverage)
