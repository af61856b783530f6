"""Generated videos: a drawn figure that waves, jumps or stands. They show nobody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.outputs.video_writer import VideoWriter

SIZE_HW = 240, 320
RATE = 25.0  # frames a second
MOTIONS = ("wave", "jump", "rest")

Picture = NDArray[np.uint8]  # (H, W, 3), BGR
Colour = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Scene:
    """What differs from video to video. room: the empty picture. x_px, floor_px: where the figure
    stands. height_px: of the figure. step: radians of its motion a frame, from `phase` on."""

    room: Picture
    x_px: float
    floor_px: float
    height_px: float
    shirt: Colour
    trousers: Colour
    step: float
    phase: float


def write_generated(path: Path, motions: Sequence[str], seconds: float, seed: int) -> None:
    """Write a video in which a figure makes each of some MOTIONS for so long, one after another.

    seed: of colours, place, size and speed. Raises OutputError if it cannot be written.
    """
    scene = _scene(np.random.default_rng(seed))
    frames = round(seconds * RATE)
    with VideoWriter(path, SIZE_HW, RATE) as writer:
        for index in range(frames * len(motions)):
            angle = scene.phase + index * scene.step
            writer.write(_draw(scene, motions[index // frames], angle), index / RATE)
        writer.finish()


def _scene(rng: np.random.Generator) -> _Scene:
    height, width = SIZE_HW
    noise = rng.normal(0, 1, (height // 8, width // 8, 3))
    wall = rng.uniform(110, 190, 3) + 14 * cv2.resize(noise, (width, height))
    wall[height * 3 // 4 :] *= 0.7  # the floor
    room = np.clip(wall, 0, 255).astype(np.uint8)
    shirt, trousers = (tuple(map(int, rng.integers(20, 230, 3))) for _ in range(2))
    return _Scene(
        room,
        width / 2 + rng.uniform(-50, 50),
        height * rng.uniform(0.86, 0.95),
        height * rng.uniform(0.55, 0.65),
        shirt,
        trousers,
        rng.uniform(0.3, 0.45),
        rng.uniform(0, 6),
    )


def _draw(scene: _Scene, motion: str, angle: float) -> Picture:
    """The figure at this angle (radians) of its motion."""
    size, swing = scene.height_px, math.sin(angle)
    up_px = 0.3 * size * max(swing, 0.0) if motion == "jump" else 0.0
    x, foot = scene.x_px + 0.01 * size * math.sin(angle / 5), scene.floor_px - up_px
    hip, neck = foot - 0.45 * size, foot - 0.82 * size
    arms = [math.radians(-70), math.radians(-70)]  # above the horizontal
    if motion == "wave":
        arms[1] = math.radians(45 + 35 * swing)
    picture = scene.room.copy()
    thick = max(round(0.09 * size), 3)
    for side in (-1, 1):
        _line(picture, (x, hip), (x + side * 0.1 * size, foot), scene.trousers, thick)
    for side, arm in zip((-1, 1), arms, strict=True):
        shoulder = x + side * 0.09 * size, neck + 0.05 * size
        hand = (
            shoulder[0] + side * 0.36 * size * math.cos(arm),
            shoulder[1] - 0.36 * size * math.sin(arm),
        )
        _line(picture, shoulder, hand, scene.shirt, round(0.7 * thick))
    _line(picture, (x, neck + 0.06 * size), (x, hip), scene.shirt, 2 * thick)
    head = _fixed((x, foot - 0.91 * size))
    cv2.circle(picture, head, round(0.08 * size * 16), (150, 180, 220), -1, cv2.LINE_AA, 4)
    return picture


def _line(
    picture: Picture,
    begin: tuple[float, float],
    end: tuple[float, float],
    colour: Colour,
    thick: int,
) -> None:
    cv2.line(picture, _fixed(begin), _fixed(end), colour, thick, cv2.LINE_AA, 4)


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    """A point (x, y) in sixteenths of a pixel, so that slow motion is smooth."""
    return round(point[0] * 16), round(point[1] * 16)
