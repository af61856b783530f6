"""Turns and mirrors frames: cameras that hang upside down, phones held on their side."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2

from edge.video.frames import Frame, Plane
from edge.video.motion_vectors import MotionVectors

_TURNS = {
    1: cv2.ROTATE_90_CLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
_LEFT_RIGHT = 1  # cv2.flip's code


class Orientation(NamedTuple):
    """What is done to a picture: one of the eight symmetries of a rectangle.

    quarter_turns: clockwise, 0..3. mirrored: left and right are swapped before the turns.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    def then(self, after: Orientation) -> Orientation:
        """The orientation that does this one first and `after` next."""
        # a mirror reverses the sense of the turns before it
        turns = -self.quarter_turns if after.mirrored else self.quarter_turns
        return Orientation((turns + after.quarter_turns) % 4, self.mirrored != after.mirrored)


UPRIGHT = Orientation()
FLIPPED_HORIZONTALLY = Orientation(0, True)
FLIPPED_VERTICALLY = Orientation(2, True)


def turn(frame: Frame, orientation: Orientation) -> Frame:
    """The frame in another orientation, with contiguous planes; `frame` itself for UPRIGHT.

    Quarter turns swap the sides of the picture and of its pixels. At an odd side the chroma of the
    turned picture is shifted by up to a pixel, since its samples lie on every other pixel.
    """
    if orientation == UPRIGHT:
        return frame

    def turned(plane: Plane) -> Plane:
        if orientation.mirrored:
            plane = cv2.flip(plane, _LEFT_RIGHT)  # type: ignore[assignment]
        if orientation.quarter_turns:
            plane = cv2.rotate(plane, _TURNS[orientation.quarter_turns])  # type: ignore[assignment]
        return plane

    width, height = frame.pixel_aspect
    aspect = (height, width) if orientation.quarter_turns % 2 else (width, height)
    y, u, v = turned(frame.y), turned(frame.u), turned(frame.v)
    return replace(
        frame, y=y, u=u, v=v, pixel_aspect=aspect, vectors=_turned_vectors(frame, orientation)
    )


def _turned_vectors(frame: Frame, orientation: Orientation) -> MotionVectors | None:
    vectors, (height, width) = frame.vectors, frame.size_hw
    if vectors is None:
        return None
    if orientation.mirrored:
        vectors = vectors.mirrored(width)
    for _ in range(orientation.quarter_turns):
        vectors = vectors.turned_clockwise(height)
        height, width = width, height
    return vectors
