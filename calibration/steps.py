"""Runs an ONNX model on a sample: once, or once for each step if the model has a state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge.bundle.tensor_names import INPUT, next_state


def run_steps(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], sample: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """The named outputs for a sample without its batch, each (steps, ...).

    A model with state takes all steps of the sample, (T, channels, H, W), in turn, from a state of
    zeros on; other models take the sample in one.
    """
    shapes = {each.name: each.shape for each in session.get_inputs() if each.name != INPUT}
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    names = [*outputs, *map(next_state, state)]
    rows = []
    for values in sample if state else (sample,):
        found = session.run(names, {INPUT: values[None]} | state)
        rows.append(found[: len(outputs)])
        state = dict(zip(state, found[len(outputs) :], strict=True))
    return [np.concatenate(each) for each in zip(*rows, strict=True)]
