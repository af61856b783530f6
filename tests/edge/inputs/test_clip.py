"""Clips as inputs: frames as far apart as in training, whatever the camera's rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.inputs.builder import input_dtype, input_shape, open_input
from edge.inputs.clip import FlowClipInput, RGBClipInput
from edge.inputs.spaced import spaced
from edge.motion.preprocessor import Step
from edge.motion.spec import PRESETS
from edge.video.frames import Frame, Normalisation

FAST = PRESETS["fast"]
RGB = RGBClipInput(kind="rgb_clip", frames=4, interval_s=0.04, step_interval_s=0.12)
FLOW = FlowClipInput(kind="flow_clip", frames=4, step_interval_s=0.12, motion=FAST)
PLAIN = {
    3: Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3),
    1: Normalisation(mean=(0.0,), std=(1.0,)),
}


def grey_steps(times_s: Sequence[float]) -> list[Step]:
    """Frames whose luma, and flows whose bytes, are their number."""
    chroma = np.full((4, 4), 128, np.uint8)
    return [
        Step(
            Frame(np.full((8, 8), 16 + number, np.uint8), chroma, chroma, time_s, number),
            {FAST: np.full((2, 8, 8), number, np.uint8)} if number else {},
        )
        for number, time_s in enumerate(times_s)
    ]


def seen(spec: RGBClipInput | FlowClipInput, steps: Sequence[Step]) -> list[int]:
    """The numbers of the frames or flows in the input after these steps."""
    builder = open_input(spec, (8, 8), PLAIN[spec.means])
    for step in steps:
        builder.push(step)
    assert builder.ready
    out: NDArray[Any] = np.empty(input_shape(spec, (8, 8)), input_dtype(spec))
    builder.fill(out)
    assert (out == out[:, :, :1, :1]).all()
    values = out[0, :, 0, 0]
    return [int(value) if spec is FLOW else round(value * 219) for value in values]


@pytest.mark.parametrize("spec", [RGB, FLOW])
def test_frames_are_as_far_apart_as_in_training(spec: RGBClipInput | FlowClipInput) -> None:
    assert (spec.span, spec.history) == (9, 9 if spec is RGB else 10)
    assert seen(spec, grey_steps([0.04 * n for n in range(30)])) == [20, 23, 26, 29]


def test_of_another_rate_the_nearest_frames_are_taken() -> None:
    assert seen(RGB, grey_steps([n / 30 for n in range(40)])) == [28, 32, 35, 39]
    assert seen(RGB, grey_steps([n / 10 for n in range(20)])) == [15, 17, 18, 19]
    assert seen(RGB, grey_steps([n / 40 for n in range(40)])) == [25, 29, 34, 39]


def test_a_beginning_repeats_its_first_frame() -> None:
    assert seen(RGB, grey_steps([0.0, 0.04, 0.08, 0.12])) == [0, 0, 0, 3]
    assert seen(FLOW, grey_steps([0.0, 0.04, 0.08, 0.12])) == [1, 1, 1, 3]


def test_a_gap_clears_it() -> None:
    builder = open_input(RGB, (8, 8), PLAIN[3])
    builder.push(grey_steps([0.0])[0])
    builder.clear()
    assert not builder.ready


def test_spaced_takes_the_nearest() -> None:
    assert spaced([0.0, 0.1, 0.19, 0.31, 0.4], 3, 0.1) == [2, 3, 4]
    assert spaced([5.0], 3, 0.1) == [0, 0, 0]


def test_steps_are_not_closer_than_frames() -> None:
    with pytest.raises(ValueError, match="step_interval_s is shorter than interval_s"):
        RGBClipInput(kind="rgb_clip", frames=4, interval_s=0.04, step_interval_s=0.02)
