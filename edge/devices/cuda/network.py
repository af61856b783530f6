"""TensorRT networks with their inputs and logits in GPU memory. Methods have the names of
edge.devices.inference."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.devices.cuda.driver import Driver, Stream
from edge.devices.tensorrt.engine import Engine
from edge.devices.tensorrt.get_or_build import ReadyEngine
from edge.inputs.builder import normalised


class Request:
    """One source's use of a network: it disturbs no other one's.

    input: GPU address of (channels, H, W) float32; logits: GPU address of (C,) float32.
    """

    def __init__(
        self, driver: Driver, engine: Engine, shape: tuple[int, ...], classes: int
    ) -> None:
        """shape: (channels, H, W)."""
        self._driver, self._shape = driver, shape
        self.input = driver.allocate(4 * math.prod(shape))
        self.logits = driver.allocate(4 * classes)
        self._execution = engine.bind(self.input, self.logits)

    def enqueue(self, stream: Stream) -> None:
        """Enqueue an inference on a CUDA stream: `input` -> `logits`."""
        self._execution.enqueue(stream.handle)

    def read_input(self) -> NDArray[np.float32]:
        """A copy of `input`. No work on it may be in progress."""
        out = np.empty(self._shape, np.float32)
        self._driver.read(self.input, out)
        return out


class Network:
    """The network of one stream."""

    def __init__(self, trt: Any, bundle: Bundle, driver: Driver, engine: ReadyEngine) -> None:
        """Raises DeviceError if TensorRT cannot load the engine, BundleError if the engine does not
        match the manifest."""
        manifest = bundle.manifest
        stream = manifest.streams[engine.stream]
        shape = (1, stream.input.channels, *manifest.geometry.size_hw)
        self._stream, self._driver, self._classes = stream, driver, len(manifest.classes)
        self._shape = shape[1:]
        self.precision = engine.key.precision
        name, core = f"{bundle.path}: {stream.file}", engine.key.dla_core
        self._engine = Engine(trt, engine.plan, name, shape, self._classes, core)

    def open_request(self) -> Request:
        """Raises DeviceError if memory is short."""
        return Request(self._driver, self._engine, self._shape, self._classes)

    @cached_property
    def _alone(self) -> tuple[Request, Stream]:
        return self.open_request(), self._driver.stream()

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """(1, channels, H, W), as `edge.inputs.builder.fill_input` gives it, -> (1, C) logits,
        synchronously."""
        batch = normalised(self._stream.input, self._stream.normalisation, batch)
        request, stream = self._alone
        out = np.empty((1, self._classes), np.float32)
        self._driver.write(request.input, batch)
        request.enqueue(stream)
        stream.synchronize()
        self._driver.read(request.logits, out)
        return out

    def close(self) -> None:
        """Release the engine. It must not be running."""
        self._engine.close()
