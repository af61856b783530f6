"""The clips of a run, analysed and with their flow, told as they are made."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from edge.bundle.network import NetworkSpec
from edge.errors import DataError
from edge.terminal import track
from train.data.cache import CachedClip, ClipCache, Unusable
from train.data.clips import Clip

logger = logging.getLogger(__name__)

SHOWN = 5  # clips that cannot be used, by name; the others are counted


def open_cache(root: Path, spec: NetworkSpec) -> ClipCache:
    return ClipCache(root, spec.geometry, spec.flow)


def fill_cache(store: ClipCache, clips: list[Clip]) -> list[CachedClip]:
    """The clips' cached frames and flow, with a progress bar while they are computed.

    Clips that cannot be used are left out and told. Raises DataError where a class has none left.
    """
    found = store.fill(clips, workers=os.cpu_count() or 1)
    shown = list(track(found, "frames and flow", total=len(clips)))
    usable = [clip for clip in shown if isinstance(clip, CachedClip)]
    unusable = [clip for clip in shown if isinstance(clip, Unusable)]
    if unusable:
        count = f"{len(unusable)} of {len(clips)}"
        logger.warning("%s clips cannot be used and are left out; see: twostream data check", count)
        for one in unusable[:SHOWN]:
            logger.warning("left out: %s", one.reason)
    lost = {one.clip.label for one in unusable} - {clip.clip.label for clip in usable}
    if lost:
        first = next(one for one in unusable if one.clip.label == min(lost))
        raise DataError(f"no clip of {', '.join(sorted(lost))} can be used; {first.reason}")
    return usable
