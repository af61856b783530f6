"""Flow to bytes to the temporal network's input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.motion.spec import PRESETS
from edge.motion.stack import FlowRing, quantise, stack_tensor
from edge.video.frames import Normalisation

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


def test_layouts_order_the_channels_as_they_say() -> None:
    plain = Normalisation(mean=(0.0,), std=(1 / 255,))  # tensor = byte
    grouped = stack_tensor(ramp(3), "grouped", plain)
    interleaved = stack_tensor(ramp(3), "interleaved", plain)
    assert grouped.shape == interleaved.shape == (6, 4, 6)
    assert grouped.dtype == np.float32
    np.testing.assert_allclose(grouped[:, 0, 0], [0, 10, 20, 5, 15, 25], atol=1e-4)
    np.testing.assert_allclose(interleaved[:, 0, 0], [0, 5, 10, 15, 20, 25], atol=1e-4)


def test_no_motion_is_exactly_zero_for_the_demo_normalisation() -> None:
    still = [np.full((2, 4, 4), 128, np.uint8)] * 10
    tensor = stack_tensor(still, "grouped", Normalisation(mean=(128 / 255,), std=(0.226,)))
    assert np.abs(tensor).max() < 1e-6


@pytest.mark.parametrize("pushed", [1, 3, 5])
def test_the_ring_keeps_the_last_flows_oldest_first(pushed: int) -> None:
    ring = FlowRing(3)
    for flow in ramp(pushed):
        ring.push(flow)
    assert len(ring) == min(pushed, 3)
    firsts = [int(flow[0, 0, 0]) for flow in ring.flows]
    assert firsts == [10 * i for i in range(max(0, pushed - 3), pushed)]
    ring.clear()
    assert len(ring) == 0
