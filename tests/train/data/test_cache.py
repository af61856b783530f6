"""The cache of resized clips gives each clip its own frames."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge.motion.spec import PRESETS
from edge.video.frames import Geometry
from tests.support.clips import write_clip
from train.data.cache import ClipCache
from train.data.clips import Clip

GEOMETRY = Geometry(aspect=(4, 3), size_hw=(32, 32), interpolation="area")


@pytest.mark.slow
def test_clips_come_in_their_order_while_workers_are_ahead(tmp_path: Path) -> None:
    """Once, clips that a worker had finished early shifted all that came after them."""
    lengths = [12, 15, 1500, 18]  # the third is not ready when the second has long been
    clips = [
        Clip(f"A/{n}.avi", write_clip(tmp_path / f"{n}.avi", frames=n, size_hw=(48, 64)), "A", "1")
        for n in lengths
    ]
    store = ClipCache(tmp_path / "cache", GEOMETRY, PRESETS["fast"])
    list(store.fill(clips[3:], 1))
    found = []
    for cached in store.fill(clips, 2):
        found.append(cached)
        time.sleep(0.2 if len(found) == 1 else 0.0)
    assert [cached.clip for cached in found] == clips
    assert [len(cached) for cached in found] == lengths
    assert len({cached.sha256 for cached in found}) == len(lengths)
