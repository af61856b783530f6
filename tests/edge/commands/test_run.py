"""`twostream run` end to end, with the bundle that the repository ships."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from edge.bundle.manifest import MANIFEST, load_bundle
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer, RunConfig, label_video
from edge.devices import open_device
from edge.outputs.records import label_record
from edge.sources.source import open_source
from tests.support.clips import write_clip, write_timed_clip
from tests.support.command import (
    TWOSTREAM,
    Running,
    assert_refused,
    growing,
    read_lines,
    twostream,
)
from tests.support.waiting import BOUND_S

pytestmark = pytest.mark.slow

KEYS = [
    "source",
    "frame",
    "time",
    "state",
    "label",
    "score",
    "open_set",
    "top",
    "streams",
    "latency_ms",
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, light_bundle: Path) -> Path:
    """A folder with clip.avi, 40 frames, and what `run` made of it: out.mp4 and out.jsonl."""
    folder = tmp_path_factory.mktemp("recorded")
    clip = write_clip(folder / "clip.avi", frames=40)
    done = twostream(
        "run", light_bundle, clip, "--video", folder / "out.mp4", "--json", folder / "out.jsonl"
    )
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_every_frame_has_a_line_and_the_summary_is_the_last(recorded: Path) -> None:
    labels, summary = read_lines(recorded / "out.jsonl")
    assert [line["frame"] for line in labels] == list(range(40))
    assert all(list(line) == KEYS for line in labels)
    np.testing.assert_allclose([line["time"] for line in labels], np.arange(40) / 25, atol=1e-3)
    assert summary["frames"] == summary["expected_frames"] == 40
    assert summary["dropped"] == summary["skipped"] == summary["gaps"] == 0
    for stage in ("decode", "resize", "flow", "spatial", "temporal", "fusion", "output", "latency"):
        assert 0 < summary["stages_ms"][stage]["p50"] <= summary["stages_ms"][stage]["p95"]


def test_it_warms_up_for_one_stack(recorded: Path) -> None:
    labels, _ = read_lines(recorded / "out.jsonl")
    assert [line["state"] for line in labels] == ["warming up"] * 10 + ["running"] * 30
    for line in labels[:10]:
        assert (line["label"], line["score"], line["open_set"]) == (None, None, None)
        assert (line["top"], line["streams"]) == (
            [],
            {"spatial": None, "temporal": None},
        )
    for line in labels[10:]:
        assert len(line["top"]) == 5
        scores = [score for _, score in line["top"]]
        assert scores == sorted(scores, reverse=True)
        assert line["score"] in scores
        assert line["label"] in (*(name for name, _ in line["top"]), "unknown")


def test_a_label_is_shown_by_the_score_that_decides_and_not_by_the_confidence(
    recorded: Path, light_bundle: Path
) -> None:
    spec = load_bundle(light_bundle).manifest.decision
    labels, summary = read_lines(recorded / "out.jsonl")
    before = "unknown"
    for line in labels[10:]:
        score, threshold = line["open_set"]["score"], line["open_set"]["threshold"]
        least = threshold if before == "unknown" else spec.hold * threshold
        assert (line["label"] == "unknown") == (score < least)
        before = line["label"]
    shown = [line["label"] for line in labels[10:]]
    assert sum(summary["moments"].values()) == pytest.approx(1, abs=1e-3)
    assert summary["moments"][summary["label"]] == pytest.approx(
        shown.count(summary["label"]) / len(shown), abs=1e-4
    )


def test_a_bundle_without_unknown_always_shows_its_best_class(
    recorded: Path, light_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "best"
    shutil.copytree(light_bundle, bundle)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["decision"] |= {"kind": "best", "threshold": None, "hold": 1.0}
    manifest["decision"]["false_alarm_rate"] = None
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    out, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    done = twostream("run", bundle, recorded / "clip.avi", "--json", out, "--video", video)
    assert done.returncode == 0, done.stderr
    labels, summary = read_lines(out)
    shown = [line["label"] for line in labels if line.get("state") == "running"]
    assert len(shown) == 30
    assert set(shown) <= set(manifest["classes"])
    assert all(line["open_set"] is None for line in labels if "open_set" in line)
    assert summary["label"] in shown
    assert video.stat().st_size > 1000
    refused = twostream("run", bundle, recorded / "clip.avi", "--threshold", f"{shown[0]}=0.5")
    assert refused.returncode == 2
    assert "this bundle has no threshold" in refused.stderr.splitlines()[-1]


def test_the_video_has_every_frame_with_the_recognition_on_it(recorded: Path) -> None:
    with av.open(str(recorded / "out.mp4")) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(pictures) == 40
    assert pictures[0].shape == (480, 640, 3)
    with av.open(str(recorded / "clip.avi")) as container:
        plain = next(container.decode(video=0)).reformat(640, 480, "rgb24").to_ndarray()
    changed = np.abs(pictures[0].astype(int) - plain).max(axis=2) > 60
    assert 0.01 < changed.mean() < 0.6  # something is drawn, and the picture is still there


def test_stderr_shows_label_rate_and_stages(recorded: Path) -> None:
    text = (recorded / "stderr").read_text()
    assert "whole clip: " in text
    assert "40 frames of 40, 0 dropped" in text
    assert "frames a second on cpu" in text
    assert "p95 ms" in text


def test_nothing_but_the_two_outputs_is_left(recorded: Path) -> None:
    names = {path.name for path in recorded.iterdir()}
    assert names == {"clip.avi", "out.mp4", "out.jsonl", "stderr"}


@pytest.mark.slow
def test_json_on_standard_output_is_json_alone(tmp_path: Path, demo_bundle: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=28, codec="h264")
    done = twostream("run", demo_bundle, clip, "--json", "-")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 29
    assert lines[27]["state"] == "running"  # 28 frames, UCF101's shortest clip, give labels
    assert lines[28]["summary"]["label"] is not None


@pytest.mark.slow
def test_every_third_frame_has_a_line_and_no_other(tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=30)
    done = twostream("run", light_bundle, clip, "--every", 3, "--json", tmp_path / "o.jsonl")
    assert done.returncode == 0, done.stderr
    labels, summary = read_lines(tmp_path / "o.jsonl")
    assert [line["frame"] for line in labels] == list(range(0, 30, 3))
    running = [line["frame"] for line in labels if line["state"] == "running"]
    assert running == list(range(12, 30, 3))
    assert summary["frames"] == 30
    assert summary["decisions"] == len(running)


@pytest.mark.slow
def test_max_frames_stops_there(tmp_path: Path, light_bundle: Path) -> None:
    done = twostream(
        "run", light_bundle, "test://", "--max-frames", 15, "--json", tmp_path / "o.jsonl"
    )
    assert done.returncode == 0, done.stderr
    assert len(read_lines(tmp_path / "o.jsonl")[0]) == 15


@pytest.mark.slow
def test_a_cut_file_gives_its_labels_and_a_warning_with_both_lengths(
    tmp_path: Path, light_bundle: Path
) -> None:
    whole = write_clip(tmp_path / "whole.avi", frames=60).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    done = twostream("run", light_bundle, cut, "--json", tmp_path / "o.jsonl")
    assert done.returncode == 0, done.stderr
    labels, summary = read_lines(tmp_path / "o.jsonl")
    assert 15 < len(labels) < 50
    assert summary["frames"] == len(labels)
    (warning,) = [text for text in summary["warnings"] if "announces 2.4 s" in text]
    assert f"ends after {labels[-1]['time']:.1f} s" in warning
    assert warning in " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_run_quietly(light_bundle: Path) -> None:
    done = subprocess.run(
        f"{TWOSTREAM} run {light_bundle} 'test://?live=1' --json - | head -n 2",
        shell=True,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_no_camera_is_opened_before_the_networks_are_there(light_bundle: Path) -> None:
    """It would drop frames meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as camera:
        camera.settimeout(BOUND_S)
        url = f"rtsp://127.0.0.1:{camera.getsockname()[1]}/cam"
        with Running("run", light_bundle, url, "--device", "cpu") as run:
            connection, _ = camera.accept()
            loaded = [each.path for each in psutil.Process(run.process.pid).memory_maps()]
            connection.close()
    assert any("openvino_intel_cpu_plugin" in path for path in loaded)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_the_outputs_well(
    tmp_path: Path, light_bundle: Path, number: signal.Signals
) -> None:
    video, labels = tmp_path / "o.mp4", tmp_path / "o.jsonl"
    words = ["run", light_bundle, "test://?live=1", "--video", video, "--json", labels]
    with Running(*words) as run:
        run.wait_until(lambda: growing(labels).count('"running","label"') > 5)
        run.stop(number)
    lines, summary = read_lines(labels)
    assert len(lines) > 15
    assert summary["frames"] == len(lines)
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(lines)


