"""Two checkpoints to one bundle: graphs, INT8, threshold, parity samples, report, manifest."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from calibration.lint import float_layers
from calibration.onnx_file import write_model
from calibration.quantise import calibrate
from edge.bundle import (
    MANIFEST,
    Bundle,
    FusionSpec,
    Manifest,
    ParitySpec,
    SpatialSpec,
    TemporalSpec,
    load_bundle,
    sha256,
    write_manifest,
)
from edge.devices.cpu import Network as OpenVINONetwork
from edge.errors import ExportError
from edge.frames import pack_i420
from edge.fusion import softmax
from edge.network import NetworkSpec
from edge.parity import ParitySamples, spatial_inputs, temporal_inputs, write_parity
from edge.preprocess import Preprocessor
from edge.source import open_source
from export.graph import export_graph
from export.measure import (
    PRECISIONS,
    accuracy_report,
    fit_threshold,
    fit_weights,
    flow_speed,
    fuse_moments,
    run_speed,
    score_moments,
    threshold_report,
)
from train.cache import CachedClip
from train.checkpoint import load_checkpoint
from train.clips import Clip
from train.protocol import Network

STREAMS = ("spatial", "temporal")
PARITY_FILE, PARITY_SAMPLES = "parity.npz", 4
PARITY_TOLERANCE = 0.05  # of a score: INT8 kernels of two makers round apart
MAX_SCORE_DIFFERENCE = 0.02  # INT8 against FP32, mean over the validation clips
WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class ExportData:
    """What an export measures on. Validation clips choose, test clips only report.

    *_others: clips of actions that the bundle does not know. videos: the folder that the
    specification's clip names start from. parity_video: footage that may be passed on. graphs:
    where the FP32 ONNX files are left.
    """

    training: tuple[Clip, ...]
    graphs: Path
    validation: list[CachedClip]
    validation_others: list[CachedClip]
    test: list[CachedClip]
    test_others: list[CachedClip]
    parity_video: Path


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
    clips: int,
    seed: int,
    extra: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Make the bundle `out` and return its report.

    clips: how many training clips calibrate each stream. extra: further entries of the report.
    Nothing is at `out` until all of it is. Raises ExportError when INT8 is not faithful enough.
    """
    check_target(out)
    partial = out.with_name(out.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    specs = {stream: spec for stream, (_, spec) in pair.items()}
    graphs = {stream: data.graphs / f"{stream}.fp32.onnx" for stream in STREAMS}
    calibration = {
        stream: _quantise(network, spec, graphs[stream], data.training, partial, clips, seed, say)
        for stream, (network, spec) in pair.items()
    }
    networks = _networks(
        specs,
        {(stream, "fp32"): graphs[stream] for stream in STREAMS}
        | {(stream, "int8"): partial / f"{stream}.onnx" for stream in STREAMS},
    )
    fusion = FusionSpec(spatial_weight=1.0, temporal_weight=1.0, window_s=WINDOW_S, threshold=0.5)
    say("scores of the validation clips, FP32 and INT8")
    known = score_moments(data.validation, specs, networks)
    others = score_moments(data.validation_others, specs, networks)
    fusion = fit_weights(known, fusion)
    known, others = fuse_moments(known, fusion), fuse_moments(others, fusion)
    threshold = fit_threshold(known, others, WINDOW_S)
    fusion = fusion.model_copy(update={"threshold": threshold})
    validation = accuracy_report(known) | threshold_report(known, others, fusion)
    _gate(validation)
    say("scores of the test clips")
    test = fuse_moments(score_moments(data.test, specs, networks), fusion)
    test_others = fuse_moments(score_moments(data.test_others, specs, networks), fusion)
    manifest = _manifest(out.name, specs, fusion)
    _write_parity(partial, manifest, data.parity_video, networks)
    bundle = Bundle(partial, _with_hashes(partial, manifest))
    say("speed")
    report = {
        "classes": list(manifest.classes),
        "split": specs["spatial"].split,
        "calibration": calibration,
        "validation": validation,
        "test": accuracy_report(test) | threshold_report(test, test_others, fusion),
        "fusion": fusion.model_dump(),
        "speed": run_speed(bundle, [clip.clip.path for clip in data.test])
        | {"flow": flow_speed(bundle, data.test[0])},
        "machine": {
            "processor": _processor(),
            "cores": _cores(),
            "python": platform.python_version(),
        },
        "versions": {
            name: version(name) for name in ("torch", "timm", "onnx", "openvino", "numba")
        },
    } | extra
    (partial / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    write_manifest(partial, _with_hashes(partial, manifest))
    load_bundle(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return report


def _quantise(
    network: nn.Module,
    spec: NetworkSpec,
    fp32: Path,
    training: tuple[Clip, ...],
    folder: Path,
    clips: int,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write the INT8 file of one stream into the bundle's folder and say what it came from."""
    say(f"{spec.stream}: FP32 graph {fp32}")
    export_graph(network, spec, fp32)
    say(f"{spec.stream}: calibration on {clips} training clips")
    made = calibrate(fp32, training, clips, seed)
    write_model(made.model, spec, folder / f"{spec.stream}.onnx")
    for warning in made.samples.warnings:
        say(f"warning: {warning}")
    return {
        "clips": len(made.samples.clips),
        "samples": len(made.samples),
        "skipped": len(made.samples.skipped),
        "clips_a_class": made.samples.label_spread,
        "clip_list_sha256": made.samples.list_hash,
        "float_layers": float_layers(made.model),
        "mean_score_difference_held_out": round(made.difference.mean, 5),
        "fp32_onnx_sha256": sha256(fp32.read_bytes()),
    }


def _networks(
    specs: dict[str, NetworkSpec], files: dict[tuple[str, str], Path]
) -> dict[tuple[str, str], Network]:
    """The ONNX files as functions, on OpenVINO: FP32 has been checked against torch already."""

    def network(spec: NetworkSpec, file: Path) -> Network:
        shape = (1, spec.channels, *spec.geometry.size_hw)
        run = OpenVINONetwork(file.read_bytes(), str(file), shape, len(spec.classes))
        return lambda batch: np.concatenate([run(row[None]) for row in batch])

    return {key: network(specs[key[0]], file) for key, file in files.items()}


def _gate(validation: dict[str, Any]) -> None:
    for stream in (*STREAMS, "fused"):
        difference = validation[stream]["mean_score_difference"]
        if difference > MAX_SCORE_DIFFERENCE:
            raise ExportError(
                f"{stream}: INT8 scores differ from FP32 by {difference:.3f} on the validation "
                f"clips (at most {MAX_SCORE_DIFFERENCE}); calibrate on more clips"
            )


def _manifest(name: str, specs: dict[str, NetworkSpec], fusion: FusionSpec) -> Manifest:
    """All but the hashes."""
    spatial, temporal = specs["spatial"], specs["temporal"]
    assert temporal.stack is not None
    assert temporal.layout is not None
    files = ("spatial.onnx", "temporal.onnx", PARITY_FILE)
    return Manifest(
        schema_version=1,
        name=name,
        classes=spatial.classes,
        geometry=spatial.geometry,
        flow=spatial.flow,
        spatial=SpatialSpec(
            file="spatial.onnx",
            backbone=spatial.backbone,
            normalisation=spatial.normalisation,
            temperature=1.0,
        ),
        temporal=TemporalSpec(
            file="temporal.onnx",
            backbone=temporal.backbone,
            normalisation=temporal.normalisation,
            temperature=1.0,
            stack=temporal.stack,
            layout=temporal.layout,
        ),
        fusion=fusion,
        parity=ParitySpec(file=PARITY_FILE, tolerance=PARITY_TOLERANCE),
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


def _cores() -> int:
    return len(os.sched_getaffinity(0))
