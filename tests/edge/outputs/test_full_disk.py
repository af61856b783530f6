"""What becomes of recordings whose disk fills up or goes: of a run of cameras, and of files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from edge.errors import OutputError
from edge.outputs import write_faults
from edge.outputs.health import OutputState
from edge.outputs.json_lines import JsonLinesOutput
from edge.outputs.rotation import Segments
from tests.support.broker import Listener, running_broker
from tests.support.clips import write_clip
from tests.support.command import TWOSTREAM, Running, assert_refused, twostream
from tests.support.disks import Filler, small_disk
from tests.support.waiting import wait_until

SIZE_MIB = 40  # a recording begins where there are 16 MiB


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Raises where a line is not whole."""
    assert path.read_text(encoding="utf-8")[-1:] in ("", "\n")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Page:
    """What the live page of a run shows."""

    def __init__(self, run: Running) -> None:
        self._url = run.said(r"live page: (\S+)")[1]

    def ask(self, path: str) -> str:
        return str(urllib.request.urlopen(self._url + path, timeout=60).read().decode())

    def outputs(self) -> dict[str, str]:
        """The state of each output."""
        rows = json.loads(self.ask("state.json"))["outputs"]
        return {row["output"]: row["output_state"] for row in rows}

    def counts(self) -> dict[str, int]:
        sources = json.loads(self.ask("state.json"))["sources"]  # none before the first is open
        return dict(sources[0]["counts"]) if sources else {}


def fails_and_recovers(
    words: list[object], break_it: Callable[[], None], mend_it: Callable[[], None]
) -> str:
    """A live run with a page whose recordings fail and work again; gives what it logged."""
    with Running(*words, "--web", "0") as run:
        page = Page(run)

        def recordings() -> dict[str, str]:
            return {name: page.outputs()[name] for name in ("json", "video")}

        run.wait_until(lambda: page.counts().get("labelled", 0) > 10)
        assert recordings() == {"json": "working", "video": "working"}
        break_it()
        run.wait_until(lambda: recordings() == {"json": "failing", "video": "failing"})
        metrics = page.ask("metrics")
        assert 'twostream_output_up{output="video"} 0.0' in metrics
        before = page.counts()["labelled"]
        run.wait_until(lambda: page.counts()["labelled"] > before + 20)  # recognition goes on
        run.wait_until(lambda: page.counts().get("lost_video", 0) > 20)
        assert page.ask("readyz") == "ok\n"
        assert 'twostream_output_lost_total{camera="yard",output="video"}' in page.ask("metrics")
        mend_it()
        run.wait_until(lambda: recordings() == {"json": "working", "video": "working"})
        return run.stop()


@pytest.mark.slow
@pytest.mark.parametrize("segments", [[], ["--segment", "0.05"]])
def test_a_full_disk_stops_the_recordings_of_cameras_alone(
    segments: list[str], tmp_path: Path, light_bundle: Path
) -> None:
    with small_disk(tmp_path / "disk", SIZE_MIB) as disk, running_broker(tmp_path) as broker:
        listener = Listener(broker.port)
        words = ["run", light_bundle, "yard=test://?live=1", "--video", disk / "o.mp4"]
        words += ["--json", disk / "o.jsonl", *segments]
        words += ["--mqtt", f"mqtt://127.0.0.1:{broker.port}/yard"]
        filler = Filler(disk)
        said = fails_and_recovers(words, filler.__enter__, filler.remove)
        states = [json.loads(text) for text in listener.wait_for("output/video", 3)]
        assert [row["output_state"] for row in states] == ["working", "failing", "working"]
        listener.close()
        for name, lost in (("video", "frames not recorded"), ("json", "lines not written")):
            assert len(re.findall(rf"^warning: {name}: .*No space left", said, re.MULTILINE)) == 1
            over = re.findall(rf"^{name}: works again; [1-9]\d* {lost}", said, re.MULTILINE)
            assert len(over) == 1
            assert re.search(rf"^warning: {name}: [1-9]\d* {lost}$", said, re.MULTILINE)
        (torn,) = disk.glob("*.mp4.part")
        assert all(frames_of(path) > 0 for path in disk.glob("*.mp4"))
        assert not torn.with_name(torn.name.removesuffix(".part")).exists()
        (broken,) = disk.glob("*.jsonl.part")
        lines_of(broken)
        last = max(path for path in disk.glob("*.jsonl") if path.stat().st_size)
        summary = lines_of(last)[-1]["summary"]
        assert summary["lost"]["video"] > 20
        assert summary["lost"]["json"] > 20
        rows = [row for path in disk.glob("*.jsonl") for row in lines_of(path) if "output" in row]
        assert {(row["output"], row["output_state"]) for row in rows} >= {("video", "working")}


