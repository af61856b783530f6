"""The clips of a run, analysed and with their flow, told as they are made."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.progress import track

from edge.errors import DataError
from edge.network import NetworkSpec
from train.cache import CachedClip, ClipCache, Unusable
from train.clips import Clip

SHOWN = 5  # clips that cannot be used, by name; the others are counted


def open_cache(root: Path, spec: NetworkSpec) -> ClipCache:
    return ClipCache(root, spec.geometry, spec.flow)


def fill_cache(store: ClipCache, clips: list[Clip], console: Console) -> list[CachedClip]:
    """The clips' cached frames and flow, with a progress bar while they are computed.

    Clips that cannot be used are left out and told. Raises DataError where a class has none left.
    """
    found = store.fill(clips, workers=os.cpu_count() or 1)
    shown = list(track(found, "frames and flow", total=len(clips), console=console, transient=True))
    usable = [clip for clip in shown if isinstance(clip, CachedClip)]
    unusable = [clip for clip in shown if isinstance(clip, Unusable)]
    if unusable:
        console.print(f"{len(unusable)} of {len(clips)} clips cannot be used and are left out:")
        for one in unusable[:SHOWN]:
            console.print(f"  {one.reason}", markup=False)
        if len(unusable) > SHOWN:
            console.print(f"  and {len(unusable) - SHOWN} more; see: twostream data check")
    lost = {one.clip.label for one in unusable} - {clip.clip.label for clip in usable}
    if lost:
        first = next(one for one in unusable if one.clip.label == min(lost))
        raise DataError(f"no clip of {', '.join(sorted(lost))} can be used; {first.reason}")
    return usable
