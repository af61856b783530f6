"""A TensorRT network with its input and logits in GPU memory. Methods have the names of
edge.devices.inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.devices.cuda.driver import Driver, Stream
from edge.devices.tensorrt.engine import Engine
from edge.devices.tensorrt.get_or_build import ReadyEngine


class Network:
    """The network of one stream.

    input: GPU address of (channels, H, W) float32; logits: GPU address of (C,) float32.
    """

    def __init__(self, trt: Any, bundle: Bundle, driver: Driver, engine: ReadyEngine) -> None:
        """Raises DeviceError if TensorRT cannot load the engine or memory is short, BundleError if
        the engine does not match the manifest."""
        manifest = bundle.manifest
        stream = manifest.streams[engine.stream]
        shape = (1, stream.input.channels, *manifest.geometry.size_hw)
        self._driver, self._classes = driver, len(manifest.classes)
        self.precision = engine.key.precision
        name, core = f"{bundle.path}: {stream.file}", engine.key.dla_core
        self._engine = Engine(trt, engine.plan, name, shape, self._classes, core)
        self.input = driver.allocate(4 * int(np.prod(shape)))
        self.logits = driver.allocate(4 * self._classes)
        self._engine.bind(self.input, self.logits)
        self._stream = driver.stream()  # of `infer`

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, channels, H, W) -> (1, C) logits, synchronously."""
        out = np.empty((1, self._classes), np.float32)
        self._driver.write(self.input, batch)
        self.enqueue(self._stream)
        self._stream.synchronize()
        self._driver.read(self.logits, out)
        return out

    def enqueue(self, stream: Stream) -> None:
        """Enqueue an inference on a CUDA stream: `input` -> `logits`."""
        self._engine.enqueue(stream.handle)

    def close(self) -> None:
        """Release the engine. It must not be running."""
        self._engine.close()