@pytest.mark.slow
def test_a_folder_that_goes_and_comes_back_is_recorded_to_again(
    tmp_path: Path, light_bundle: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["run", light_bundle, "yard=test://?live=1", "--video", folder / "o.mkv"]
    words += ["--json", folder / "o.jsonl"]
    said = fails_and_recovers(words, lambda: shutil.rmtree(folder), folder.mkdir)
    assert "was deleted or replaced while it was written" in said
    (video,) = folder.glob("*.mkv")
    assert re.fullmatch(r"o-\d{8}T\d{6}Z\.mkv", video.name)
    assert frames_of(video) > 20
    (lines,) = folder.glob("*.jsonl")
    assert lines_of(lines)[-1]["summary"]["lost"]["video"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--video", "--json"])
def test_a_full_disk_ends_a_run_of_files(option: str, tmp_path: Path, light_bundle: Path) -> None:
    clip = write_clip(tmp_path / "a.avi", frames=2000)
    with small_disk(tmp_path / "disk", SIZE_MIB) as disk:
        name = disk / ("o.mkv" if option == "--video" else "o.jsonl")
        with Running("run", light_bundle, clip, option, name) as run:
            part = name.with_name(f"{name.name}.part")
            run.wait_until(lambda: part.exists() and part.stat().st_size > 1000)
            with Filler(disk):
                said = run.finished(code=2)
        errors = [line for line in said.splitlines() if line.startswith("twostream: ")]
        assert len(errors) == 1
        assert "No space left" in errors[0]
        assert not name.exists()


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start_is_refused(tmp_path: Path, light_bundle: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        for option, name in (("--video", "o.mp4"), ("--json", "o.jsonl")):
            done = twostream("run", light_bundle, "test://?live=1", option, disk / name)
            assert_refused(done, "MiB free on its disk; make room first")
        assert list(disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "code"), [("test://?frames=20", 2), ("test://?live=1&frames=20", 0)]
)
def test_a_standard_output_that_is_full(source: str, code: int, light_bundle: Path) -> None:
    words = [str(TWOSTREAM), "run", str(light_bundle), source, "--json", "-"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("standard output: No space left") == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_line_that_does_not_fit_is_taken_back_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_faults, "RETRY_S", 0.2)
    with small_disk(tmp_path / "disk", SIZE_MIB) as disk:
        output = JsonLinesOutput(str(disk / "o.jsonl"), Segments(), (), goes_on=True).__enter__()  # type: ignore[arg-type]
        for number in range(100):
            output.end("yard", {"number": number})
        filler = Filler(disk).__enter__()
        for number in range(100, 500):
            output.end("yard", {"number": number})
        filler.remove()
        number = 500

        def works() -> bool:
            nonlocal number
            output.end("yard", {"number": number})
            number += 1
            return not output.health.failing

        wait_until(works)
        output.finish()
        output.close()
        first, second = disk / "o.jsonl.part", *disk.glob("o-*.jsonl")
        numbers = [row["summary"]["number"] for row in lines_of(first) + lines_of(second)]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == number - 1
        assert len(numbers) + output.health.lost("yard") == number
        assert not (disk / "o.jsonl").exists()


def test_no_file_is_begun_once_all_are_finished(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    output = JsonLinesOutput(str(path), Segments(), (), goes_on=True).__enter__()  # type: ignore[arg-type]
    output.finish()
    output.on_output_state(OutputState("video", "failing", "it is full", 3, "frames not recorded"))
    output.close()
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_fault_ends_a_run_of_files(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", SIZE_MIB) as disk:
        output = JsonLinesOutput(str(disk / "o.jsonl"), Segments(), (), goes_on=False).__enter__()  # type: ignore[arg-type]
        output.end("yard", {"number": 0})
        with Filler(disk), pytest.raises(OutputError, match="No space left on device; make room"):
            output.end("yard", {"number": "9" * 5000})
        output.close()
        assert [row["summary"]["number"] for row in lines_of(disk / "o.jsonl.part")] == [0]
