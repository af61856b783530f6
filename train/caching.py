"""The clips of a run, analysed and with their flow, told as they are made."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.progress import track

from edge.errors import DataError
from edge.network import NetworkSpec
from train.cache import CachedClip, ClipCache
from train.clips import Clip
from train.samples import STACK


def open_cache(root: Path, spec: NetworkSpec) -> ClipCache:
    return ClipCache(root, spec.geometry, spec.flow)


def fill_cache(store: ClipCache, clips: list[Clip], console: Console) -> list[CachedClip]:
    """The clips' cached frames and flow, with a progress bar while they are computed.

    Raises DataError where a clip is too short for one stack.
    """
    found = store.fill(clips, workers=os.cpu_count() or 1)
    shown = track(found, "frames and flow", total=len(clips), console=console, transient=True)
    cached = list(shown)
    for clip in cached:
        if len(clip) <= STACK:
            raise DataError(
                f"{clip.clip.path}: {len(clip)} frames; a stack of {STACK} flows needs "
                f"{STACK + 1}; take it out of the lists"
            )
    return cached
