"""Flow from motion vectors: boxes to pixels, and the same bytes as measured flow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.motion.codec import CODEC, CodecMotion, velocity_field
from edge.motion.method import METHODS, need_vectors, open_motion, parse_motion
from edge.motion.preprocessor import Preprocessor
from edge.motion.quantise import to_pixels
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1
from edge.video.clip import open_clip
from edge.video.frames import Geometry, resize_to_model
from edge.video.motion_vectors import MotionVectors
from tests.support.frames import noise_frame
from tests.support.moving import DRIFT, RATE, write_drift

SIZE_HW = (24, 40)
edges = st.integers(-20, 60)
sizes = st.sampled_from([4, 8, 16, 33])
speeds = st.floats(-2000, 2000, width=32)
blocks = st.lists(st.tuples(edges, edges, sizes, sizes, speeds, speeds), max_size=12)


def vectors(*rows: tuple[float, ...]) -> MotionVectors:
    """Of (left, top, width, height, u, v) each."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return MotionVectors(boxes, table[:, 4:], 1.0)


@pytest.mark.slow
@given(blocks)
def test_each_pixel_is_the_mean_of_its_blocks(rows: list[tuple[float, ...]]) -> None:
    expected = np.zeros((2, *SIZE_HW))
    for y in range(SIZE_HW[0]):
        for x in range(SIZE_HW[1]):
            over = [r[4:] for r in rows if r[0] <= x < r[0] + r[2] and r[1] <= y < r[1] + r[3]]
            expected[:, y, x] = np.mean(over, axis=0) if over else 0
    field = velocity_field(vectors(*rows), SIZE_HW)
    np.testing.assert_allclose(field, expected, atol=2e-3)


@given(
    st.integers(1, 6), st.integers(1, 6), st.sampled_from([8, 16]), st.integers(4, 90), st.data()
)
def test_blocks_side_by_side_cover_every_pixel_once(
    rows: int, columns: int, side: int, out_side: int, data: st.DataObject
) -> None:
    """At any size of the model, whatever part of a pixel the edges come to lie on."""
    out_w = data.draw(st.integers(4, 90))
    tiles = vectors(
        *((side * c, side * r, side, side, 1.0, -2.0) for r in range(rows) for c in range(columns))
    )
    resized = tiles.resized((0, 0, side * rows, side * columns), (out_side, out_w))
    scale_u, scale_v = out_w / (side * columns), out_side / (side * rows)
    u, v = velocity_field(resized, (out_side, out_w))
    np.testing.assert_allclose(u, scale_u, rtol=1e-5)
    np.testing.assert_allclose(v, -2 * scale_v, rtol=1e-5)


@pytest.mark.parametrize("value", [1e9, -1e9, 4e6])
def test_boxes_far_outside_change_nothing(value: float) -> None:
    far = vectors((value, value, 16, 16, 5.0, 5.0))
    assert not velocity_field(far, SIZE_HW).any()


def test_a_crop_moves_boxes_and_keeps_speed() -> None:
    frame = replace(noise_frame(240, 426), vectors=vectors((53, 0, 16, 16, 30.0, 60.0)))
    geometry = Geometry(aspect=(4, 3), size_hw=(120, 160), interpolation="area")
    resized = resize_to_model(frame, geometry).vectors
    assert resized is not None
    # the middle 320 of 426 columns begin at 52; all is then half as large, and half as fast
    np.testing.assert_allclose(resized.boxes, [[0.5, 0, 8.5, 8]])
    np.testing.assert_allclose(resized.velocities, [[15, 30]])


def test_flow_is_px_per_interval_of_the_spec() -> None:
    motion = CodecMotion(CODEC, (16, 16))
    moving = vectors((0, 0, 16, 16, 100.0, -50.0))
    first = noise_frame(16, 16)
    for later_s in (0.04, 0.02, 0.1):  # a velocity is not rescaled by the frames' own times
        second = replace(first, time_s=later_s, vectors=moving)
        u, v = to_pixels(motion(first, second), CODEC)
        assert abs(u - 4).max() < 0.1
        assert abs(v + 2).max() < 0.1
    with pytest.raises(ValueError, match="must rise"):
        motion(second, second)
    with pytest.raises(ValueError, match="no motion vectors"):
        motion(first, replace(second, vectors=None))


def test_the_method_has_a_name_in_manifests() -> None:
    content = {"method": "codec", "interval_s": 0.04, "bound_px": 20.0}
    spec = parse_motion(content)
    assert spec == CODEC
    assert spec.model_dump(mode="json") == content
    assert METHODS["codec"].needs_vectors
    assert need_vectors([PRESETS["fast"], spec])
    assert not need_vectors([PRESETS["fast"]])
    open_motion(spec, (32, 32)).warm_up()


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video"])
def test_it_agrees_with_measured_flow(codec: str, tmp_path: Path) -> None:
    """The same bytes as TV-L1's within a quarter px, in the middle, where nothing comes in."""
    path = write_drift(tmp_path / "clip.mkv", codec, b_frames=2, frames=8)
    geometry = Geometry(aspect=(4, 3), size_hw=(112, 112), interpolation="area")
    both = (CODEC, PRESETS["fast"])
    preprocessor = Preprocessor(geometry, both)
    with open_clip(path, vectors=True) as clip:
        steps = [preprocessor.push(frame) for frame in clip][1:]
    assert len(steps) == 7
    scale = np.array([112 / 176, 112 / 144]) * RATE * CODEC.interval_s
    for step in steps:
        fields = [to_pixels(step.flows[spec], spec)[:, 20:-20, 20:-20] for spec in both]
        coded, measured = (np.median(field, axis=(1, 2)) for field in fields)
        assert np.abs(coded - np.array(DRIFT) * scale).max() < 0.4
        assert np.abs(coded - measured).max() < 0.4


@pytest.mark.slow
def test_it_resembles_measured_flow_on_real_clips(ucf101: Path) -> None:
    geometry = Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area")
    tvl1 = TVL1(PRESETS["fast"], geometry.size_hw)
    names = ("Diving/v_Diving_g17_c01", "SkyDiving/v_SkyDiving_g17_c02")
    for name in names:
        previous, coded, measured = None, [], []
        with open_clip(ucf101 / "UCF-101" / f"{name}.avi", vectors=True) as clip:
            for frame in clip:
                current = resize_to_model(frame, geometry)
                if previous is not None and current.vectors is not None:
                    since_s = current.time_s - previous.time_s
                    coded.append(velocity_field(current.vectors, geometry.size_hw) * since_s)
                    measured.append(tvl1(previous.y, current.y))
                previous = current
        one, other = np.array(coded), np.array(measured)  # (T, 2, H, W)
        for part in (0, 1):
            assert np.corrcoef(one[:, part].ravel(), other[:, part].ravel())[0, 1] > 0.6
        moving = np.hypot(other[:, 0], other[:, 1]) > 1
        error_px = np.hypot(*(one - other).transpose(1, 0, 2, 3))[moving].mean()
        assert error_px < 0.6 * np.hypot(*other.transpose(1, 0, 2, 3))[moving].mean()
