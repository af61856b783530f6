"""Outputs in files of some minutes, of which so much is kept, and what a kill leaves of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from edge.errors import OutputError
from edge.outputs.json_lines import JsonLines, JsonLinesOutput
from edge.outputs.rotation import Segments
from tests.support.command import TWOSTREAM, assert_refused, twostream
from tests.support.logged import logged

STAMPED = re.compile(r"o-\d{8}T\d{6}Z(-\d+)?\.(mp4|jsonl)")


def test_files_are_named_by_time_and_never_twice(tmp_path: Path) -> None:
    cut = Segments(every_s=60)
    first = cut.name(tmp_path / "o.mp4", "yard")
    assert re.fullmatch(r"o-yard-\d{8}T\d{6}Z\.mp4", first.name)
    first.with_name(first.name + ".part").touch()
    again = cut.name(tmp_path / "o.mp4", "yard")
    assert again != first
    assert Segments().name(tmp_path / "o.mp4", "") == tmp_path / "o.mp4"


def test_the_oldest_go_and_nothing_else(tmp_path: Path) -> None:
    def make(name: str, age_s: float, size: int = 1000) -> Path:
        path = tmp_path / name
        path.write_bytes(bytes(size))
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    strangers = [make(name, 1e6) for name in ("o.mp4", "other-20260101T000000Z.mp4", "o-x.txt")]
    files = [make(f"o-yard-2026010{day}T000000Z.mp4", 1000 - day) for day in range(1, 6)]
    part = make("o-gate-20260106T000000Z.mp4.part", 1)
    strangers.append(make("o-roof-20260101T000000Z.mp4", 1e6))  # of another run
    slugs = {"yard", "gate"}
    opened = tmp_path / "o-gate-20260106T000000Z.mp4"
    kept = Segments(every_s=60, keep_bytes=3500)
    assert kept.prune(tmp_path / "o.mp4", slugs, {opened}) == 3
    assert [path.exists() for path in files] == [False, False, False, True, True]
    assert part.exists()
    assert all(path.exists() for path in strangers)
    young = Segments(every_s=60, keep_s=500)
    assert young.prune(tmp_path / "o.mp4", slugs, {opened}) == 2
    assert part.exists()
    assert Segments(every_s=60).prune(tmp_path / "o.mp4", slugs, set()) == 0


def test_only_plain_files_are_counted_and_deleted(tmp_path: Path) -> None:
    def name(day: int) -> Path:
        return tmp_path / f"o-2026010{day}T000000Z.jsonl"

    outside = tmp_path / "outside"
    outside.write_bytes(bytes(10**6))
    name(1).symlink_to(tmp_path / "nowhere")
    name(2).symlink_to(outside)
    name(3).mkdir()
    os.mkfifo(name(4))
    name(5).write_bytes(bytes(1000))
    kept = Segments(every_s=60, keep_bytes=1500)
    assert kept.prune(tmp_path / "o.jsonl", {""}, set()) == 0
    name(6).write_bytes(bytes(1000))
    assert kept.prune(tmp_path / "o.jsonl", {""}, set()) == 1
    assert [os.path.lexists(name(day)) for day in range(1, 7)] == [True] * 4 + [False, True]
    assert outside.stat().st_size == 10**6


def test_two_runs_that_delete_the_same_files_both_go_on(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"o-20260101T000000Z-{number}.jsonl").write_bytes(b"x")
    kept = Segments(every_s=60, keep_bytes=1)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(kept.prune, tmp_path / "o.jsonl", {""}, set()) for _ in range(4)]
        assert sum(run.result() for run in runs) == 2999


@pytest.mark.parametrize(
    "fault", [PermissionError(1, "Operation not permitted"), OSError(5, "I/O")]
)
def test_what_cannot_be_deleted_is_said_once(
    fault: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(1, 5):
        (tmp_path / f"o-2026010{day}T000000Z.jsonl").write_bytes(bytes(1000))

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise fault

    kept = Segments(every_s=60, keep_bytes=1500)
    with monkeypatch.context() as patched, logged() as said:
        patched.setattr(Path, "unlink", refuse)  # as root no file here is refused
        for _ in range(3):
            assert kept.prune(tmp_path / "o.jsonl", {""}, set()) == 0
    assert len(said) == 1
    assert re.search(r"o-20260101T000000Z.jsonl: cannot be deleted \(.*\); it is kept", said[0])
    assert kept.prune(tmp_path / "o.jsonl", {""}, set()) == 3


def test_a_folder_that_has_gone_at_the_border_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    cut = Segments(every_s=1e-6, keep_s=1)
    output = JsonLinesOutput(str(folder / "o.jsonl"), cut, ()).__enter__()
    output.end("yard", {"frames": 1})
    shutil.rmtree(folder)
    with pytest.raises(OutputError, match=r"o-\d{8}T.*jsonl") as caught:
        output.end("yard", {"frames": 2})
    output.close()
    assert "\n" not in str(caught.value)
    with logged() as said, pytest.raises(OutputError, match="does not exist; create it first"):
        JsonLinesOutput(str(folder / "o.jsonl"), cut, ()).__enter__()
    assert ["cannot be listed" in line for line in said] == [True]


def test_a_name_that_a_dangling_link_has_is_taken(tmp_path: Path) -> None:
    cut = Segments(every_s=60)
    first = cut.name(tmp_path / "o.mp4", "")
    first.symlink_to(tmp_path / "nowhere")
    assert cut.name(tmp_path / "o.mp4", "") != first


@pytest.mark.slow
def test_a_run_is_cut_into_whole_files(tmp_path: Path, demo_bundle: Path) -> None:
    out = ["--json", tmp_path / "o.jsonl", "--video", tmp_path / "o.mp4", "--segment", 0.05]
    done = twostream("run", demo_bundle, "test://?live=1&frames=200", *out)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.iterdir())
    assert all(STAMPED.fullmatch(name) for name in names), names
    pictures = []
    for path in sorted(tmp_path.glob("*.mp4")):
        with av.open(str(path)) as container:
            pictures.append(sum(1 for _ in container.decode(video=0)))
    lines = [line for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    labels = [row for row in map(json.loads, lines) if "frame" in row]
    assert len(pictures) == 3  # of 3 s, 25 frames each
    assert 74 <= pictures[0] <= 78
    assert sum(pictures) == len(labels)
    assert any("summary" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_kill_loses_a_second_at_most(ending: str, tmp_path: Path, demo_bundle: Path) -> None:
    labels, video = tmp_path / "o.jsonl", tmp_path / f"o{ending}"
    words = ["run", demo_bundle, "test://?live=1&pattern=ball", "--json", labels, "--video", video]
    process = subprocess.Popen([TWOSTREAM, *map(str, words)], stderr=subprocess.DEVNULL)
    part = labels.with_name(labels.name + ".part")
    deadline_s = time.monotonic() + 60
    while not part.exists() or part.read_text().count("\n") < 110:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    times = [json.loads(line).get("time", 0.0) for line in part.read_text().splitlines()]
    with av.open(str(video.with_name(video.name + ".part"))) as container:
        shown = [float(frame.time or 0.0) for frame in container.decode(video=0)]
    assert max(times) - times[0] - max(shown) <= 1.0
    assert not video.exists()
    assert not labels.exists()


def test_limits_are_for_segments(demo_bundle: Path) -> None:
    assert_refused(twostream("run", demo_bundle, "test://", "--keep-gb", 1), "--segment")


def test_what_is_written_is_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut takes what only the page cache has; that it cannot be cut here is said."""
    brought: list[int] = []
    sync = os.fdatasync

    def note(descriptor: int) -> None:
        sync(descriptor)
        brought.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr("edge.outputs.video_writer.os.fdatasync", note)
    with JsonLines(tmp_path / "o.jsonl") as out:
        for number in range(14):
            out.write({"number": number})
            time.sleep(0.1)
        out.finish()
    assert len(brought) >= 2
    assert 0 < brought[0] < (tmp_path / "o.jsonl").stat().st_size
