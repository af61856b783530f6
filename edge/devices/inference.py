"""What the CPU device asks of an inference back end: one file that offers this.

edge/devices/openvino.py is one; TensorRT's network (edge/devices/cuda/network.py) has the same
names where they mean the same, and takes its input from the GPU's memory instead.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import Precision


class Request(Protocol):
    """One inference that runs beside the caller."""

    @property
    def input(self) -> NDArray[np.float32]:
        """(channels, H, W), to be filled in place; waits until the inference before has read it."""

    def start(self) -> None:
        """Begin with what `input` holds."""

    def wait(self) -> tuple[NDArray[np.float32], float]:
        """The logits (C,) and the milliseconds that the network ran."""


class Network(Protocol):
    """One ONNX file with a fixed input shape."""

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, channels, H, W) -> (1, C) logits, at once."""

    def open_request(self) -> Request:
        """Room for one inference beside the caller."""

    def close(self) -> None:
        """Give back what it holds."""


class InferenceBackEnd(Protocol):
    """A module, mostly."""

    def open_network(
        self, onnx: bytes, name: str, shape: tuple[int, ...], classes: int, precision: Precision
    ) -> Network:
        """A Q/DQ network, computed in `precision`.

        name: of its file, for messages. shape: of its input; classes: C of its output (1, C).
        Raises BundleError where it cannot be loaded or is not the network that is described.
        """

    def describe(self, precision: Precision) -> str:
        """Name, version, and what of `precision` is not as it should be here."""
