"""Writes a bundle from checkpoints: INT8 networks, decision, parity samples, report, manifest."""

from __future__ import annotations

import logging
import platform
import shutil
from dataclasses import dataclass, field, replace
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
from edge.errors import ExportError
from edge.inputs.builder import motions_of
from edge.motion.method import need_vectors
from edge.sources.source import open_source
from edge.video.frames import Frame, default_matrix
from export.calibrate import describe, summarise
from export.confidence import Bin
from export.decision import (
    Decision,
    FitData,
    add_fused,
    confidence_report,
    fit_decision,
    reliability_of,
    shortfalls,
    with_test,
)
from export.gate import missed_rates, no_better_than_chance, too_much_lost
from export.graph import export_graph
from export.measure import (
    ExportedNetwork,
    LeftOutChanges,
    SnippetScores,
    accuracy_report,
    open_networks,
    score_moments,
    score_snippets,
)
from export.parity import make_parity
from export.recurrent import FILE as FUSION_FILE
from export.recurrent import RecurrentCandidate, RecurrentFile, export_recurrent
from train.commands.arguments import named_as_trained
from train.data.cache import CachedClip, ClipCache
from train.data.clips import Clip
from train.data.snippets import evenly_spaced, tensor_at
from train.evaluation.held_out import clip_lists, differing_part
from train.json_file import write_json
from train.models.checkpoint import find_checkpoint, load_checkpoint
from train.streams import FUSED

logger = logging.getLogger(__name__)

Networks = dict[str, tuple[nn.Module, NetworkSpec]]  # by stream
PARITY_FILE, PARITY_SAMPLES = "parity.npz", 4
PARITY_TOLERANCE = 0.05  # of a score, since INT8 kernels of different libraries round differently
CHECKED_CLIPS = 4  # validation clips on whose middle snippets torch and ONNX are compared


@dataclass(frozen=True, slots=True)
class ExportData:
    """The clips of an export. Networks are calibrated on training clips, the decision is fitted on
    validation clips, and test clips are only reported on.

    graphs: folder that the FP32 ONNX files are written to. cache: of all these clips.
    *_negatives: clips of other actions. footage: video that shows none of the classes, which the
    threshold has to hold on. parity_video: a video that may be published. recurrent: a fusion that
    is taken if it is better than every mean on validation clips. left_out: for networks that were
    trained on these clips, too; see `score_snippets`.
    """

    training: tuple[Clip, ...]
    graphs: Path
    cache: ClipCache
    validation: list[CachedClip]
    validation_negatives: list[CachedClip]
    test: list[CachedClip]
    test_negatives: list[CachedClip]
    footage: list[CachedClip]
    parity_video: Path
    recurrent: RecurrentFile | None
    left_out: LeftOutChanges = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of an export.

    clips: number of training clips that each stream is calibrated on; seed: for choosing them.
    ranges: see calibration/ranges.py. false_alarms: the accepted share of moments of other actions
    that show a label, 0 to 1; None shows the best class always, never "unknown". accept_loss: write
    the bundle even if INT8 loses too much accuracy, a network is no better than chance, or labels
    on other actions are too many.
    """

    clips: int
    seed: int
    ranges: Method | Literal["auto"]
    false_alarms: float | None
    accept_loss: bool


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that has been written, its report, and more for its page."""

    bundle: Bundle
    report: dict[str, Any]
    reliability: dict[str, list[Bin]]  # by stream and "fused", of the test clips
    layers: dict[str, list[tuple[str, str, str]]]  # by stream: operator, name, precision


