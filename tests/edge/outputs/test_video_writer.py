"""Results out: lines and video are whole under their own name, and not lost under `.part`."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

import edge.outputs.picture_encoder
from edge.errors import OutputError
from edge.outputs.json_lines import JsonLines
from edge.outputs.picture_encoder import choose_encoder
from edge.outputs.video_writer import VideoWriter
from edge.sources.source import open_source
from tests.support.paths import REPOSITORY
from tests.support.pictures import picture
from tests.support.waiting import BOUND_S, wait_until


def record(path: Path, times_s: list[float], size_hw: tuple[int, int] = (240, 320)) -> Path:
    with VideoWriter(path, size_hw, 25.0) as writer:
        for number, time_s in enumerate(times_s):
            writer.write(picture(number, size_hw), time_s)
        writer.finish()
    return path


@contextlib.contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond that, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def decoded(path: Path) -> list[av.VideoFrame]:
    """The frames up to where the file ends or breaks off."""
    frames = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        frames.extend(container.decode(video=0))
    return frames


def run_python(code: str, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, text=True, **options
    )


# Both


@pytest.mark.parametrize("name", ["labels.jsonl", "out.mp4"])
def test_places_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(OutputError) as caught:
            JsonLines(path) if name == "labels.jsonl" else VideoWriter(path, (240, 320), 25.0)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert f"the folder {tmp_path / 'no'} does not exist" in refusal(tmp_path / "no" / name)
    assert "choose a folder that you may write to" in refusal(Path("/proc") / name)
    (tmp_path / name).mkdir()
    assert "is a folder" in refusal(tmp_path / name)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1 << 20))
    assert "only 1 MiB free" in refusal(tmp_path / f"another-{name}")
    assert not list(tmp_path.glob("*.part"))


# JSON lines


def test_lines_get_their_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with JsonLines(path) as out:
        assert out.write({"time_s": 1.25, "label": "Übung", "scores": [0.5, None]})
        assert not path.exists()
        part = path.with_name("labels.jsonl.part")
        assert part.read_text() == '{"time_s":1.25,"label":"Übung","scores":[0.5,null]}\n'
        assert out.write({"time_s": 2})
        out.finish()
    assert [json.loads(line)["time_s"] for line in path.read_text().splitlines()] == [1.25, 2]
    assert not part.exists()


def test_an_older_result_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("old\n")
    with JsonLines(path) as out:
        out.write({"new": 1})
        assert path.read_text() == "old\n"
        out.finish()
    assert path.read_text() == '{"new":1}\n'


def test_lines_are_kept_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with contextlib.suppress(RuntimeError), JsonLines(path) as out:
        out.write({"time_s": 1})
        raise RuntimeError("the model failed")
    assert path.with_name("labels.jsonl.part").read_text() == '{"time_s":1}\n'
    assert not path.exists()


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), JsonLines(tmp_path / "labels.jsonl"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_never_written(tmp_path: Path, value: float) -> None:
    path = tmp_path / "labels.jsonl"
    with JsonLines(path) as out:
        with pytest.raises(ValueError, match="JSON"):
            out.write({"score": value})
        out.finish()
    assert path.read_text() == ""


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    says = r"labels\.jsonl\.part: File too large; the lines so far"
    with full_disk(1000), JsonLines(tmp_path / "labels.jsonl") as out:
        out.write({"text": "whole"})
        with pytest.raises(OutputError, match=says):
            out.write({"text": "x" * 2000})
    assert (tmp_path / "labels.jsonl.part").read_text() == '{"text":"whole"}\n'


@pytest.mark.parametrize("name", ["labels.jsonl", "out.mkv"])
def test_a_link_at_the_growing_file_s_name_is_not_followed(name: str, tmp_path: Path) -> None:
    """Whoever may write to the folder would have a file of this user's overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for target in (victim, tmp_path / "new"):
        (tmp_path / f"{name}.part").unlink(missing_ok=True)
        (tmp_path / f"{name}.part").symlink_to(target)
        with pytest.raises(OutputError, match=rf"{name}\.part: .*not a plain file"):
            JsonLines(tmp_path / name) if name == "labels.jsonl" else record(tmp_path / name, [0])
    assert victim.read_text() == "mine"
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_standard_output_is_flushed_for_each_line() -> None:
    code = (
        "import time\nfrom edge.outputs.json_lines import JsonLines\n"
        "with JsonLines('-') as out:\n out.write({'a': 1}); time.sleep(1000)"
    )
    process = run_python(code, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == '{"a":1}\n'
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.mark.slow
def test_a_reader_that_goes_ends_it_quietly() -> None:
    code = (
        "import sys\nfrom edge.outputs.json_lines import JsonLines\n"
        "with JsonLines('-') as out:\n"
        " for n in range(10**6):\n"
        "  if not out.write({'n': n}): break\n"
        " out.finish()\n"
        "print('a last word')\n"
        "print(n, file=sys.stderr)"
    )
    process = run_python(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == '{"n":0}\n'
    process.stdout.close()
    _, errors = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0
    assert int(errors) < 10**6 - 1  # and no other word


# Video


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "OUT.MP4"])
def test_video_has_every_picture_at_its_time(tmp_path: Path, name: str) -> None:
    times_s = [number / 25 for number in range(50)]
    times_s[30:] = [time_s + 1.0 for time_s in times_s[30:]]  # a camera that dropped frames
    path = record(tmp_path / name, times_s)
    frames = decoded(path)
    assert [round(float(frame.time), 3) for frame in frames] == pytest.approx(times_s, abs=1e-3)
    for number, frame in enumerate(frames):
        assert frame.format.name == "yuv420p"  # 4:4:4 would not play everywhere
        shown = frame.to_ndarray(format="bgr24")
        assert abs(float(shown[150:].mean()) - (20 + 2 * number)) < 2.5
        np.testing.assert_allclose(shown[40, number + 20], (0, 0, 255), atol=12)
    assert list(tmp_path.iterdir()) == [path]


