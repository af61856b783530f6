"""How much room a cache of clips will take, and the form in which it fits."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge.errors import DataError, SourceError
from edge.video.clip import open_clip
from edge.video.isolation import map_apart
from train.data.clips import Clip

logger = logging.getLogger(__name__)

_OPENED = 64  # clips whose length is read; the others are taken to be as long
_ROOM_LOGGED = 10**9  # bytes from which on the need of room is logged
_ROOM_TAKEN = 0.5  # of what is free, beyond which frames and flow are compressed
# What is left of them when compressed, on clips of UCF101 at 224 px (docs/figures.md). Of smaller
# frames more is left, 0.56 at 96 px; there are few bytes of them.
_FRAMES_LEFT, _FLOW_LEFT = 0.40, 0.18


@dataclass(frozen=True, slots=True)
class Room:
    """About how many bytes frames and flow will take."""

    frames: int
    flow: int

    @property
    def plain(self) -> int:
        return self.frames + self.flow

    @property
    def compressed(self) -> int:
        return round(self.frames * _FRAMES_LEFT + self.flow * _FLOW_LEFT)


def needs_compression(folder: Path, room: Room) -> bool:
    """Whether what a cache in `folder` will hold is to be compressed, since it would take much of
    the room that is free. Raises DataError if it does not fit even so."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    needed = _size(room.compressed)
    if room.compressed > free:
        raise DataError(
            f"{folder}: the frames and flow of these clips need about {needed}, compressed, "
            f"{_size(free)} are free; give another --cache, or train on fewer --classes"
        )
    compress = room.plain > _ROOM_TAKEN * free
    if compress:
        logger.info(
            "frames and flow would take about %s of %s that are free in %s: they are "
            "compressed without loss, to about %s, and take longer to read",
            _size(room.plain),
            _size(free),
            folder,
            needed,
        )
    elif room.plain >= _ROOM_LOGGED:
        logger.info(
            "frames and flow will take about %s in %s, where %s are free",
            _size(room.plain),
            folder,
            _size(free),
        )
    return compress


def _size(count: int) -> str:
    """So many bytes, in the unit that shows them best."""
    if count >= 100e9:
        return f"{count / 1e9:.0f} GB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{math.ceil(count / 1e6)} MB"


def expected_frames(clips: Sequence[Clip], interval_s: float, workers: int) -> int:
    """About how many frames the clips have that an input with `interval_s` between its frames can
    use; containers say how long they are, and may be wrong."""
    if not clips:
        return 0
    step = math.ceil(len(clips) / _OPENED)
    opened = clips[::step]
    counts = map_apart(partial(_count, interval_s=interval_s), opened, workers)
    known = [count for count in counts if isinstance(count, int)]
    return round(sum(known) / max(len(known), 1) * len(clips))


def _count(clip: Clip, interval_s: float) -> int:
    """The frames of a clip that are far enough apart; 0 if it cannot be read, which is said when it
    is decoded, or does not say how long it is."""
    try:
        with open_clip(clip.path, quiet=True) as frames:
            count, rate = frames.expected_frames or 0, frames.frame_rate
    except (SourceError, OSError):
        return 0
    return count if rate is None else min(count, math.ceil(count / rate / interval_s))