def labels_of(
    path: Path, bundle: Path, config: RunConfig | None = None
) -> tuple[list[Label], Recognizer]:
    """The labels of a file, in this process."""
    loaded = load_bundle(bundle)
    device = open_device("cpu", loaded)
    recognizer = Recognizer(loaded.manifest, device.open_context(), config or RunConfig())
    labels: list[Label] = []
    with open_source(str(path)) as source:
        label_video(source, recognizer, labels.append)
    device.close()
    return labels, recognizer


@pytest.mark.slow
def test_runs_are_deterministic(tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=24)
    manifest = load_bundle(light_bundle).manifest
    first, second = (
        [
            label_record(label, manifest) | {"latency_ms": 0}
            for label in labels_of(clip, light_bundle)[0]
        ]
        for _ in range(2)
    )
    assert first == second


def test_no_flow_and_no_memory_across_a_gap(tmp_path: Path, light_bundle: Path) -> None:
    times = [i / 25 for i in range(14)] + [3 + i / 25 for i in range(14)]
    labels, recognizer = labels_of(write_timed_clip(tmp_path / "gap.mkv", times), light_bundle)
    states = [label.state for label in labels]
    assert states == (["warming up"] * 10 + ["running"] * 4) * 2
    assert recognizer.statistics.gaps == 1


