"""From two checkpoints to a bundle: reproducible, and refused if INT8 loses too much."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge.bundle.manifest import load_bundle
from tests.support import tiny
from tests.support.clips import write_clip
from tests.support.command import twostream, twostream_after
from train.data.folders import footage_clips
from train.data.splits import footage_to_train

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Trained:
    data: Path
    spatial: Path
    temporal: Path
    video: Path
    work: Path

    def arguments(self, out: Path, *more: object, ranges: str = "mse") -> list[str]:
        words = ["export", self.data, out, "--parity-video", self.video, "--clips", 8]
        words += ["--ranges", ranges]
        words += ["--network", f"spatial={self.spatial}"]
        words += ["--network", f"temporal={self.temporal}"]
        words += ["--negatives", self.video.parent / "street"]
        words += ["--work", self.work, "--cache", self.data / "cache", *more]
        return [str(word) for word in words]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("export")
    data = tiny.write_dataset(root / "ucf")
    video = write_clip(root / "street.mp4", frames=40, codec="h264")
    (root / "street").mkdir()
    for count, name in enumerate(("morning", "noon", "evening", "night")):
        write_clip(root / "street" / f"{name}.mp4", frames=40 + count, codec="h264")
    seen = footage_to_train(footage_clips(root / "street"))
    files = (
        tiny.train(data, root / "runs", stream, footage=seen) for stream in ("spatial", "temporal")
    )
    return Trained(data, *files, video, root / "work")


@pytest.fixture(scope="module")
def bundle(trained: Trained) -> Path:
    """With networks of two epochs, which guess."""
    out = trained.work / "first" / "tiny"
    done = twostream(*trained.arguments(out, "--accept-loss", ranges="auto"))
    assert done.returncode == 0, done.stderr
    return out


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_the_same_inputs_give_the_same_bytes(trained: Trained, bundle: Path) -> None:
    out = trained.work / "second" / "tiny"
    words = trained.arguments(out, "--accept-loss", "--beside", bundle, ranges="auto")
    done = twostream(*words)
    assert done.returncode == 0, done.stderr
    assert hashes(out) == hashes(bundle)
    page = out.with_name("tiny.html").read_text()
    threshold = load_bundle(bundle).manifest.decision.threshold
    before_and_now = f'<td class="n">margin, threshold {threshold}</td>\n' * 2
    assert f"<tr><td>decision</td>{before_and_now}".replace("\n", "") in page.replace("\n", "")


def test_a_bundle_to_show_beside_must_have_a_report(
    trained: Trained, bundle: Path, tmp_path: Path
) -> None:
    earlier = shutil.copytree(bundle, tmp_path / "earlier")
    (earlier / "report.json").write_text("{}")
    out = tmp_path / "out"
    done = twostream(*trained.arguments(out, "--beside", earlier))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("report.json: is not the report of a bundle")
    assert not out.exists()


def test_the_report_and_the_page_describe_the_bundle(trained: Trained, bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    report = json.loads((bundle / "report.json").read_text())
    assert report["accepted_loss"] == manifest.accepted_loss
    assert manifest.accepted_loss is not None
    assert manifest.accepted_loss.startswith("networks are no better than chance")
    assert manifest.decision.false_alarm_rate == 0.01
    footage, reached = manifest.decision.footage, manifest.decision.test
    assert footage is not None
    assert reached is not None
    assert (footage.videos, footage.events) == (2, 0)
    assert (reached.right.clips, reached.other.clips) == (2, 2)
    assert report["decision"]["threshold"] == manifest.decision.threshold
    for stream in ("spatial", "temporal"):
        calibration = report["calibration"][stream]
        assert calibration["clips"] == sum(calibration["clips_a_class"].values()) == 8
        tried = calibration["mean_score_difference_by_ranges"]
        assert tried[calibration["ranges"]] == min(tried.values())
        temperature = report["validation"]["confidence"][stream]["temperature"]
        assert manifest.streams[stream].temperature == temperature
    page = bundle.with_name("tiny.html").read_text()
    for words in (
        "data:image/png;base64",
        "Drumming",
        manifest.files["temporal.onnx"],
        "--clips 8",
        "Labels and unknown",
        f"once its margin is {manifest.decision.threshold}",
    ):
        assert words in page
    done = twostream("verify", bundle)
    assert done.returncode == 0, done.stderr


def test_video_that_was_trained_on_chooses_no_threshold(trained: Trained, tmp_path: Path) -> None:
    for clip in footage_to_train(footage_clips(trained.video.parent / "street")):
        shutil.copy(clip.path, tmp_path / f"copy-of-{clip.path.name}")
    done = twostream(*trained.arguments(tmp_path / "out", "--negatives", tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        f"{tmp_path}: the networks were trained on all of its videos; a threshold needs some that "
        "they have not seen"
    )


def test_a_bundle_that_loses_too_much_is_refused_unless_accepted(
    trained: Trained, tmp_path: Path
) -> None:
    strict = "import export.gate; export.gate.SCORE_DIFFERENCE_MAX = -1.0"
    out = tmp_path / "lossy"
    refused = twostream_after(strict, *trained.arguments(out))
    assert refused.returncode == 2
    fault = refused.stderr.splitlines()[-1]
    assert "spatial scores differ by" in fault
    assert "--accept-loss" in fault
    assert list(tmp_path.iterdir()) == []
    accepted = twostream_after(strict, *trained.arguments(out, "--accept-loss"))
    assert accepted.returncode == 0, accepted.stderr
    loss = load_bundle(out).manifest.accepted_loss
    assert loss is not None
    assert "spatial scores differ by" in loss
    run = twostream("run", out, trained.video)
    assert f"this bundle was made although {loss}" in " ".join(run.stderr.split())


def test_without_unknown_the_classes_alone_become_a_bundle(
    trained: Trained, tmp_path: Path
) -> None:
    data, out = tmp_path / "own", tmp_path / "bundles" / "best"
    for label in tiny.CLASSES:
        folder = Path("UCF-101") / label
        shutil.copytree(trained.data / folder, data / folder)
    shutil.copytree(trained.data / "ucfTrainTestlist", data / "ucfTrainTestlist")
    own = replace(trained, data=data)
    refused = twostream(*own.arguments(out, "--accept-loss"))
    assert refused.returncode == 2
    assert "no clip of other actions" in refused.stderr
    assert "twostream export --no-unknown" in refused.stderr
    both = twostream(*own.arguments(out, "--accept-loss", "--no-unknown"))
    assert both.returncode == 2
    assert "--negatives: is for the threshold of unknown" in both.stderr
    words = own.arguments(out, "--accept-loss", "--no-unknown")
    at = words.index("--negatives")
    done = twostream(*words[:at], *words[at + 2 :])
    assert done.returncode == 0, done.stderr
    assert "the best class is always shown" in " ".join(done.stderr.split())
    decision = load_bundle(out).manifest.decision
    assert (decision.kind, decision.threshold) == ("best", None)
    page = out.with_name("best.html").read_text()
    assert "has no <b>unknown</b>" in page
    assert "other actions with a label" not in page


def test_a_network_that_guesses_is_refused(trained: Trained, tmp_path: Path) -> None:
    done = twostream(*trained.arguments(tmp_path / "guessing"))
    assert done.returncode == 2
    fault = done.stderr.splitlines()[-1]
    assert "no better than chance: right of 2 validation clips of 2 classes (at least 2): " in fault
    assert "train a network at chance anew" in fault
    assert list(tmp_path.iterdir()) == []


def test_calibrate_ranks_layers_and_accepts_unlabelled_video(
    trained: Trained, bundle: Path
) -> None:
    fp32, out = trained.work / "temporal.fp32.onnx", trained.work / "own.onnx"
    picture = trained.work / "layers.png"
    done = twostream(
        *("calibrate", fp32, trained.data, "--clips", 8, "--ranges", "entropy", "--out", out),
        *("--sensitivity", picture, "--cache", trained.data / "cache", "--table", "10.3.0"),
    )
    assert done.returncode == 0, done.stderr
    assert "ranges: entropy" in done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    losses = [float(row[1]) for row in rows]
    assert len(rows) == 50
    assert losses == sorted(losses, reverse=True)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert twostream("lint", out, "--table", f"{out}.cache").returncode == 0
    folder = trained.work / "recordings"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        write_clip(folder / name, frames=30, codec="h264")
    done = twostream(
        *("calibrate", fp32, folder, "--unlabelled", "--clips", 8, "--ranges", "mse"),
        *("--out", out, "--cache", trained.work),
    )
    assert done.returncode == 0, done.stderr
    assert "(unlabelled) 4" in done.stderr
