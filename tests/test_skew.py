"""One clip through training, calibration and the runtime: the same tensors, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.samples import draw_samples
from edge.bundle.network import NetworkSpec
from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from edge.motion.stack import FlowRing, stack_tensor
from edge.sources.gst_source import open_source
from edge.video.frames import rgb_tensor
from tests.support.clips import write_clip
from train.data.cache import ClipCache
from train.data.clips import Clip
from train.data.decode import read_frames
from train.data.snippets import tensor_at
from train.models.spec import network_spec


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A made clip where UCF101 has its own: <videos>/Diving/v_Diving_g08_c01.avi."""
    path = tmp_path_factory.mktemp("videos") / "Diving" / "v_Diving_g08_c01.avi"
    path.parent.mkdir()
    # H.264 is decoded to the bit; MPEG-4 leaves the rounding to each release of FFmpeg
    write_clip(path, frames=36, rate="30000/1001", codec="h264")
    return Clip("Diving/v_Diving_g08_c01.avi", path, "Diving", "08")


def spec_of(stream: str, clip: Clip) -> NetworkSpec:
    classes = ("Diving", "Drumming")
    return network_spec(stream, classes, PRESETS["fast"], 1, [clip], [])  # type: ignore[arg-type]


def runtime_tensors(clip: Clip, spec: NetworkSpec) -> list[np.ndarray | None]:
    """What the live path can feed the network at every frame; None before a stack is full."""
    preprocessor, ring = Preprocessor(spec.geometry, spec.flow), FlowRing(spec.stack or 10)
    tensors: list[np.ndarray | None] = []
    with open_source(str(clip.path)) as source:
        for frame in source:
            step = preprocessor.push(frame)
            if step.flow is not None:
                ring.push(step.flow)
            if spec.layout is None:
                tensors.append(rgb_tensor(step.frame, spec.normalisation))
            elif len(ring) < ring.length:
                tensors.append(None)
            else:
                tensors.append(stack_tensor(ring.flows, spec.layout, spec.normalisation))
    return tensors


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_training_and_runtime_feed_the_same_tensors(
    stream: str, clip: Clip, tmp_path: Path
) -> None:
    spec = spec_of(stream, clip)
    live = runtime_tensors(clip, spec)
    assert len(live) == 36
    for _ in range(2):  # as it is computed, and as it comes back from the disk
        (cached,) = ClipCache(tmp_path, spec.geometry, spec.flow).fill([clip], 1)
        assert len(cached) == 36
        for index in range(10, 36):
            np.testing.assert_array_equal(tensor_at(cached, index, spec), live[index])


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_calibration_feeds_tensors_that_the_runtime_would(
    stream: str, clip: Clip, tmp_path: Path
) -> None:
    spec = spec_of(stream, clip)
    live = {t.tobytes() for t in runtime_tensors(clip, spec) if t is not None}
    samples = draw_samples(spec, [clip], 1, 1, tmp_path)
    assert len(samples) > 0
    assert {tensor.tobytes() for tensor in samples} <= live


def test_both_decoders_agree_on_planes_and_times(clip: Clip) -> None:
    with open_source(str(clip.path)) as source:
        live = [(f.y.copy(), f.u.copy(), f.v.copy(), f.time_s, f.matrix) for f in source]
    trained = list(read_frames(clip.path))
    assert len(live) == len(trained) > 10
    for (y, u, v, time_s, matrix), frame in zip(live, trained, strict=True):
        np.testing.assert_array_equal(y, frame.y)
        np.testing.assert_array_equal(u, frame.u)
        np.testing.assert_array_equal(v, frame.v)
        assert time_s == pytest.approx(frame.time_s, abs=1e-4)
        assert matrix == frame.matrix


def test_both_decoders_agree_on_real_clips(ucf101: Path) -> None:
    """Xvid's inverse transform is rounded by each FFmpeg in its own way: one level, rarely."""
    for name in ("Biking/v_Biking_g01_c01.avi", "BenchPress/v_BenchPress_g01_c03.avi"):
        path = ucf101 / "UCF-101" / name
        if not path.is_file():
            pytest.skip(f"{path} is not in this part of UCF101")
        with open_source(str(path)) as source:
            live = [(frame.y.copy(), frame.time_s) for frame in source]
        trained = list(read_frames(path))
        assert len(live) == len(trained) > 10
        for (y, time_s), frame in zip(live, trained, strict=True):
            difference = np.abs(y.astype(int) - frame.y)
            assert difference.max() <= 1
            assert difference.mean() < 0.01
            assert time_s == pytest.approx(frame.time_s, abs=1e-3)
