"""Flow to bytes to a network's input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inputs.builder import build_input, input_dtype, open_input
from edge.inputs.flow_stack import FlowInput
from edge.inputs.luma_stack import LumaStackInput
from edge.inputs.rgb import RGBInput
from edge.motion.preprocessor import Step
from edge.motion.quantise import quantise
from edge.motion.spec import PRESETS
from edge.motion.stack import normalise_bytes, stack_flows
from edge.video.frames import Frame, Normalisation, rgb_tensor

FAST = PRESETS["fast"]


def bytes_of(*pixels: float, interval_s: float = FAST.interval_s) -> list[int]:
    flow = np.array(pixels, np.float32).reshape(1, 1, -1).repeat(2, axis=0)
    return [int(level) for level in quantise(flow, FAST, interval_s)[0, 0]]


def test_levels_are_clipped_and_rounded_and_never_wrap() -> None:
    assert bytes_of(-25, -20, 0, 19.9, 25) == [0, 0, 128, 254, 255]
    assert bytes_of(20, 1e9, -1e9) == [255, 255, 0]


def test_a_longer_frame_interval_means_slower_motion() -> None:
    # 2 px in 80 ms are 1 px in the 40 ms that the network was trained on
    assert bytes_of(2.0, interval_s=0.08) == bytes_of(1.0)
    assert bytes_of(1.0, interval_s=0.02) == bytes_of(2.0)


@given(st.floats(-1000, 1000, width=32))
def test_levels_are_the_rounded_line(pixels: float) -> None:
    exact = min(max(127.5 + pixels * 127.5 / 20, 0), 255)
    assert abs(bytes_of(pixels)[0] - exact) <= 0.5001


@given(st.floats(-19, 19, width=32))
def test_opposite_motions_are_mirrored_levels(pixels: float) -> None:
    there, back = bytes_of(pixels, -pixels)
    assert abs(there + back - 255) <= 1


def ramp(length: int) -> list[np.ndarray]:
    """Flows whose every u byte is 10 i and v byte is 10 i + 5."""
    return [
        np.stack([np.full((4, 6), 10 * i + c, np.uint8) for c in (0, 5)]) for i in range(length)
    ]


PLAIN = Normalisation(mean=(0.0,), std=(1 / 255,))  # tensor = byte


def test_a_stack_of_luma_has_the_oldest_frame_first() -> None:
    spec = LumaStackInput(kind="luma_stack", frames=3, interval_s=0.04)
    assert (spec.channels, spec.history) == (3, 2)
    builder = open_input(spec, (4, 6), PLAIN)
    chroma = np.zeros((2, 3), np.uint8)
    for index in range(5):
        assert builder.ready == (index >= 3)
        luma = np.full((4, 6), 10 * index, np.uint8)
        builder.push(Step(Frame(luma, chroma, chroma, 0.04 * index, index)))
    out = np.empty(builder.shape, input_dtype(spec))
    builder.fill(out)
    assert out.dtype == np.uint8
    assert [plane.min() for plane in out] == [plane.max() for plane in out] == [20, 30, 40]
    builder.clear()
    assert not builder.ready


def test_all_u_come_before_all_v() -> None:
    stack = stack_flows(ramp(3))
    assert stack.shape == (6, 4, 6)
    assert stack.dtype == np.uint8
    np.testing.assert_array_equal(stack[:, 0, 0], [0, 10, 20, 5, 15, 25])


def test_no_motion_is_exactly_zero_for_the_demo_normalisation() -> None:
    still = [np.full((2, 4, 4), 128, np.uint8)] * 10
    normalisation = Normalisation(mean=(128 / 255,), std=(0.226,))
    tensor = normalise_bytes(stack_flows(still), normalisation)
    assert tensor.dtype == np.float32
    assert np.abs(tensor).max() < 1e-6


def step(flow: np.ndarray | None) -> Step:
    luma, chroma = np.zeros((4, 6), np.uint8), np.full((2, 3), 128, np.uint8)
    frame = Frame(luma, chroma, chroma, 0.0, 0)
    return Step(frame) if flow is None else Step(frame, {FAST: flow})


STACK = FlowInput(kind="flow", stack=3, layout="grouped", motion=FAST)


@pytest.mark.parametrize("pushed", [0, 1, 3, 5])
def test_a_stack_is_the_last_flows_oldest_first(pushed: int) -> None:
    builder = open_input(STACK, (4, 6), PLAIN)
    builder.push(step(None))  # the first frame has no flow
    for flow in ramp(pushed):
        builder.push(step(flow))
    assert builder.shape == (6, 4, 6)
    assert builder.ready == (pushed >= 3)
    if builder.ready:
        out = np.zeros(builder.shape, np.uint8)
        builder.fill(out)
        np.testing.assert_array_equal(out, stack_flows(ramp(pushed)[-3:]))
    builder.clear()
    assert not builder.ready


def test_an_rgb_input_is_the_newest_frame() -> None:
    spec = RGBInput(kind="rgb", frames=1, interval_s=0.04)
    normalisation = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)
    newest = step(None)
    tensor = build_input(spec, (4, 6), normalisation, [step(ramp(1)[0]), newest])
    np.testing.assert_array_equal(tensor, rgb_tensor(newest.frame, normalisation))


def test_too_few_frames_are_no_input() -> None:
    with pytest.raises(ValueError, match="too few frames"):
        build_input(STACK, (4, 6), PLAIN, map(step, ramp(2)))
