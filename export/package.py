"""Two checkpoints to one bundle: graphs, INT8, decision, parity samples, report, manifest."""

from __future__ import annotations

import logging
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
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
    SpatialSpec,
    TemporalSpec,
    load_bundle,
    sha256,
    write_manifest,
)
from edge.bundle.network import NetworkSpec
from edge.bundle.parity import ParitySamples, spatial_inputs, temporal_inputs, write_parity
from edge.decision.fusion import softmax
from edge.devices.cpu import Network as OpenVINONetwork
from edge.errors import ExportError
from edge.motion.preprocessor import Preprocessor
from edge.sources.gst_source import open_source
from edge.video.frames import pack_i420
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
from export.measure import PRECISIONS, ClipScores, accuracy_report, score_moments
from train.data.cache import STACK, CachedClip
from train.data.clips import Clip
from train.data.snippets import evenly_spaced, tensor_at
from train.evaluation.protocol import Network
from train.json_file import write_json
from train.models.checkpoint import load_checkpoint

logger = logging.getLogger(__name__)

STREAMS = ("spatial", "temporal")
PARITY_FILE, PARITY_SAMPLES = "parity.npz", 4
PARITY_TOLERANCE = 0.05  # of a score: INT8 kernels of two makers round apart
CHECKED_ON = 4  # validation clips whose middle frames compare torch and ONNX


@dataclass(frozen=True, slots=True)
class ExportData:
    """What an export measures on. Validation clips choose, test clips only report.

    *_others: clips of actions that the bundle does not know. parity_video: footage that may be
    passed on. graphs: where the FP32 ONNX files are left; samples: where those of calibration are.
    """

    training: tuple[Clip, ...]
    graphs: Path
    samples: Path
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


def load_pair(paths: dict[str, Path]) -> dict[str, tuple[nn.Module, NetworkSpec]]:
    """The two checkpoints, by stream. Raises ExportError where they do not belong together."""
    pair = {stream: load_checkpoint(paths[stream])[:2] for stream in STREAMS}
    for stream, (_, spec) in pair.items():
        if spec.stream != stream:
            raise ExportError(f"{paths[stream]}: is a {spec.stream} checkpoint, not a {stream} one")
    spatial, temporal = (pair[stream][1] for stream in STREAMS)
    for key in ("classes", "geometry", "flow", "split", "train_clips", "validation_clips"):
        if getattr(spatial, key) != getattr(temporal, key):
            raise ExportError(
                f"{paths['spatial']} and {paths['temporal']} differ in {key}; "
                "train both streams with the same options"
            )
    return pair


def check_target(out: Path) -> None:
    """Raises ExportError where writing a bundle at `out` would destroy something else."""
    if out.exists() and not (out / MANIFEST).is_file():
        raise ExportError(f"{out}: exists and is not a bundle; give a new name or remove it")