def load_networks(paths: dict[str, Path]) -> Networks:
    """The networks of checkpoints, by stream. Raises CheckpointError if one cannot be loaded,
    DataError if one is of another stream than its name says, and ExportError if they cannot be in
    one bundle.
    """
    networks = {stream: load_checkpoint(path)[:2] for stream, path in paths.items()}
    for stream, (network, spec) in networks.items():
        named_as_trained(paths[stream], spec.stream, stream)
        networks[stream] = network, spec.model_copy(update={"stream": stream})
    lists = {s: clip_lists(find_checkpoint(paths[s]), spec) for s, (_, spec) in networks.items()}
    (first, (_, first_spec)), *rest = networks.items()
    for stream, (_, spec) in rest:
        for key in ("classes", "geometry", "split"):
            if getattr(first_spec, key) != getattr(spec, key):
                raise ExportError(
                    f"{paths[first]} and {paths[stream]} differ in {key}; "
                    "train all streams with the same options"
                )
        if (part := differing_part(lists[first], lists[stream])) is not None:
            raise ExportError(
                f"{paths[first]} and {paths[stream]} differ in their {part} clips; "
                "train all streams on the same data with the same options"
            )
        if first_spec.input.interval_s != spec.input.interval_s:
            raise ExportError(
                f"{paths[first]} and {paths[stream]} differ in the interval between frames; "
                "train all streams with the same options"
            )
    return networks


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
    """Write the bundle `out`, atomically. The same inputs give the same bytes.

    extra: further entries of the report. Raises ExportError if `out` is something other than a
    bundle, and if a gate is not passed (see export/gate.py) unless that is accepted.
    """
    check_target(out)
    partial = out.with_name(out.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    specs = {stream: spec for stream, (_, spec) in networks.items()}
    graphs = {stream: data.graphs / f"{stream}.fp32.onnx" for stream in specs}
    quantised = {
        stream: _quantise(network, spec, graphs[stream], data, partial, options)
        for stream, (network, spec) in networks.items()
    }
    calibration = {stream: entry for stream, (entry, _) in quantised.items()}
    files = {(stream, "fp32"): graphs[stream] for stream in specs}
    files |= {(stream, "int8"): partial / f"{stream}.onnx" for stream in specs}
    recurrent = None if data.recurrent is None else export_recurrent(data.recurrent, partial)
    measured = _measure(data, specs, open_networks(specs, files), options, recurrent)
    if recurrent is not None and measured.decision.network is None:
        (partial / FUSION_FILE).unlink()
    if measured.loss is not None and not options.accept_loss:
        shutil.rmtree(partial)
        raise ExportError(
            f"{measured.loss}; train a network at chance anew; for INT8 calibrate on more clips "
            "or fine-tune with `twostream train --qat`; for labels on other actions train and "
            "validate on more clips of them; or give --accept-loss"
        )
    inputs = [spec.input for spec in specs.values()]
    history, vectors = max(i.history for i in inputs), need_vectors(motions_of(inputs))
    frames = parity_frames(data.parity_video, history, vectors)
    manifest = _manifest(out.name, specs, measured, frames[0].size_hw)
    manifest = _with_hashes(partial, manifest)
    write_parity(partial / PARITY_FILE, make_parity(Bundle(partial, manifest), frames))
    report = _report(manifest, specs, measured, calibration) | extra
    write_json(partial / "report.json", report)
    write_manifest(partial, _with_hashes(partial, manifest))
    load_bundle(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    layers = {stream: layer_precisions(model) for stream, (_, model) in quantised.items()}
    return Exported(load_bundle(out), report, measured.reliability, layers)


@dataclass(frozen=True, slots=True)
class _Measured:
    """The decision, and the accuracy on validation and test clips. loss: the networks at
    chance, and the accuracy that INT8 loses if it is too much, as text. reliability: by stream and
    "fused", of the test clips.
    """

    decision: Decision
    validation: dict[str, Any]
    test: dict[str, Any]
    loss: str | None
    reliability: dict[str, list[Bin]]


def _measure(
    data: ExportData,
    specs: dict[str, NetworkSpec],
    networks: dict[tuple[str, str], ExportedNetwork],
    options: ExportOptions,
    recurrent: RecurrentCandidate | None,
) -> _Measured:
    logger.info("scores of the validation clips, FP32 and INT8")
    snippets = score_snippets(data.validation, specs, networks, data.left_out)
    own = score_moments(data.validation, specs, networks, data.left_out)
    others = score_moments(data.validation_negatives, specs, networks, data.left_out)
    footage = score_moments(data.footage, specs, networks)
    fit_data = FitData(snippets, own, others, footage)
    decision = fit_decision(fit_data, options.false_alarms, recurrent)
    validation = _accuracy(snippets, decision)
    chance = no_better_than_chance(validation, snippets.streams, len(snippets.classes))
    lost = too_much_lost(validation, snippets.streams)
    loss = "; ".join(filter(None, (chance, lost))) or None
    if loss is not None and not options.accept_loss:
        return _Measured(decision, validation, {}, loss, {})
    logger.info("scores of the test clips")
    snippets = score_snippets(data.test, specs, networks, data.left_out)
    own = score_moments(data.test, specs, networks, data.left_out)
    others = score_moments(data.test_negatives, specs, networks, data.left_out)
    decision = with_test(decision, own, others)
    loss = "; ".join(filter(None, (loss, missed_rates(decision.spec)))) or None
    return _Measured(
        decision,
        validation,
        _accuracy(snippets, decision),
        loss,
        {name: reliability_of(snippets, decision, name) for name in (*snippets.streams, FUSED)},
    )


def _report(
    manifest: Manifest,
    specs: dict[str, NetworkSpec],
    measured: _Measured,
    calibration: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    return {
        "classes": list(manifest.classes),
        "split": next(iter(specs.values())).split,
        "calibration": calibration,
        "validation": measured.validation,
        "test": measured.test,
        "fusion": manifest.fusion.model_dump()
        | {"weights": measured.decision.weights, "kinds": measured.decision.kinds},
        "decision": manifest.decision.model_dump() | {"shortfalls": shortfalls(manifest.decision)},
        "accepted_loss": measured.loss,
        "machine": {"processor": _processor(), "python": platform.python_version()},
        "versions": {
            name: version(name)
            for name in ("torch", "timm", "onnx", "onnxruntime", "openvino", "numba")
        },
    }


def _accuracy(snippets: SnippetScores, decision: Decision) -> dict[str, Any]:
    """The report's entry for validation or test clips."""
    scores = add_fused(snippets, decision)
    return {**accuracy_report(scores), "confidence": confidence_report(scores, decision)}


def _quantise(
    network: nn.Module,
    spec: NetworkSpec,
    fp32: Path,
    data: ExportData,
    folder: Path,
    options: ExportOptions,
) -> tuple[dict[str, Any], onnx.ModelProto]:
    """Write the INT8 file of one stream into `folder`. Returns its calibration, for the report, and
    the INT8 model. fp32: the ONNX file that is written before.
    """
    logger.info("%s: FP32 graph %s", spec.stream, fp32)
    clips = data.validation[:: max(len(data.validation) // CHECKED_CLIPS, 1)]
    history = spec.input.history
    inputs = [tensor_at(clip, evenly_spaced(clip, history, 3)[1], spec) for clip in clips]
    export_graph(network, spec, fp32, inputs)
    samples = draw_samples(spec, data.training, options.clips, options.seed, data.cache)
    logger.info("%s: calibration on %d training clips", spec.stream, len(samples.clips))
    quantised = calibrate(load_model(fp32)[0], samples, options.ranges)
    write_model(quantised.model, spec, folder / f"{spec.stream}.onnx")
    for line in describe(spec, samples, quantised)[2:]:
        logger.info("%s", line)
    entry = summarise(samples, quantised) | {"fp32_onnx_sha256": sha256(fp32.read_bytes())}
    return entry, quantised.model


def _manifest(
    name: str, specs: dict[str, NetworkSpec], measured: _Measured, size_hw: tuple[int, int]
) -> Manifest:
    """The manifest with placeholders for the hashes. size_hw: of the parity frames."""
    first_spec, decision = next(iter(specs.values())), measured.decision
    streams = {
        stream: StreamSpec(
            file=f"{stream}.onnx",
            backbone=spec.backbone,
            input=spec.input,
            normalisation=spec.normalisation,
            temperature=decision.temperature(stream),
            weight=decision.weights[stream],
        )
        for stream, spec in specs.items()
    }
    files = [*(stream.file for stream in streams.values()), PARITY_FILE]
    if decision.network is not None:
        files.append(FUSION_FILE)
    return Manifest(
        schema_version=4,
        name=name,
        classes=first_spec.classes,
        geometry=first_spec.geometry,
        streams=streams,
        fusion=decision.fusion,
        decision=decision.spec,
        parity=ParitySpec(file=PARITY_FILE, size_hw=size_hw, tolerance=PARITY_TOLERANCE),
        accepted_loss=measured.loss,
        files=dict.fromkeys(files, "0" * 64),
    )


def _with_hashes(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest with the hashes of the files that are in the folder."""
    hashes = {f.name: sha256(f.read_bytes()) for f in sorted(folder.iterdir()) if f.is_file()}
    content = manifest.model_dump(by_alias=True)
    return Manifest.model_validate(content | {"files": manifest.files | hashes})


def parity_frames(video: Path, history: int, vectors: bool = False) -> list[Frame]:
    """The consecutive frames in the middle of a video that give PARITY_SAMPLES inputs of each
    network, as a parity file holds them.

    history: the largest of all networks. vectors: with motion vectors. Raises ExportError if
    the video is too short or has an odd width or height.
    """
    count = history + PARITY_SAMPLES
    with open_source(str(video)) as source:
        total = sum(1 for _ in source)
    if total < count:
        raise ExportError(f"{video}: {total} frames are too few; parity samples need {count}")
    first = (total - count) // 2
    with open_source(str(video), vectors=vectors) as source:
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
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
