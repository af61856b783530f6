"""The interface of an inference back end of the CPU device.

edge/devices/openvino.py implements it. TensorRT's network (edge/devices/cuda/network.py) uses the
same names for the same things, but takes its input from the GPU's memory.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import Precision


class Request(Protocol):
    """One asynchronous inference."""

    @property
    def input(self) -> NDArray[np.float32]:
        """(channels, H, W), to fill in place; waits until the last inference has read it."""

    def start(self) -> None:
        """Start with the content of `input`."""

    def wait(self) -> tuple[NDArray[np.float32], float]:
        """Wait for the logits (C,) and the network's run time in milliseconds."""


class Network(Protocol):
    """One ONNX file with a fixed input shape."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, channels, H, W) -> (1, C) logits, synchronously."""

    def open_request(self) -> Request:
        """A new asynchronous request."""

    def close(self) -> None:
        """Release its resources."""


class InferenceBackEnd(Protocol):
    """Usually a module."""

    def open_network(
        self, onnx: bytes, name: str, shape: tuple[int, ...], classes: int, precision: Precision
    ) -> Network:
        """Load a Q/DQ network to run in `precision`.

        name: of its file, for messages. shape: of its input; classes: C of its output (1, C).
        Raises BundleError if it cannot be loaded or does not match shape and classes.
        """

    def describe(self, precision: Precision) -> str:
        """Name and version, and limits of `precision` on this machine."""
