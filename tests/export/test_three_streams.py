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
ONLINE = ("network.shift=0.125", "sampling.frames=4", "sampling.stride=2")
CLIP = ("network.backbone=resnet10t", "sampling.frames=4", "sampling.stride=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("three") / "ucf")


@pytest.fixture(scope="module")
def runs(data: Path) -> dict[str, Path]:
    """Checkpoints of five streams by name; none has learnt much."""
    out = data.parent / "runs"
    return {
        "spatial": tiny.train(data, out, "spatial"),
        "temporal": tiny.train(data, out, "temporal"),
        "online": tiny.train(data, out, "spatial", *ONLINE),
        "pictures": tiny.train(data, out, "spatial", *CLIP),
        "flows": tiny.train(data, out, "temporal", *CLIP),
    }


def networks(runs: dict[str, Path], *names: str) -> list[str]:
    return [word for name in names for word in ("--network", f"{name}={runs[name]}")]


def test_each_run_has_a_folder_of_its_own(runs: dict[str, Path]) -> None:
    streams = [checkpoint.parent.name.split("-")[1] for checkpoint in runs.values()]
    assert streams == ["spatial", "temporal", "spatial_online", "spatial_clip", "temporal_clip"]


def test_they_are_evaluated_on_the_same_snippets(data: Path, runs: dict[str, Path]) -> None:
    done = twostream("evaluate", data, *networks(runs, *runs), "--cache", data / "cache")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout + done.stderr for name in runs)


@pytest.mark.parametrize("third", ["online", "pictures", "flows"])
def test_a_bundle_of_three_streams_runs(
    third: str, data: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    video = write_clip(tmp_path / "street.mp4", frames=40, codec="h264")
    bundle = tmp_path / "three"
    words = [data, bundle, "--parity-video", video, "--clips", 8, "--ranges", "mse"]
    words += [*networks(runs, "spatial", "temporal", third), "--accept-loss"]
    words += ["--work", tmp_path / "work", "--cache", data / "cache"]
    done = twostream("export", *map(str, words))
    assert done.returncode == 0, done.stderr
    manifest = load_bundle(bundle).manifest
    assert list(manifest.streams) == ["spatial", "temporal", third]
    labels = tmp_path / "labels.jsonl"
    done = twostream("run", bundle, video, "--device", "cpu", "--json", labels)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in labels.read_text().splitlines()]
    running = [record for record in records if record.get("streams")]
    assert len(running) == 40 - manifest.history
    assert all(list(record["streams"]) == list(manifest.streams) for record in running)
    done = twostream("verify", bundle, "--device", "cpu")
    assert done.returncode == 0, done.stderr
