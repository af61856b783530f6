"""Measures one bundle in one precision on one device, in a process of its own: memory and the time
to the first label are then of this measurement alone.

    python -m edge.commands.bench.measure LEVEL < REQUEST   # JSON in, JSON out: see Request
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import psutil

from edge.bundle.manifest import Bundle, Manifest, load_bundle
from edge.bundle.network import Precision
from edge.commands.bench.host_work import host_work
from edge.commands.self_check.choice import choose_way
from edge.decision.label import RUNNING, Label
from edge.decision.recognizer import Recognizer, RunConfig, label_frame, label_video
from edge.decision.statistics import Histogram
from edge.devices import Device, open_device
from edge.devices.fusion_network import open_fusion_network
from edge.errors import SourceError, TwostreamError
from edge.inputs.builder import input_dtype, input_shape
from edge.log import Level, configure
from edge.motion.method import need_vectors
from edge.outputs.records import label_record
from edge.sources.multiplexer import CameraMultiplexer
from edge.sources.named import SourceSpec, parse_sources
from edge.sources.reconnect import ReconnectPolicy
from edge.sources.source import open_source

WARM_UP_FRAMES = 60
_ALONE_RUNS = 60
_YARDSTICK_PAIRS = 40
_TICK_S = 5.0  # of a soak's rows
_OURS = ("resize", "stack", "host", "fusion", "output")  # neither decoding, flow nor network


@dataclass(frozen=True, slots=True)
class Request:
    """frames: number of labels to measure after the warm-up. seconds: length of a soak test, else
    0; the run ends when both are reached."""

    bundle: str
    source: str
    device: str
    precision: Precision
    frames: int
    seconds: float


@dataclass
class _Meter:
    """Receives labels and measures the time between those of consecutive frames."""

    manifest: Manifest
    periods: Histogram = field(default_factory=Histogram)
    labels: int = 0
    first_label_s: float | None = None
    ticks: list[dict[str, float]] = field(default_factory=list)
    _last: tuple[int, float] | None = None
    _recent: list[float] = field(default_factory=list)
    _tick_s: float = field(default_factory=time.monotonic)

    def show(self, label: Label) -> None:
        json.dumps(label_record(label, self.manifest))  # what a run does with it
        if label.state != RUNNING:
            return
        now_s = time.monotonic()
        self.labels += 1
        self.first_label_s = self.first_label_s or now_s
        index = label.frame.index
        if self._last is not None and self._last[0] + 1 == index:
            self.periods.add(1e3 * (now_s - self._last[1]))
        self._last = (index, now_s)
        self._recent.append(label.latency_ms)
        if now_s - self._tick_s >= _TICK_S:
            p50, p95 = np.quantile(self._recent, [0.5, 0.95])
            row = {"latency_p50_ms": p50, "latency_p95_ms": p95, "memory_mb": memory_mb()}
            self.ticks.append({name: round(float(value), 3) for name, value in row.items()})
            self._recent, self._tick_s = [], now_s


def serial(stages: Collection[str]) -> list[str]:
    """The stages that run one after another in the loop. The networks run in parallel to it; on a
    GPU resizing and flow do too."""
    beside = {"resize", "flow", "stack"} if "host" in stages else set()
    order = ("decode", "resize", "host", "flow", "stack", "wait", "fusion", "output")
    return [stage for stage in order if stage in stages and stage not in beside]


def memory_mb() -> float:
    """The resident memory of this process, in MiB."""
    return float(psutil.Process().memory_info().rss) / (1 << 20)


def quantiles(histogram: Histogram) -> dict[str, float]:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    values = {name: histogram.quantile(share) for name, share in shares.items()}
    values |= {"max": histogram.largest, "mean": histogram.mean}
    return {name: round(value, 4) for name, value in values.items()}


def measure(request: Request) -> dict[str, Any]:
    """Raises TwostreamError if there is nothing to be measured."""
    bundle = load_bundle(request.bundle)
    (spec,) = parse_sources([request.source])
    if spec.address.endless:
        raise SourceError(f"{spec.name} never ends; give it a length: test://?frames=500")

    def open_it(graphs: bool = True) -> Device:
        return open_device(
            request.device, bundle, precision=request.precision, choose=choose_way, graphs=graphs
        )

    device = open_it()
    try:
        run = _watch if spec.live else _read
        warm = _Meter(bundle.manifest)
        run(bundle, device, spec, warm, WARM_UP_FRAMES, 0.0)
        if warm.first_label_s is None:
            raise SourceError(f"{spec.name} has too few frames to be measured")
        meter = _Meter(bundle.manifest)
        spent_s = time.process_time()
        statistics = run(bundle, device, spec, meter, request.frames, request.seconds)
        spent_s = time.process_time() - spent_s
        alone = _alone(device, bundle)
        description = device.description
    finally:
        device.close()
    stages = {name: quantiles(h) for name, h in statistics.stages_ms.items()}
    stages["end_to_end"] = quantiles(meter.periods)
    whole = meter.periods.mean
    parts = sum(stages[s]["mean"] for s in serial(stages))
    # medians: what a preempted stage took longer was somebody else's
    own = sum(stages[s]["p50"] for s in _OURS if s in serial(stages))
    processor_ms = 1e3 * spent_s / max(statistics.frames, 1)
    first_label_s = warm.first_label_s - _process_start_s()
    return {
        "bundle": bundle.manifest.name,
        "source": spec.name if spec.live or "://" in spec.uri else Path(spec.name).name,
        "live": spec.live,
        "device": description,
        "precision": request.precision,
        "labels": meter.labels,
        "frames_per_second": round(1e3 / whole, 2) if whole else None,
        "decisions_per_second": round(meter.labels / statistics.seconds, 2),
        "stages_ms": stages,
        "alone_ms": {name: quantiles(histogram) for name, histogram in alone.items()},
        "parts_of_the_whole": None if spec.live or not whole else round(parts / whole, 3),
        "processor_ms_a_frame": round(processor_ms, 3),
        "own_share": round(own / processor_ms, 4),
        "first_label_s": round(first_label_s, 3),
        "memory_mb": round(memory_mb(), 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "yardstick_ms": round(_yardstick_ms(bundle), 4),
        "latency_histogram": _bins(statistics.stages_ms["latency"]),
        "soak": meter.ticks if request.seconds else [],
        "host_work": host_work(bundle.manifest, lambda graphs: closing(open_it(graphs)))
        if "host" in stages
        else None,
    }


def _read(
    bundle: Bundle, device: Device, spec: SourceSpec, meter: _Meter, frames: int, seconds: float
) -> Any:
    """Read a file repeatedly until there are enough labels."""
    context = device.open_context()
    network = open_fusion_network(bundle)
    recognizer = Recognizer(bundle.manifest, context, RunConfig(), spec.name, network)
    spent_s, until_s = 0.0, time.monotonic() + seconds
    while meter.labels < frames or time.monotonic() < until_s:
        before = meter.labels
        context.clear()
        with open_source(spec.uri, vectors=need_vectors(bundle.manifest.motions)) as source:
            recognizer.statistics.began_s = time.monotonic()
            label_video(source, recognizer, meter.show)
        spent_s += recognizer.statistics.seconds
        if meter.labels == before:
            break
    context.close()
    recognizer.statistics.seconds = spent_s
    return recognizer.statistics


def _watch(
    bundle: Bundle, device: Device, spec: SourceSpec, meter: _Meter, frames: int, seconds: float
) -> Any:
    """Read a camera until there are enough labels."""
    context, network = device.open_context(), open_fusion_network(bundle)
    recognizer = Recognizer(bundle.manifest, context, RunConfig(), spec.name, network)
    until_s = time.monotonic() + seconds
    with CameraMultiplexer(vectors=need_vectors(bundle.manifest.motions)) as cameras:
        cameras.add(spec.name, spec.uri, ReconnectPolicy(retries=0))
        while cameras.any_left() and (meter.labels < frames or time.monotonic() < until_s):
            arrival = cameras.next(0.2)
            if arrival is not None:
                label_frame(arrival[1], recognizer, meter.show)
        for fault in cameras.faults().values():
            raise fault
    statistics = recognizer.statistics
    statistics.seconds = time.monotonic() - statistics.began_s
    return statistics


def _alone(device: Device, bundle: Bundle) -> dict[str, Histogram]:
    """The time of each network with nothing else running."""
    manifest = bundle.manifest
    times_ms: dict[str, Histogram] = {name: Histogram() for name in manifest.streams}
    random = np.random.default_rng(0)
    for stream, section in manifest.streams.items():
        shape = (1, *input_shape(section.input, manifest.geometry.size_hw))
        inputs = random.integers(0, 256, shape).astype(input_dtype(section.input))
        for run in range(_ALONE_RUNS + 5):
            began_s = time.monotonic()
            device.logits(stream, inputs, [0.0])
            if run >= 5:
                times_ms[stream].add(1e3 * (time.monotonic() - began_s))
    return times_ms


def _yardstick_ms(bundle: Bundle) -> float:
    """Median time of OpenCV's DIS flow (medium, one thread) at the model's size. Other times are
    divided by it, so that a slower machine does not look like a slower program."""
    height, width = bundle.manifest.geometry.size_hw
    y, x = np.mgrid[:height, :width]
    pictures = [
        (126 + 60 * np.sin((x - 2 * k) / 9) * np.sin((y + k) / 11)).astype(np.uint8)
        for k in range(_YARDSTICK_PAIRS + 1)
    ]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    times = []
    try:
        for before, after in pairwise(pictures):
            began_s = time.monotonic()
            dis.calc(before, after, None)  # type: ignore[call-overload]
            times.append(time.monotonic() - began_s)
    finally:
        cv2.setNumThreads(threads)
    return 1e3 * float(np.median(times))


def _bins(histogram: Histogram) -> list[tuple[float, int]]:
    """(upper edge in ms, count) of the bins that are not empty."""
    edges = histogram.EDGES
    return [
        (round(float(edges[min(k, len(edges) - 1)]), 4), int(count))
        for k, count in enumerate(histogram.counts)
        if count
    ]


def _process_start_s() -> float:
    """When this process was started, on the monotonic clock.

    Counted from the boot: as a time of day psutil's value may be a second off, like the boot's."""
    since_boot_s = psutil.Process().create_time() - psutil.boot_time()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot_s
    return float(time.monotonic() - age_s)


def main() -> None:
    """Called by compare.py; a user error is printed as JSON too."""
    request = Request(**json.load(sys.stdin))
    configure(cast(Level, sys.argv[1]))
    try:
        result = measure(request)
    except TwostreamError as error:
        result = {"fault": str(error), "kind": type(error).__name__}
    print(json.dumps(result))


def request_json(request: Request) -> str:
    return json.dumps(asdict(request))


if __name__ == "__main__":
    main()
