"""From scores of training clips to a bundle whose fusion is recurrent, and to its labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge.bundle.manifest import RecurrentLogits, load_bundle
from edge.decision.fusion import softmax
from edge.devices import open_device
from edge.errors import CheckpointError, ExportError
from edge.sources.source import open_source
from export.decision import FitData, add_fused, confidence_report, fit_decision
from export.measure import PRECISIONS, SAMPLES, SnippetScores
from export.recurrent import RecurrentFile, export_recurrent, load_for
from tests.support import tiny
from tests.support.cached import moments_of
from tests.support.clips import write_clip
from tests.support.command import assert_refused, read_lines, twostream, twostream_after
from tests.support.recurrent import network, origin
from train.data.cache import CachedClip
from train.data.clips import Clip
from train.data.timeline import Timeline
from train.evaluation.recurrent import Sequences, fit_recurrent, load_recurrent, write_recurrent
from train.streams import FUSED

CLASSES = ("a", "b", "c")
STREAMS = ("spatial", "temporal")


def in_order(clips: int, seed: int) -> SnippetScores:
    """Clips of classes that differ in the order of two events alone, which no mean can tell; the
    third class has neither."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, clips)
    logits = {name: rng.normal(0, 0.5, (clips, SAMPLES, 3)).astype(np.float32) for name in STREAMS}
    for row, kind in enumerate(truth):
        if kind < 2:
            logits["spatial"][row, 2 + rng.integers(0, 3), kind] += 8
            logits["spatial"][row, 6 + rng.integers(0, 3), 1 - kind] += 8
    return scored(logits, truth)


def plain(clips: int, seed: int) -> SnippetScores:
    """Clips whose snippets say alike and by themselves what they are."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, clips)
    logits = {name: rng.normal(0, 1, (clips, SAMPLES, 3)).astype(np.float32) for name in STREAMS}
    for values in logits.values():
        values += rng.normal(0, 1, (clips, 1, 3))
        values[np.arange(clips), :, truth] += 2
    return scored(logits, truth)


def scored(logits: Mapping[str, Any], truth: Any) -> SnippetScores:
    times = Timeline(tuple(index / 25 for index in range(200)))
    clips = [
        CachedClip(
            Clip(str(n), Path(), CLASSES[t], str(n % 20)), (32, 32), times, "bt601", Path(), "", ()
        )
        for n, t in enumerate(truth)
    ]
    by_logits = {(name, kind): logits[name] for name in STREAMS for kind in PRECISIONS}
    scores = {key: softmax(values, 1.0) for key, values in by_logits.items()}
    return SnippetScores(clips, CLASSES, 10, by_logits, scores)


def fit_data(positives: SnippetScores) -> FitData:
    own, others = moments_of(positives), moments_of(plain(40, 3))
    nothing = replace(others, clips=[], logits={name: [] for name in STREAMS})
    return FitData(positives, own, others, nothing)


def fitted(train: SnippetScores) -> RecurrentFile:
    inputs = np.concatenate([train.logits[name, "fp32"] for name in STREAMS], axis=2)
    network = fit_recurrent("causal", Sequences(inputs, train.truth), None, CLASSES, 1)
    return RecurrentFile(network, origin(STREAMS))


@pytest.mark.slow
def test_it_is_taken_where_validation_says_so(tmp_path: Path) -> None:
    file = fitted(in_order(300, 1))
    candidate = export_recurrent(file, tmp_path)
    positives = in_order(150, 2)
    decision = fit_decision(fit_data(positives), 0.05, candidate)
    assert isinstance(decision.fusion, RecurrentLogits)
    held_out = decision.kinds["held_out"]
    assert list(held_out)[-1] == "recurrent"
    others = [row["cross_entropy"] for kind, row in held_out.items() if kind != "recurrent"]
    assert held_out["recurrent"]["cross_entropy"] < min(others) - 0.05
    assert decision.fusion.inputs == STREAMS
    assert (decision.spec.kind, decision.spec.false_alarm_rate) == ("margin", 0.05)
    fused = add_fused(positives, decision).by_network[FUSED, "int8"]
    with torch.inference_mode():
        inputs = np.concatenate([positives.logits[name, "int8"] for name in STREAMS], axis=2)
        logits = file.network(torch.from_numpy(inputs)).numpy()
    expected = softmax(logits, decision.fusion.temperature)
    np.testing.assert_allclose(fused, expected, atol=1e-4)
    report = confidence_report(positives, decision)[FUSED]
    assert report["temperature"] == decision.fusion.temperature
    assert report["error_after"] <= report["error_before"] + 0.01


@pytest.mark.slow
def test_it_is_not_taken_where_a_mean_does_as_well(tmp_path: Path) -> None:
    candidate = export_recurrent(fitted(plain(60, 1)), tmp_path)
    decision = fit_decision(fit_data(plain(150, 2)), 0.05, candidate)
    assert decision.fusion.kind != "recurrent"
    assert decision.network is None
    assert "recurrent" in decision.kinds["held_out"]
    few = fit_decision(fit_data(plain(40, 2)), 0.05, candidate)
    assert few.fusion.kind == "arithmetic"
    assert "too few to choose by" in few.kinds["rule"]


def test_weights_that_are_not_finite_are_not_exported(tmp_path: Path) -> None:
    broken = network(6, CLASSES)
    with torch.no_grad():
        broken.gru.bias_ih_l0.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(ExportError, match="are the weights finite"):
        export_recurrent(RecurrentFile(broken, origin(STREAMS)), tmp_path)


# The chain of commands ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    data: Path
    checkpoints: dict[str, Path]
    fusion: Path
    video: Path
    work: Path

    def arguments(self, out: Path, *more: object) -> list[str]:
        words = ["export", self.data, out, "--parity-video", self.video, "--clips", 4]
        words += ["--ranges", "min-max", "--accept-loss"]
        words += [w for n, f in self.checkpoints.items() for w in ("--network", f"{n}={f}")]
        words += ["--work", self.work, "--cache", self.data / "cache", *more]
        return [str(word) for word in words]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root = tmp_path_factory.mktemp("chain")
    data = tiny.write_dataset(root / "ucf")
    checkpoints = {stream: tiny.train(data, root / "runs", stream) for stream in STREAMS}
    words: list[object] = ["evaluate", data, "--cache", data / "cache", "--samples", 3]
    words += [w for n, f in checkpoints.items() for w in ("--network", f"{n}={f}")]
    done = twostream(*words, "--for-fusion", "--scores", root / "s.npz")
    assert done.returncode == 0, done.stderr
    done = twostream("fuse", root / "s.npz", "--out", root / "fusion.safetensors")
    assert done.returncode == 0, done.stderr
    video = write_clip(root / "street.mp4", frames=40, codec="h264")
    return Chain(data, checkpoints, root / "fusion.safetensors", video, root / "work")


# Clips so few that validation would not choose anything: it is told to.
TOLD = """
import export.decision, train.evaluation.fusion_fit as fit
fit.MIN_CLIPS, fit.choose_kind = 1, lambda results: list(results)[-1]
export.decision.WINDOW_S = 0.0
"""


@pytest.mark.slow
def test_train_fuse_export_run(chain: Chain, tmp_path: Path) -> None:
    out = tmp_path / "b"
    done = twostream_after(TOLD, *chain.arguments(out, "--fusion", chain.fusion))
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(out)
    spec = bundle.manifest.fusion
    assert isinstance(spec, RecurrentLogits)
    causal, origin = load_recurrent(chain.fusion)
    assert (spec.inputs, spec.interval_s) == (origin.streams, origin.interval_s)
    report = json.loads((out / "report.json").read_text())
    assert report["fusion"]["kind"] == "recurrent"
    assert "recurrent" in report["fusion"]["kinds"]["held_out"]
    assert "recurrent" in out.with_name("b.html").read_text()
    assert twostream("verify", out).returncode == 0
    run = twostream("run", out, chain.video, "--json", tmp_path / "o.jsonl")
    assert run.returncode == 0, run.stderr
    lines = [line for line in read_lines(tmp_path / "o.jsonl")[0] if line["state"] == "running"]
    shown = [dict(map(tuple, line["top"])) for line in lines]
    expected = labels_offline(out, chain.video, causal, spec)
    assert len(shown) == len(expected) == 30
    for top, scores in zip(shown, expected, strict=True):
        for name, score in zip(tiny.CLASSES, scores, strict=True):
            assert top[name] == pytest.approx(score, abs=2e-3)


def labels_offline(
    out: Path, video: Path, causal: torch.nn.Module, spec: RecurrentLogits
) -> list[Any]:
    """What torch's causal network gives for each frame of a video."""
    device = open_device("cpu", load_bundle(out))
    context, times, logits = device.open_context(), [], []
    with open_source(str(video)) as source:
        for frame in source:
            inference = context.submit(frame, infer=True).result()
            if inference is not None:
                times.append(frame.time_s)
                logits.append(np.concatenate([inference.logits[name] for name in spec.inputs]))
    device.close()
    snippets: list[Any] = []
    expected, moved_s = [], -np.inf
    for time_s, row in zip(times, logits, strict=True):
        with torch.inference_mode():
            fused = causal(torch.from_numpy(np.stack([*snippets, row])[None]))[0, -1].numpy()
        expected.append(softmax(fused, spec.temperature))
        if time_s - moved_s >= spec.interval_s - 1e-3:
            snippets.append(row)
            moved_s = time_s
    return expected


