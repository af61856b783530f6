"""Networks over time beside the picture and flow: trained, evaluated, exported, run on a video."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.bundle.manifest import load_bundle
from tests.support import tiny
from tests.support.clips import write_clip
from tests.support.command import twostream

pytestmark = pytest.mark.slow
QUICK = ("network.size_px=32", "schedule.epochs=1", "sampling.repeats=1")
ONLINE = (*QUICK, "network.shift=0.125", "sampling.frames=4", "sampling.stride=2")
CLIP = (*QUICK, "network.backbone=resnet10t", "sampling.frames=4", "sampling.stride=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("over_time") / "ucf")


@pytest.fixture(scope="module")
def runs(data: Path) -> dict[str, Path]:
    """Checkpoints by the name of their stream; none has learnt much."""
    out = data.parent / "runs"
    return {
        "spatial": tiny.train(data, out, "spatial", *QUICK),
        "temporal": tiny.train(data, out, "temporal", *QUICK),
        "online": tiny.train(data, out, "spatial", *ONLINE),
        "flows": tiny.train(data, out, "temporal", *CLIP),
    }


def networks(runs: dict[str, Path]) -> list[str]:
    return [word for name in runs for word in ("--network", f"{name}={runs[name]}")]


def test_each_run_has_a_folder_of_its_own(runs: dict[str, Path]) -> None:
    streams = [checkpoint.parent.name.split("-")[1] for checkpoint in runs.values()]
    assert streams == ["spatial", "temporal", "spatial_online", "temporal_clip"]


def test_they_are_evaluated_on_the_same_snippets(data: Path, runs: dict[str, Path]) -> None:
    done = twostream("evaluate", data, *networks(runs), "--samples", 2, "--cache", data / "cache")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout + done.stderr for name in runs)


def test_a_bundle_of_all_of_them_runs(data: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    video = write_clip(tmp_path / "street.mp4", frames=30, codec="h264")
    bundle, labels = tmp_path / "four", tmp_path / "labels.jsonl"
    words = [data, bundle, "--parity-video", video, "--clips", 8, "--ranges", "mse"]
    words += [*networks(runs), "--accept-loss", "--work", tmp_path / "work"]
    done = twostream("export", *words, "--cache", data / "cache")
    assert done.returncode == 0, done.stderr
    manifest = load_bundle(bundle).manifest
    kinds = [stream.input.kind for stream in manifest.streams.values()]
    assert kinds == ["rgb", "flow", "rgb_online", "flow_clip"]
    done = twostream("run", bundle, video, "--device", "cpu", "--json", labels)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in labels.read_text().splitlines()]
    running = [record for record in records if record.get("state") == "running"]
    assert len(running) == 30 - manifest.history
    assert all(list(record["streams"]) == list(runs) for record in running)
    done = twostream("verify", bundle, "--device", "cpu")
    assert done.returncode == 0, done.stderr