def write_bundle(
    pair: dict[str, tuple[nn.Module, NetworkSpec]],
    data: ExportData,
    out: Path,
    options: ExportOptions,
    extra: dict[str, Any],
) -> Exported:
    """Make the bundle `out`. The same inputs give the same bytes.

    extra: further entries of the report. Nothing is at `out` until all of it is. Raises ExportError
    where INT8 loses too much (see export/gate.py) and that has not been accepted.
    """
    check_target(out)
    partial = out.with_name(out.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    specs = {stream: spec for stream, (_, spec) in pair.items()}
    graphs = {stream: data.graphs / f"{stream}.fp32.onnx" for stream in STREAMS}
    made = {
        stream: _quantise(network, spec, graphs[stream], data, partial, options)
        for stream, (network, spec) in pair.items()
    }
    networks = _networks(
        specs,
        {(stream, "fp32"): graphs[stream] for stream in STREAMS}
        | {(stream, "int8"): partial / f"{stream}.onnx" for stream in STREAMS},
    )
    logger.info("scores of the validation clips, FP32 and INT8")
    known = score_moments(data.validation, specs, networks)
    others = score_moments(data.validation_negatives, specs, networks)
    confidence = fit_fusion(known, others, options.false_alarms)
    known, others = fuse_moments(known, confidence), fuse_moments(others, confidence)
    validation = accuracy_report(known)
    loss = too_much_lost(validation)
    if loss is not None and not options.accept_loss:
        shutil.rmtree(partial)
        raise ExportError(
            f"{loss}; calibrate on more clips, fine-tune with `twostream train --qat`, or say "
            "--accept-loss"
        )
    logger.info("scores of the test clips")
    test = fuse_moments(score_moments(data.test, specs, networks), confidence)
    test_negatives = fuse_moments(score_moments(data.test_negatives, specs, networks), confidence)
    manifest = _manifest(out.name, specs, confidence, loss)
    _write_parity(partial, manifest, data.parity_video, networks)
    report = {
        "classes": list(manifest.classes),
        "split": specs["spatial"].split,
        "calibration": {stream: found for stream, (found, _) in made.items()},
        "validation": _part(known, others, confidence),
        "test": _part(test, test_negatives, confidence),
        "fusion": confidence.fusion.model_dump(),
        "accepted_loss": loss,
        "machine": {"processor": _processor(), "python": platform.python_version()},
        "versions": {
            name: version(name)
            for name in ("torch", "timm", "onnx", "onnxruntime", "openvino", "numba")
        },
    } | extra
    write_json(partial / "report.json", report)
    write_manifest(partial, _with_hashes(partial, manifest))
    load_bundle(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return Exported(
        load_bundle(out),
        report,
        {name: reliability_of(test, confidence, name) for name in (*STREAMS, "fused")},
        {stream: layer_precisions(model) for stream, (_, model) in made.items()},
    )


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
    inputs = [tensor_at(clip, evenly_spaced(len(clip), STACK, 3)[1], spec) for clip in clips]
    export_graph(network, spec, fp32, inputs)
    logger.info("%s: calibration on %d training clips", spec.stream, options.clips)
    samples = draw_samples(spec, data.training, options.clips, options.seed, data.samples)
    made = calibrate(load_model(fp32)[0], samples, options.ranges)
    write_model(made.model, spec, folder / f"{spec.stream}.onnx")
    for line in describe(spec, samples, made)[2:]:
        logger.info("%s", line)
    found = summarise(samples, made) | {"fp32_onnx_sha256": sha256(fp32.read_bytes())}
    return found, made.model


def _networks(
    specs: dict[str, NetworkSpec], files: dict[tuple[str, str], Path]
) -> dict[tuple[str, str], Network]:
    """The ONNX files as functions, on OpenVINO: FP32 has been checked against torch already."""

    def network(spec: NetworkSpec, file: Path) -> Network:
        shape = (1, spec.channels, *spec.geometry.size_hw)
        run = OpenVINONetwork(file.read_bytes(), str(file), shape, len(spec.classes))
        return lambda batch: np.concatenate([run(row[None]) for row in batch])

    return {key: network(specs[key[0]], file) for key, file in files.items()}


def _manifest(
    name: str, specs: dict[str, NetworkSpec], confidence: Confidence, loss: str | None
) -> Manifest:
    """All but the hashes."""
    spatial, temporal = specs["spatial"], specs["temporal"]
    assert temporal.stack is not None
    assert temporal.layout is not None
    files = ("spatial.onnx", "temporal.onnx", PARITY_FILE)
    return Manifest(
        schema_version=2,
        name=name,
        classes=spatial.classes,
        geometry=spatial.geometry,
        flow=spatial.flow,
        spatial=SpatialSpec(
            file="spatial.onnx",
            backbone=spatial.backbone,
            normalisation=spatial.normalisation,
            temperature=confidence.spatial,
        ),
        temporal=TemporalSpec(
            file="temporal.onnx",
            backbone=temporal.backbone,
            normalisation=temporal.normalisation,
            temperature=confidence.temporal,
            stack=temporal.stack,
            layout=temporal.layout,
        ),
        fusion=confidence.fusion,
        parity=ParitySpec(file=PARITY_FILE, tolerance=PARITY_TOLERANCE),
        accepted_loss=loss,
        files=dict.fromkeys(files, "0" * 64),
    )


def _with_hashes(folder: Path, manifest: Manifest) -> Manifest:
    files = {f.name: sha256(f.read_bytes()) for f in sorted(folder.iterdir()) if f.is_file()}
    return Manifest.model_validate(manifest.model_dump(by_alias=True) | {"files": files})


def _write_parity(
    folder: Path, manifest: Manifest, video: Path, networks: dict[tuple[str, str], Network]
) -> None:
    """Take evenly spaced moments of a video and note what each network says of them."""
    frames, stacks = _moments(manifest, video)
    blank = np.zeros((len(frames), len(manifest.classes)), np.float32)
    samples = ParitySamples(frames, stacks, blank, blank, blank, blank)
    bundle = Bundle(folder, manifest)
    inputs = {
        "spatial": spatial_inputs(bundle, samples),
        "temporal": temporal_inputs(bundle, samples),
    }
    scores = {
        f"{stream}_{precision}": softmax(networks[stream, precision](inputs[stream]), 1.0)
        for stream in STREAMS
        for precision in PRECISIONS
    }
    write_parity(folder / PARITY_FILE, ParitySamples(frames, stacks, **scores))


def _moments(manifest: Manifest, video: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    preprocessor = Preprocessor(manifest.geometry, manifest.flow)
    with open_source(str(video)) as source:
        steps = [preprocessor.push(frame) for frame in source]
    length = manifest.temporal.stack
    if len(steps) < length + PARITY_SAMPLES:
        raise ExportError(f"{video}: {len(steps)} frames are too few for parity samples")
    ends = np.linspace(length, len(steps) - 1, PARITY_SAMPLES).round().astype(int)
    frames = np.stack([pack_i420(steps[end].frame) for end in ends])
    stacks = np.stack(
        [
            np.stack([s.flow for s in steps[end - length + 1 : end + 1] if s.flow is not None])
            for end in ends
        ]
    )
    return frames, stacks


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
