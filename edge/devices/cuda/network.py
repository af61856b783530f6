"""A network in TensorRT with its own GPU memory. See edge.devices.inference for the names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.devices.cuda.driver import Driver
from edge.devices.tensorrt.engine import Engine
from edge.devices.tensorrt.get_or_build import ReadyEngine


class Network:
    """One stream's network.

    input: address of (channels, H, W) float32; logits: of (C,) float32.
    """

    def __init__(self, trt: Any, bundle: Bundle, driver: Driver, ready: ReadyEngine) -> None:
        manifest = bundle.manifest
        stream = manifest.streams[ready.stream]
        shape = (1, stream.input.channels, *manifest.geometry.size_hw)
        self._driver, self._classes = driver, len(manifest.classes)
        self.precision = ready.key.precision
        name, core = f"{bundle.path}: {stream.file}", ready.key.dla_core
        self._engine = Engine(trt, ready.plan, name, shape, self._classes, core)
        self.input = driver.allocate(4 * int(np.prod(shape)))
        self.logits = driver.allocate(4 * self._classes)
        self._engine.bind(self.input, self.logits)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, channels, H, W) -> (1, C) logits, at once."""
        stream = self._driver.stream()
        out = np.empty((1, self._classes), np.float32)
        self._driver.write(self.input, batch)
        self.enqueue(stream)
        stream.synchronize()
        self._driver.read(self.logits, out)
        return out

    def enqueue(self, stream: Any) -> None:
        """Start it on a CUDA stream, with what `input` then holds."""
        self._engine.enqueue(stream.handle)

    def close(self) -> None:
        self._engine.close()
