"""Writes a bundle from checkpoints: graphs, INT8, decision, parity samples, report, manifest."""

from __future__ import annotations

import logging
import platform
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from torch import nn

from calibration.lint import layer_precisions
from calibration.onnx_file import load_model, write_model
from calibration.quantise import calibrate
from calibration.ranges import Method
from calibration.samples import draw_samples
from edge.bundle.manifest import (
    MANIFEST,
    Bundle,
    Manifest,
    ParitySpec,
    StreamSpec,
    load_bundle,
    sha256,
    write_manifest,
)
from edge.bundle.network import NetworkSpec
from edge.bundle.parity import write_parity
from edge.devices.openvino import Network as OpenVINONetwork
from edge.errors import ExportError
from edge.sources.gst_source import open_source
from edge.video.frames import Frame, default_matrix
from export.calibrate import describe, summarise
from export.confidence import Bin
from export.decision import (
    Confidence,
    confidence_report,
    fit_fusion,
    fuse_moments,
    reliability_of,
    threshold_report,
)
from export.gate import too_much_lost
from export.graph import export_graph
from export.measure import ClipScores, accuracy_report, score_moments
from export.parity import make_parity
from train.commands.arguments import named_as_trained
from train.data.cache import CachedClip, ClipCache
from train.data.clips import Clip
from train.data.snippets import evenly_spaced, tensor_at
from train.evaluation.protocol import Network
from train.json_file import write_json
from train.models.checkpoint import load_checkpoint
from train.streams import FUSED

logger = logging.getLogger(__name__)

Networks = dict[str, tuple[nn.Module, NetworkSpec]]  # by stream
PARITY_FILE, PARITY_SAMPLES = "parity.npz", 4
PARITY_TOLERANCE = 0.05  # of a score: INT8 kernels of two makers round apart
CHECKED_ON = 4  # validation clips whose middle frames compare torch and ONNX


@dataclass(frozen=True, slots=True)
class ExportData:
    """What an export measures on. Validation clips choose, test clips only report.

    *_others: clips of actions that the bundle does not know. parity_video: footage that may be
    passed on. graphs: where the FP32 ONNX files are left. cache: of all these clips.
    """

    training: tuple[Clip, ...]
    graphs: Path
    cache: ClipCache
    validation: list[CachedClip]
    validation_negatives: list[CachedClip]
    test: list[CachedClip]
    test_negatives: list[CachedClip]
    parity_video: Path


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """clips: how many training clips calibrate each stream; seed: which. ranges: see
    calibration/ranges.py. false_alarms: the share of moments of other actions that may show a
    label. accept_loss: write the bundle even where INT8 loses too much.
    """

    clips: int
    seed: int
    ranges: Method | Literal["auto"]
    false_alarms: float
    accept_loss: bool


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that has been written: its report, and what the page shows besides."""

    bundle: Bundle
    report: dict[str, Any]
    reliability: dict[str, list[Bin]]  # by stream and "fused", of the test clips
    layers: dict[str, list[tuple[str, str, str]]]  # by stream: operator, name, precision


def load_networks(paths: dict[str, Path]) -> Networks:
    """The checkpoints, by stream. Raises ExportError if they do not belong together."""
    found = {stream: load_checkpoint(path)[:2] for stream, path in paths.items()}
    for stream, (network, spec) in found.items():
        named_as_trained(paths[stream], spec.stream, stream)
        found[stream] = network, spec.model_copy(update={"stream": stream})
    (first, (_, one)), *others = found.items()
    for stream, (_, spec) in others:
        for key in ("classes", "geometry", "split", "train_clips", "validation_clips"):
            if getattr(one, key) != getattr(spec, key):
                raise ExportError(
                    f"{paths[first]} and {paths[stream]} differ in {key}; "
                    "train all streams with the same options"
                )
        if one.input.interval_s != spec.input.interval_s:
            raise ExportError(
                f"{paths[first]} and {paths[stream]} differ in the interval between frames; "
                "train all streams with the same options"
            )
    return found


def check_target(out: Path) -> None:
    """Raises ExportError if writing a bundle at `out` would destroy something else."""
    if out.exists() and not (out / MANIFEST).is_file():
        raise ExportError(f"{out}: exists and is not a bundle; give a new name or remove it")


def write_bundle(
    networks: Networks,
    data: ExportData,
    out: Path,
    options: ExportOptions,
    extra: dict[str, Any],
) -> Exported:
    """Make the bundle `out`. The same inputs give the same bytes.

    extra: further entries of the report. Nothing is at `out` until all of it is. Raises ExportError
    if INT8 loses too much (see export/gate.py) and that has not been accepted.
    """
    check_target(out)
    partial = out.with_name(out.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    specs = {stream: spec for stream, (_, spec) in networks.items()}
    graphs = {stream: data.graphs / f"{stream}.fp32.onnx" for stream in specs}
    made = {
        stream: _quantise(network, spec, graphs[stream], data, partial, options)
        for stream, (network, spec) in networks.items()
    }
    files = {(stream, "fp32"): graphs[stream] for stream in specs}
    files |= {(stream, "int8"): partial / f"{stream}.onnx" for stream in specs}
    found = _measure(data, specs, _open_networks(specs, files), options)
    if found.loss is not None and not options.accept_loss:
        shutil.rmtree(partial)
        raise ExportError(
            f"{found.loss}; calibrate on more clips, fine-tune with `twostream train --qat`, or "
            "say --accept-loss"
        )
    frames = parity_frames(data.parity_video, max(s.input.history for s in specs.values()))
    manifest = _manifest(out.name, specs, found, frames[0].size_hw)
    manifest = _with_hashes(partial, manifest)
    write_parity(partial / PARITY_FILE, make_parity(Bundle(partial, manifest), frames))
    report = _report(manifest, specs, found, {name: row for name, (row, _) in made.items()}) | extra
    write_json(partial / "report.json", report)
    write_manifest(partial, _with_hashes(partial, manifest))
    load_bundle(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    layers = {stream: layer_precisions(model) for stream, (_, model) in made.items()}
    return Exported(load_bundle(out), report, found.reliability, layers)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What validation clips have chosen, and the report of them and of the test clips. loss: what
    INT8 loses where that is too much."""

    confidence: Confidence
    validation: dict[str, Any]
    test: dict[str, Any]
    loss: str | None
    reliability: dict[str, list[Bin]]


