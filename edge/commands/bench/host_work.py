"""What the host does for a frame on a GPU: as a CUDA graph, and call by call."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from edge.bundle.manifest import Manifest
from edge.devices import Device
from edge.video.frames import Frame

FRAMES, WARM_UP_FRAMES = 100, 20
_SIZE_HW = (240, 320)
OpenGPU = Callable[[bool], AbstractContextManager[Device]]


def host_work(manifest: Manifest, open_gpu: OpenGPU) -> dict[str, float]:
    """Median milliseconds of the host in `submit`, waiting left out: graph, launches, and ratio,
    how many times as long the launches take. open_gpu: opens the device, with graphs or without."""
    medians_ms = []
    for graphs in (True, False):
        with open_gpu(graphs) as device:
            medians_ms.append(_median_ms(device, manifest))
    graph, launches = medians_ms
    return {"graph_ms": graph, "launches_ms": launches, "ratio": launches / graph}


def _median_ms(device: Device, manifest: Manifest) -> float:
    rng, context = np.random.default_rng(0), device.open_context()
    height, width = _SIZE_HW
    y = rng.integers(0, 256, (height, width), np.uint8)
    u, v = rng.integers(0, 256, (2, height // 2, width // 2), np.uint8)
    frame = Frame(y, u, v, 0.0, 0)
    times_ms: list[float] = []
    for index in range(manifest.history + WARM_UP_FRAMES + FRAMES):
        following = replace(frame, time_s=index * manifest.interval_s, index=index)
        result = context.submit(following, infer=True).result()
        if result is not None and index >= manifest.history + WARM_UP_FRAMES:
            times_ms.append(result.stages_ms["host"])
    context.close()
    return statistics.median(times_ms)