@pytest.mark.slow
def test_frames_above_max_fps_are_skipped_and_counted(tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "fast.mp4", frames=60, rate="60/1", codec="h264")
    labels, recognizer = labels_of(clip, light_bundle)
    assert recognizer.statistics.skipped == 30
    assert [label.frame.index for label in labels] == list(range(0, 60, 2))


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_cost_the_video(tmp_path: Path, light_bundle: Path) -> None:
    """Several labels are still to come then, of frames that are under way."""
    clip = write_clip(tmp_path / "clip.mp4", frames=60, codec="h264")
    done = subprocess.run(
        f"set -o pipefail; {TWOSTREAM} run {light_bundle} {clip} --json - "
        f"--video {tmp_path / 'o.mp4'} | head -n 20 > /dev/null",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 20


def test_no_source_is_overwritten_by_the_video_of_another(
    tmp_path: Path, light_bundle: Path
) -> None:
    first, second = (write_clip(tmp_path / name, frames=20) for name in ("a.avi", "o-a.avi"))
    kept = (tmp_path / "o-a.avi").rename(tmp_path / "o-a.mkv").read_bytes()
    words = ["run", light_bundle, first, tmp_path / "o-a.mkv", "--video", tmp_path / "o.mkv"]
    assert_refused(twostream(*words), "o-a.mkv", "is already the source")
    assert (tmp_path / "o-a.mkv").read_bytes() == kept
    assert not second.exists()


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 3])
def test_a_reader_that_closes_early_is_not_an_error_of_the_clip(
    lines: int, tmp_path: Path, light_bundle: Path
) -> None:
    clip = write_clip(tmp_path / "clip.avi", frames=60)
    words = [str(TWOSTREAM), "run", str(light_bundle), str(clip), "--json", "-"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        for _ in range(lines):
            assert json.loads(run.stdout.readline())["state"] == "warming up"
        run.stdout.close()
        errors = run.stderr.read()
    assert run.returncode == 0, errors
    assert "frames; this bundle needs" not in errors
