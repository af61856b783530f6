"""One clip through training, calibration and the runtime: the same tensors, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.samples import SNIPPETS, draw_samples
from edge.bundle.network import NetworkSpec
from edge.inputs.builder import input_dtype, motions_of, normalised, open_input
from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from edge.sources.source import open_source
from edge.spec import Spec
from tests.support.clips import write_clip
from train.data.cache import CachedClip, open_cache
from train.data.clips import Clip
from train.data.decode import read_frames
from train.data.snippets import newest_tensor_at, tensor_at
from train.models.spec import OverTime, network_spec
from train.streams import STREAMS, LearnedMotion


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A made clip where UCF101 has its own: <videos>/Diving/v_Diving_g08_c01.avi."""
    path = tmp_path_factory.mktemp("videos") / "Diving" / "v_Diving_g08_c01.avi"
    path.parent.mkdir()
    # H.264 is decoded to the bit; MPEG-4 leaves the rounding to each release of FFmpeg
    write_clip(path, frames=36, rate="30000/1001", codec="h264")
    return Clip("Diving/v_Diving_g08_c01.avi", path, "Diving", "08")


def spec_of(
    stream: str, clip: Clip, stack: int = 10, motion: Spec = PRESETS["fast"]
) -> NetworkSpec:
    classes = ("Diving", "Drumming")
    return network_spec(stream, classes, motion, 1, [clip], [], stack=stack)


def over_time_spec(
    stream: str, clip: Clip, shift: float, backbone: str = "efficientnet_lite0"
) -> NetworkSpec:
    return network_spec(
        *(stream, ("Diving", "Drumming"), PRESETS["fast"], 1, [clip], []),
        *(backbone, "none", 64, 10),
        over_time=OverTime(shift, 4, 3),
    )


def runtime_tensors(clip: Clip, spec: NetworkSpec) -> list[np.ndarray | None]:
    """What the live path can feed the network at every frame; None before there is enough."""
    preprocessor = Preprocessor(spec.geometry, motions_of([spec.input]))
    builder = open_input(spec.input, spec.geometry.size_hw, spec.normalisation)
    tensors: list[np.ndarray | None] = []
    with open_source(str(clip.path)) as source:
        for frame in source:
            builder.push(preprocessor.push(frame))
            tensors.append(None)
            if builder.ready:
                filled = np.empty(builder.shape, input_dtype(spec.input))
                builder.fill(filled)
                tensors[-1] = normalised(spec.input, spec.normalisation, filled)
    return tensors


def cached(clip: Clip, spec: NetworkSpec, root: Path) -> CachedClip:
    (found,) = open_cache(root, spec).fill([clip], 1, spec.input.history)
    assert isinstance(found, CachedClip)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "stack"), [("spatial", 10), ("temporal", 10), ("temporal", 3)])
def test_training_and_runtime_feed_the_same_tensors(
    stream: str, stack: int, clip: Clip, tmp_path: Path
) -> None:
    spec = spec_of(stream, clip, stack)
    live = runtime_tensors(clip, spec)
    assert len(live) == 36
    for _ in range(2):  # as it is computed, and as it comes back from the disk
        found = cached(clip, spec, tmp_path)
        assert len(found) == 36
        for index, wanted in enumerate(live):
            if wanted is None:
                assert index < stack
                with pytest.raises(IndexError, match="frames end at frame"):
                    tensor_at(found, index, spec)
            else:
                np.testing.assert_array_equal(tensor_at(found, index, spec), wanted)


@pytest.mark.slow
def test_pictures_for_learned_motion_are_the_same(clip: Clip, tmp_path: Path) -> None:
    learned = LearnedMotion(
        method="network", network="motionnet_small", checkpoint="", frames=4, interval_s=0.04
    )
    spec = spec_of("temporal", clip, 3, learned)
    live = runtime_tensors(clip, spec)
    found = cached(clip, spec, tmp_path)
    assert [tensor is None for tensor in live] == [True] * 3 + [False] * 33
    for index in (3, 20, 35):
        np.testing.assert_array_equal(tensor_at(found, index, spec), live[index])


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_calibration_feeds_tensors_that_the_runtime_would(
    stream: str, clip: Clip, tmp_path: Path
) -> None:
    spec = spec_of(stream, clip)
    live = {t.tobytes() for t in runtime_tensors(clip, spec) if t is not None}
    samples = draw_samples(spec, [clip], 1, 1, open_cache(tmp_path, spec))
    assert len(samples) == SNIPPETS
    assert {tensor.tobytes() for tensor in samples} <= live


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_clips_are_the_same_in_training_and_runtime(
    stream: str, clip: Clip, tmp_path: Path
) -> None:
    spec = over_time_spec(stream, clip, shift=0.0, backbone="resnet10t")
    live, found = runtime_tensors(clip, spec), cached(clip, spec, tmp_path)
    for index in range(spec.input.history, 36):
        np.testing.assert_array_equal(tensor_at(found, index, spec), live[index])


@pytest.mark.slow
def test_steps_of_a_network_with_state_are_frames_of_the_runtime(
    clip: Clip, tmp_path: Path
) -> None:
    spec = over_time_spec("spatial", clip, shift=0.125)
    live, found = runtime_tensors(clip, spec), cached(clip, spec, tmp_path)
    steps = [30 - 11, 30 - 7, 30 - 4, 30]  # 0.12 s apart at 29.97 a second, to the nearest
    for index, step in zip(steps, tensor_at(found, 30, spec), strict=True):
        np.testing.assert_array_equal(step, live[index])
        np.testing.assert_array_equal(step, newest_tensor_at(found, index, spec))


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
