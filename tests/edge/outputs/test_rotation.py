"""Outputs in files of some minutes, of which so much is kept, and what a kill leaves of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from edge.errors import OutputError
from edge.outputs.json_lines import JsonLines, JsonLinesOutput
from edge.outputs.rotation import Segments
from tests.support.command import Running, assert_refused, growing, twostream
from tests.support.logged import logged
from tests.support.rtsp import RtspServer
from tests.support.waiting import wait_until

STAMPED = re.compile(r"o-\d{8}T\d{6}Z(-\d+)?\.(mp4|jsonl)")
SEGMENT_S = 3.0


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


@pytest.mark.slow
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
    output = JsonLinesOutput(str(folder / "o.jsonl"), cut, (), goes_on=False).__enter__()
    output.end("yard", {"frames": 1})
    shutil.rmtree(folder)
    with pytest.raises(OutputError, match=r"o-\d{8}T.*jsonl") as caught:
        output.end("yard", {"frames": 2})
    output.close()
    assert "\n" not in str(caught.value)
    with logged() as said, pytest.raises(OutputError, match="does not exist; create it first"):
        JsonLinesOutput(str(folder / "o.jsonl"), cut, (), goes_on=False).__enter__()
    assert ["cannot be listed" in line for line in said] == [True]


def test_a_name_that_a_dangling_link_has_is_taken(tmp_path: Path) -> None:
    cut = Segments(every_s=60)
    first = cut.name(tmp_path / "o.mp4", "")
    first.symlink_to(tmp_path / "nowhere")
    assert cut.name(tmp_path / "o.mp4", "") != first


@pytest.mark.slow
def test_a_run_is_cut_into_whole_files(tmp_path: Path, light_bundle: Path) -> None:
    out = ["--json", tmp_path / "o.jsonl", "--video", tmp_path / "o.mp4"]
    with Running("run", light_bundle, "test://?live=1", *out, "--segment", SEGMENT_S / 60) as run:
        for ending in (".mp4", ".jsonl"):
            run.wait_until(lambda e=ending: len(list(tmp_path.glob(f"*{e}"))) >= 2)
        run.stop()
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert all(STAMPED.fullmatch(path.name) for path in files), files
    lines = [
        json.loads(line)
        for path in files
        if path.suffix == ".jsonl"
        for line in path.read_text().splitlines()
    ]
    assert "summary" in lines[-1]
    times = [row["time"] for row in lines if "frame" in row]
    assert times == sorted(times)
    begin = 0
    for path in (path for path in files if path.suffix == ".mp4"):
        end = begin + count_pictures(path)
        assert times[end - 1] - times[begin] < SEGMENT_S
        assert end == len(times) or times[end] - times[begin] >= SEGMENT_S
        begin = end
    assert begin == len(times)


def count_pictures(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def last_picture_s(path: Path) -> float:
    """Of a video that is still being written; 0 where there is none."""
    try:
        with av.open(str(path)) as container:
            return max((float(frame.time or 0.0) for frame in container.decode(video=0)), default=0)
    except av.error.FFmpegError:
        return 0.0


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_kill_loses_a_second_at_most(ending: str, tmp_path: Path, light_bundle: Path) -> None:
    labels, video = tmp_path / "o.jsonl", tmp_path / f"o{ending}"
    part = video.with_name(video.name + ".part")

    def span_s() -> float:
        found = [float(text) for text in re.findall(r'"time":([0-9.]+),"state"', growing(labels))]
        return found[-1] - found[0] if found else 0.0

    with RtspServer(rate=25) as camera:
        words = ["run", light_bundle, camera.url, "--json", labels, "--video", video]
        with Running(*words, "--wait-for-cameras") as run:
            run.wait_until(lambda: span_s() > 4)
            camera.process.kill()  # so that nothing more comes, and what is under way is written
            run.said("lost")
            run.wait_until(lambda: last_picture_s(part) >= span_s() - 1.0, pause_s=0.3)
            run.process.kill()
            run.process.wait()
    assert last_picture_s(part) >= span_s() - 1.0 > 3
    assert not video.exists()
    assert not labels.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--keep-gb", 1], "--keep-gb deletes old segments and events; it needs --segment"),
        (["--keep-days", 1, "--json", "o.jsonl"], "--keep-days deletes old segments"),
        (["--segment", 1], "--segment splits files; it needs --video FILE or --json FILE"),
        (["--segment", 1, "--json", "-"], "it needs --video FILE or --json FILE"),
        (["--segment", 1, "--web", 0], "it needs --video FILE or --json FILE"),
    ],
)
def test_limits_are_for_segments_and_segments_for_files(
    words: list[object], reason: str, light_bundle: Path
) -> None:
    assert_refused(twostream("run", light_bundle, "test://", *words), reason)


@pytest.mark.slow
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
    part = tmp_path / "o.jsonl.part"
    with JsonLines(tmp_path / "o.jsonl") as out:
        for number in range(3):
            out.write({"number": number})
            written = part.stat().st_size
            wait_until(lambda written=written: brought and brought[-1] == written)
        out.finish()