def test_our_own_video_can_be_a_source(tmp_path: Path) -> None:
    path = record(tmp_path / "out.mp4", [number / 25 for number in range(20)])
    with open_source(str(path)) as source:
        times_s = [frame.time_s for frame in source]
        assert source.warnings == []
    np.testing.assert_allclose(times_s, np.arange(20) / 25, atol=1e-3)


@pytest.mark.parametrize("size_hw", [(242, 322), (480, 642), (98, 70)])
def test_rows_that_need_padding(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    frames = decoded(record(tmp_path / "out.mkv", [0.0, 0.04], size_hw))
    shown = frames[1].to_ndarray(format="bgr24")
    assert shown.shape[:2] == size_hw
    # an oblique shear would spread the square over the background
    np.testing.assert_allclose(shown[40, 21], (0, 0, 255), atol=12)
    np.testing.assert_allclose(shown[70:, -8:], 22, atol=4)


def test_wrong_use(tmp_path: Path) -> None:
    for name in ("out.avi", "out", "out.mp4.part"):
        with pytest.raises(OutputError, match=r"\.mp4 or \.mkv"):
            VideoWriter(tmp_path / name, (240, 320), 25.0)
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "out.mp4", (241, 320), 25.0)
    with VideoWriter(tmp_path / "out.mp4", (240, 320), 25.0) as writer:
        with pytest.raises(ValueError, match="expected"):
            writer.write(picture(0, (120, 160)), 0.0)
        writer.write(picture(0), 0.0)
        with pytest.raises(ValueError, match="rise"):
            writer.write(picture(1), 0.0)


def test_no_picture_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", (240, 320), 25.0) as writer:
        writer.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_an_error_leaves_a_video_that_plays(tmp_path: Path, name: str) -> None:
    with (
        contextlib.suppress(RuntimeError),
        VideoWriter(tmp_path / name, (240, 320), 25.0) as writer,
    ):
        for number in range(10):
            writer.write(picture(number), number / 25)
        raise RuntimeError("the model failed")
    assert not (tmp_path / name).exists()
    assert len(decoded(tmp_path / f"{name}.part")) == 10


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("out.mp4", 70), ("out.mkv", 95)])
def test_a_power_cut_leaves_a_video_that_plays(tmp_path: Path, name: str, least: int) -> None:
    code = (
        "import sys, time\nfrom edge.outputs.video_writer import VideoWriter\n"
        "from tests.support.pictures import picture\n"
        "with VideoWriter(sys.argv[1], (240, 320), 25.0) as writer:\n"
        " for n in range(101):\n  writer.write(picture(n), n / 25)\n"
        " print('recorded', flush=True); time.sleep(1000)"
    )
    process = run_python(code, str(tmp_path / name), stdout=subprocess.PIPE)
    part = tmp_path / f"{name}.part"

    def on_the_disk() -> int:
        with contextlib.suppress(av.error.FFmpegError):  # its head is not there yet
            return len(decoded(part))
        return 0

    try:
        assert process.stdout.readline() == "recorded\n"
        wait_until(lambda: on_the_disk() >= least, pause_s=0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert not (tmp_path / name).exists()
    assert len(decoded(part)) >= least


def test_a_full_disk_while_recording(tmp_path: Path) -> None:
    with full_disk(2000), pytest.raises(OutputError, match=r"out\.mkv: .*(large|space|write)"):
        record(tmp_path / "out.mkv", [number / 25 for number in range(100)])
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.slow
def test_an_encoder_that_stops_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.outputs.picture_encoder, "STALL_S", 0.3)
    monkeypatch.setattr(edge.outputs.picture_encoder, "choose_encoder", lambda size_hw: "stuck")
    monkeypatch.setitem(
        edge.outputs.picture_encoder.ENCODERS, "stuck", "identity sleep-time=1500000 ! x264enc"
    )
    with pytest.raises(OutputError, match=r"has accepted no picture for 0\.3 s"):
        record(tmp_path / "out.mkv", [number / 25 for number in range(20)])


def test_the_encoder_is_the_first_that_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    works = edge.outputs.picture_encoder.ENCODERS["openh264enc"]
    candidates = {
        "nvh264enc": "nvh264enc-of-another-machine",  # not installed
        "identity": "identity error-after=2 ! x264enc",  # present, but fails at work
        "openh264enc": works,
    }
    choose_encoder.cache_clear()
    monkeypatch.setattr(edge.outputs.picture_encoder, "ENCODERS", candidates)
    assert choose_encoder((240, 320)) == "openh264enc"
    choose_encoder.cache_clear()
    del candidates["openh264enc"]
    with pytest.raises(OutputError, match=r"no H\.264 encoder works for 320x240") as caught:
        choose_encoder((240, 320))
    choose_encoder.cache_clear()
    assert "is not installed; identity: Failed after iterations as requested" in str(caught.value)


@pytest.mark.parametrize("encoder", ["x264enc", "openh264enc"])
def test_each_software_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    monkeypatch.setattr(edge.outputs.picture_encoder, "choose_encoder", lambda size_hw: encoder)
    times_s = [number / 25 for number in range(30)]
    assert len(decoded(record(tmp_path / "out.mp4", times_s))) == 30