def _measure(
    data: ExportData,
    specs: dict[str, NetworkSpec],
    networks: dict[tuple[str, str], Network],
    options: ExportOptions,
) -> _Measured:
    logger.info("scores of the validation clips, FP32 and INT8")
    known = score_moments(data.validation, specs, networks)
    others = score_moments(data.validation_negatives, specs, networks)
    confidence = fit_fusion(known, others, options.false_alarms)
    known, others = fuse_moments(known, confidence), fuse_moments(others, confidence)
    validation = _part(known, others, confidence)
    loss = too_much_lost(validation, known.streams)
    if loss is not None and not options.accept_loss:
        return _Measured(confidence, validation, {}, loss, {})
    logger.info("scores of the test clips")
    test = fuse_moments(score_moments(data.test, specs, networks), confidence)
    negatives = fuse_moments(score_moments(data.test_negatives, specs, networks), confidence)
    return _Measured(
        confidence,
        validation,
        _part(test, negatives, confidence),
        loss,
        {name: reliability_of(test, confidence, name) for name in (*test.streams, FUSED)},
    )


def _report(
    manifest: Manifest,
    specs: dict[str, NetworkSpec],
    found: _Measured,
    calibration: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    return {
        "classes": list(manifest.classes),
        "split": next(iter(specs.values())).split,
        "calibration": calibration,
        "validation": found.validation,
        "test": found.test,
        "fusion": manifest.fusion.model_dump() | {"weights": found.confidence.weights},
        "accepted_loss": found.loss,
        "machine": {"processor": _processor(), "python": platform.python_version()},
        "versions": {
            name: version(name)
            for name in ("torch", "timm", "onnx", "onnxruntime", "openvino", "numba")
        },
    }


def _part(known: ClipScores, others: ClipScores, confidence: Confidence) -> dict[str, Any]:
    return {
        **accuracy_report(known),
        "confidence": confidence_report(known, confidence),
        **threshold_report(known, others, confidence.fusion),
    }


def _quantise(
    network: nn.Module,
    spec: NetworkSpec,
    fp32: Path,
    data: ExportData,
    folder: Path,
    options: ExportOptions,
) -> tuple[dict[str, Any], onnx.ModelProto]:
    """Write the INT8 file of one stream into the bundle's folder; what it came from, and it."""
    logger.info("%s: FP32 graph %s", spec.stream, fp32)
    clips = data.validation[:: max(len(data.validation) // CHECKED_ON, 1)]
    history = spec.input.history
    inputs = [tensor_at(clip, evenly_spaced(len(clip), history, 3)[1], spec) for clip in clips]
    export_graph(network, spec, fp32, inputs)
    samples = draw_samples(spec, data.training, options.clips, options.seed, data.cache)
    logger.info("%s: calibration on %d training clips", spec.stream, len(samples.clips))
    made = calibrate(load_model(fp32)[0], samples, options.ranges)
    write_model(made.model, spec, folder / f"{spec.stream}.onnx")
    for line in describe(spec, samples, made)[2:]:
        logger.info("%s", line)
    found = summarise(samples, made) | {"fp32_onnx_sha256": sha256(fp32.read_bytes())}
    return found, made.model


def _open_networks(
    specs: dict[str, NetworkSpec], files: dict[tuple[str, str], Path]
) -> dict[tuple[str, str], Network]:
    """The ONNX files as functions, on OpenVINO: FP32 has been checked against torch already."""

    def network(spec: NetworkSpec, file: Path) -> Network:
        shape = (1, spec.channels, *spec.geometry.size_hw)
        run = OpenVINONetwork(file.read_bytes(), str(file), shape, len(spec.classes))
        return lambda batch: np.concatenate([run.infer(row[None]) for row in batch])

    return {key: network(specs[key[0]], file) for key, file in files.items()}


def _manifest(
    name: str, specs: dict[str, NetworkSpec], found: _Measured, size_hw: tuple[int, int]
) -> Manifest:
    """All but the hashes. size_hw: of the parity frames."""
    one, confidence = next(iter(specs.values())), found.confidence
    streams = {
        stream: StreamSpec(
            file=f"{stream}.onnx",
            backbone=spec.backbone,
            input=spec.input,
            normalisation=spec.normalisation,
            temperature=confidence.of(stream),
            weight=confidence.weights[stream],
        )
        for stream, spec in specs.items()
    }
    return Manifest(
        schema_version=3,
        name=name,
        classes=one.classes,
        geometry=one.geometry,
        streams=streams,
        fusion=confidence.fusion,
        parity=ParitySpec(file=PARITY_FILE, size_hw=size_hw, tolerance=PARITY_TOLERANCE),
        accepted_loss=found.loss,
        files=dict.fromkeys((*(s.file for s in streams.values()), PARITY_FILE), "0" * 64),
    )


def _with_hashes(folder: Path, manifest: Manifest) -> Manifest:
    there = {f.name: sha256(f.read_bytes()) for f in sorted(folder.iterdir()) if f.is_file()}
    raw = manifest.model_dump(by_alias=True)
    return Manifest.model_validate(raw | {"files": manifest.files | there})


def parity_frames(video: Path, history: int) -> list[Frame]:
    """The run of frames in the middle of a video that gives PARITY_SAMPLES moments, as they will
    be read back. Raises ExportError if it is too short or of an odd size."""
    count = history + PARITY_SAMPLES
    with open_source(str(video)) as source:
        there = sum(1 for _ in source)
    if there < count:
        raise ExportError(f"{video}: {there} frames are too few; parity samples need {count}")
    first = (there - count) // 2
    with open_source(str(video)) as source:
        frames = list(islice(source, first, first + count))
    height, width = frames[0].size_hw
    if height % 2 or width % 2:
        raise ExportError(f"{video}: is {width} x {height}; parity samples need even sides")
    return [
        replace(
            frame,
            time_s=float(np.float32(frame.time_s - frames[0].time_s)),
            index=index,
            matrix=default_matrix(height),
            full_range=False,
            discontinuity=False,
        )
        for index, frame in enumerate(frames)
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
