"""Flow of motion vectors in the cache: that of a run, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.motion.codec import CODEC
from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from edge.sources.source import open_source
from tests.support.av_clips import write_video
from tests.support.moving import write_drift
from train.data.cache import CachedClip, ClipCache, Unusable, flow_file
from train.data.clips import Clip
from train.streams import training_view

VIEW = training_view((64, 64))


def cached(path: Path, root: Path) -> CachedClip | Unusable:
    store = ClipCache(root, VIEW, CODEC.interval_s, (CODEC, PRESETS["fast"]))
    (clip,) = store.fill([Clip("a", path, "a", "1")], 1, 3)
    return clip


@pytest.mark.slow
@pytest.mark.parametrize("times", [None, [0, 1, 2, 4, 5, 6, 18, 19, 20, 21]])
def test_cached_flow_is_that_of_a_run(times: list[int] | None, tmp_path: Path) -> None:
    path = write_drift(tmp_path / "clip.mp4", b_frames=2, frames=12, times=times)
    clip = cached(path, tmp_path / "cache")
    assert isinstance(clip, CachedClip)
    preprocessor = Preprocessor(VIEW, [CODEC])
    with open_source(str(path), vectors=True) as source:
        steps = [preprocessor.push(frame) for frame in source]
    assert len(clip) == len(steps)
    for index, step in enumerate(steps[1:], 1):
        flow = clip.steps(index, 1)[0].flows[CODEC]
        np.testing.assert_array_equal(step.flows[CODEC], flow)
    assert flow_file(CODEC) != flow_file(PRESETS["fast"])


@pytest.mark.slow
def test_a_clip_without_vectors_is_left_out_with_the_reason(tmp_path: Path) -> None:
    clip = cached(write_video(tmp_path / "clip.mkv", codec="libx265"), tmp_path / "cache")
    assert isinstance(clip, Unusable)
    assert "hevc, gives no motion vectors" in clip.reason
