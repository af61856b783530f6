"""The interface of an inference back end of the CPU device, and the ways of computing networks.

edge/devices/openvino.py implements it. TensorRT's network (edge/devices/cuda/network.py) uses the
same names for the same things, but takes its input from the GPU's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edge.bundle.network import Precision


@dataclass(frozen=True, slots=True)
class Way:
    """One way of computing a bundle's networks. Whether a processor's kernels are right and fast is
    not known from its name, so a run tries them (see edge.commands.self_check).

    name: for people. precision: None is that of the engines that `twostream build` made.
    """

    name: str
    precision: Precision | None


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A network of a bundle. name: of its file, for messages. shape: of its input; classes: C of
    its output (1, C). state: shapes of the tensors that a step hands on to the next, by name; most
    networks have none. step_interval_s: between steps; 0.0 without a state. levels: (scale, shift);
    its input is given as bytes, of which it is to see byte * scale + shift. None: its input is
    given as float32."""

    onnx: bytes
    name: str
    shape: tuple[int, ...]
    classes: int
    state: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    step_interval_s: float = 0.0
    levels: tuple[float, float] | None = None

    @property
    def dtype(self) -> type[np.uint8 | np.float32]:
        """What its input is given as."""
        return np.float32 if self.levels is None else np.uint8

    def as_floats(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """What it is to see of an input, for a back end that cannot take bytes."""
        if self.levels is None:
            return batch
        scale, shift = map(np.float32, self.levels)
        return batch.astype(np.float32) * scale + shift


# What a network with state hands on from one step to the next, by name.
State = Mapping[str, NDArray[np.float32]]


class Request(Protocol):
    """One asynchronous inference."""

    @property
    def input(self) -> NDArray[Any]:
        """(channels, H, W) of the file's dtype, to fill in place; waits until the last inference
        has read it."""

    def start(self) -> None:
        """Start with the content of `input`."""

    def wait(self) -> tuple[NDArray[np.float32], float]:
        """Wait for the logits (C,) and the network's run time in milliseconds."""

    def set_state(self, state: State) -> None:
        """The state that the next inference starts from; of networks with state alone. Waits until
        the last inference has read its own."""

    def next_state(self) -> State:
        """Wait for the state after the inference; of networks with state alone."""


class Network(Protocol):
    """One ONNX file with a fixed input shape. A network with state is a StatefulNetwork, too."""

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """(1, channels, H, W) of the file's dtype -> (1, C) logits, synchronously; with state, from
        the first on."""

    def open_request(self) -> Request:
        """A new asynchronous request."""

    def close(self) -> None:
        """Release its resources."""


class StatefulNetwork(Protocol):
    """An ONNX file whose tensors of state go in and come out by name (see
    edge/bundle/tensor_names.py). It keeps none itself, so that one network serves all sources."""

    def first_state(self) -> State:
        """Zeros, by name."""

    def step(self, values: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]:
        """Input (K,) or (channels, H, W), and state -> logits (C,) and the next state,
        synchronously."""


class InferenceBackEnd(Protocol):
    """Usually a module."""

    def ways(self, precision: Precision | None) -> tuple[Way, ...]:
        """Its ways of computing networks in `precision`, or in any where that is None: at least
        one, the fastest first."""

    def open_network(self, file: NetworkFile, way: Way) -> Network:
        """Load a network to be computed in one of the ways.

        Raises BundleError if it cannot be loaded or does not match its shape and classes,
        DeviceError if a library is missing.
        """

    def describe(self, way: Way) -> str:
        """Name and version, and the way if it is not the first."""