@pytest.mark.slow
def test_with_too_few_clips_it_stays_out_and_export_says_so(chain: Chain, tmp_path: Path) -> None:
    out = tmp_path / "b"
    done = twostream(*chain.arguments(out, "--fusion", chain.fusion))
    assert done.returncode == 0, done.stderr
    assert not (out / "fusion.onnx").exists()
    assert load_bundle(out).manifest.fusion.kind == "arithmetic"
    (said,) = [line for line in done.stderr.splitlines() if "not taken" in line]
    assert "fusion.safetensors: not taken: arithmetic" in said
    assert "too few to choose by" in said


@pytest.mark.slow
def test_a_fusion_of_other_networks_is_refused(chain: Chain, tmp_path: Path) -> None:
    causal, found = load_recurrent(chain.fusion)
    spec = tiny_spec(chain)
    path = tmp_path / "other.safetensors"
    for change, says in (
        ({"split": 2}, "was fitted on split 2, the networks were trained on split 1"),
        ({"streams": ("spatial",)}, "fuses spatial, the bundle has spatial, temporal"),
        (
            {"checkpoints": found.checkpoints | {"temporal": "0" * 64}},
            "was fitted on the scores of another temporal network",
        ),
    ):
        write_recurrent(path, causal, replace(found, **change))
        with pytest.raises(ExportError, match=says):
            load_for(path, chain.checkpoints, spec)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="not a recurrent fusion of `twostream fuse --out`"):
        load_for(path, chain.checkpoints, spec)
    refused = twostream(*chain.arguments(tmp_path / "b", "--fusion", path))
    assert_refused(refused, path, "not a recurrent fusion")
    assert not (tmp_path / "b").exists()


def tiny_spec(chain: Chain) -> Any:
    from train.models.checkpoint import load_checkpoint

    return load_checkpoint(chain.checkpoints["spatial"])[1]
