"""Bundles of one stream and of three, from the command to every output."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import av
import pytest

from edge.bundle.manifest import Bundle
from tests.support.bundles import CLASSES, STREAMS, write_bundle
from tests.support.clips import write_clip
from tests.support.command import TWOSTREAM, Running, assert_refused, growing, read_lines, twostream

pytestmark = pytest.mark.slow  # each test starts a process, or a device


@pytest.fixture(scope="module", params=list(STREAMS))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / request.param
    return write_bundle(folder, STREAMS[request.param])


def test_a_run_has_every_stream_in_its_lines_and_its_video(bundle: Bundle, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", frames=20)
    words = ["--json", tmp_path / "o.jsonl", "--video", tmp_path / "o.mp4"]
    done = twostream("run", bundle.path, clip, *words)
    assert done.returncode == 0, done.stderr
    labels, summary = read_lines(tmp_path / "o.jsonl")
    names, history = list(bundle.manifest.streams), bundle.manifest.history
    assert [line["state"] for line in labels] == ["warming up"] * history + ["running"] * (
        20 - history
    )
    for line in labels:
        assert list(line["streams"]) == names
    assert all(best is None for line in labels[:history] for best in line["streams"].values())
    for line in labels[history:]:
        assert line["label"] in CLASSES
        assert all(best[0] in CLASSES for best in line["streams"].values())
    assert [stage for stage in summary["stages_ms"] if stage in names] == names
    with av.open(str(tmp_path / "o.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 20


def test_verify_has_a_line_for_each(bundle: Bundle) -> None:
    done = twostream("verify", bundle.path)
    assert done.returncode == 0, done.stderr
    for name in bundle.manifest.streams:
        assert re.search(rf"^{name}\b.* samples", done.stdout, re.MULTILINE), done.stdout


def test_bench_has_a_stage_for_each(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    words = ["--frames", 20, "--precision", "int8", "--json", out, "--picture", tmp_path / "b.png"]
    done = twostream("bench", bundle.path, *words)
    assert done.returncode == 0, done.stderr
    text = out.read_text()
    for name in bundle.manifest.streams:
        assert f'"{name}"' in text
        assert name in done.stdout


def test_the_page_and_its_metrics_show_each(bundle: Bundle) -> None:
    words = ["run", bundle.path, "yard=test://?live=1", "--web", "0"]
    process = subprocess.Popen([TWOSTREAM, *map(str, words)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    page = next(line for line in process.stderr if "live page" in line).split()[-1]
    try:
        for _ in range(600):
            state = json.loads(urllib.request.urlopen(page + "state.json", timeout=60).read())
            metrics = urllib.request.urlopen(page + "metrics", timeout=60).read().decode()
            (source,) = state["sources"] or [{"state": "", "streams": {}}]
            names = list(bundle.manifest.streams)
            if source["state"] == "running" and f'stage="{names[-1]}"' in metrics:
                break
        assert list(source["streams"]) == names
        assert all(len(rows) == len(CLASSES) for rows in source["streams"].values())
        for name in names:
            assert re.search(
                rf'twostream_stage_seconds_count{{camera="yard",stage="{name}"}} [1-9]', metrics
            )
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_standby_needs_motion(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", STREAMS["picture"])
    done = twostream("run", bundle.path, "test://?frames=3", "--standby-after", 2)
    assert_refused(done, "--standby-after", "does not use motion")


def test_a_reload_cannot_ask_for_standby_without_motion(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", STREAMS["picture"])
    file, out = tmp_path / "run.toml", tmp_path / "o.jsonl"
    text = f"bundle = '{bundle.path}'\njson = '{out}'\n{{}}[sources]\nyard = 'test://?live=1'\n"
    file.write_text(text.format(""))
    with Running("run", "--config", file) as run:
        run.wait_until(lambda: '"frame"' in growing(out))
        file.write_text(text.format("standby-after = 2\n"))
        run.process.send_signal(signal.SIGHUP)
        run.said("not reloaded, the run continues unchanged: --standby-after: tiny does not use")
        run.stop()
