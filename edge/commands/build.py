"""`twostream build`: builds a bundle's TensorRT engines on this device, checks and times them."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.network import Precision
from edge.bundle.parity import ParityRun, load_parity, network_inputs
from edge.commands.self_check.parity import ScoreParity, compare_scores
from edge.devices.cuda.device import check_kernels
from edge.devices.cuda.driver import Driver, open_driver
from edge.devices.cuda.network import Network
from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.get_or_build import (
    engine_folder,
    forget_failures,
    get_or_build_engine,
    planted_engines,
)
from edge.devices.tensorrt.tuning import write_tuning
from edge.devices.tensorrt.version import load_tensorrt
from edge.errors import DeviceError, TwostreamError

logger = logging.getLogger(__name__)

WARM_RUNS, TIMED_RUNS = 20, 200


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """precision `best`: the faster of INT8 and FP16 that passes the bundle's parity check."""

    bundle: Path
    precision: Literal["int8", "fp16", "fp32", "best"]
    dla_core: int | None
    workspace_mb: int | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An engine that was built and measured. milliseconds: of one inference, mean of TIMED_RUNS."""

    config: BuildConfig
    parity: ScoreParity
    milliseconds: float

    def line(self, bundle: Bundle) -> str:
        parity, allowed = self.parity, bundle.manifest.parity.tolerance
        verdict = "right" if parity.is_within(allowed) else "WRONG"
        return (
            f"{parity.stream}: {self.config.precision} {self.milliseconds:.3f} ms, {verdict}: "
            f"largest score difference {parity.difference:.4f} (allowed: {allowed:g})"
        )


def build(options: BuildOptions) -> None:
    """Build all engines and record which ones `run` uses on this device.

    Raises DeviceError if one cannot be built or none passes the parity check.
    """
    bundle = load_bundle(options.bundle)
    check_kernels(bundle.manifest)
    for name in bundle.manifest.files:
        bundle.read(name)
    if planted := planted_engines(bundle):
        logger.warning("%s", planted)
    run = load_parity(bundle)
    forget_failures(bundle)
    with open_driver() as driver:
        trt = load_tensorrt()
        tuning = {
            stream: _tune(_Bench(trt, bundle, driver, run), stream, options)
            for stream in bundle.manifest.streams
        }
        folder = engine_folder(bundle)
        write_tuning(folder, driver.gpu, trt.__version__, tuning)
    logger.info(
        "engines are in %s, each with a .json that lists its layers and their precision", folder
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is needed to build and measure an engine."""

    trt: Any
    bundle: Bundle
    driver: Driver
    run: ParityRun


def _tune(bench: _Bench, stream: str, options: BuildOptions) -> BuildConfig:
    """The configuration of the fastest engine that passes the parity check."""
    bundle, tolerance = bench.bundle, bench.bundle.manifest.parity.tolerance
    precisions: tuple[Precision, ...] = (
        ("int8", "fp16") if options.precision == "best" else (options.precision,)
    )
    tried: list[_Candidate] = []
    for precision in precisions:
        config = BuildConfig(precision, options.dla_core, options.workspace_mb)
        if any(each.config.precision == precision for each in tried):
            continue  # INT8 falls back to FP16 on a GPU without INT8
        try:
            candidate = _try(bench, stream, config)
        except TwostreamError as error:
            if precision == precisions[-1] and not tried:
                raise
            logger.warning("%s: %s cannot be used: %s", stream, precision, error)
            continue
        logger.info("%s", candidate.line(bundle))
        tried.append(candidate)
    right = [candidate for candidate in tried if candidate.parity.is_within(tolerance)]
    if not right:
        worst = max(tried, key=lambda each: each.parity.difference)
        raise DeviceError(
            f"{bundle.path}: no {stream} engine on this device reproduces the scores in the bundle "
            f"({worst.config.precision}: parity sample {worst.parity.sample} "
            f"differs by {worst.parity.difference:.3f}); no engine was chosen, try --precision fp32"
        )
    best = min(right, key=lambda each: each.milliseconds)
    if len(tried) > 1:
        logger.info("%s: using %s, the fastest that is right", stream, best.config.precision)
    return best.config


def _try(bench: _Bench, stream: str, config: BuildConfig) -> _Candidate:
    trt, bundle, driver = bench.trt, bench.bundle, bench.driver
    ready = get_or_build_engine(trt, bundle, stream, driver.gpu, config)
    counts = Counter(layer.precision for layer in ready.layers).most_common()
    layers = ", ".join(f"{count} {precision}" for precision, count in counts) or "unknown"
    logger.info("%s: layers: %s", stream, layers)
    network = Network(trt, bundle, driver, ready)
    try:
        inputs = network_inputs(bundle, bench.run, stream)
        logits = np.concatenate([network.infer(batch[None]) for batch in inputs])
        parity = compare_scores(bench.run, stream, ready.key.precision, logits)
        used = BuildConfig(ready.key.precision, config.dla_core, config.workspace_mb)
        return _Candidate(used, parity, _time(network, driver))
    finally:
        driver.synchronize()
        network.close()


def _time(network: Network, driver: Driver) -> float:
    stream, begin, end = driver.stream(), driver.event(), driver.event()
    request = network.open_request()
    for _ in range(WARM_RUNS):
        request.enqueue(stream)
    begin.record(stream)
    for _ in range(TIMED_RUNS):
        request.enqueue(stream)
    end.record(stream)
    end.synchronize()
    return float(end.time_since(begin)) / TIMED_RUNS
