"""`twostream run --events` end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest

from tests.support.bundles import thresholds_that_anything_reaches
from tests.support.clips import write_clip
from tests.support.command import Running, assert_refused, growing, twostream
from tests.support.rtsp import RtspServer, count_clients

pytestmark = pytest.mark.slow


def records(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [
        (path.parent, json.loads(path.read_text()))
        for path in sorted(folder.glob("*/[0-9]*/event.json"))
    ]


def starts(lines: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row.get("event") == "start"]


def test_a_file_has_events_in_its_own_time(tmp_path: Path, light_bundle: Path) -> None:
    clip, folder = write_clip(tmp_path / "a.avi", frames=40), tmp_path / "events"
    words = ["run", light_bundle, clip, "--events", folder]
    words += thresholds_that_anything_reaches(light_bundle)
    done = twostream(*words, "--json", tmp_path / "o.jsonl", "--keep-gb", 1)
    assert done.returncode == 0, done.stderr
    ((where, record),) = records(folder)
    started = starts(tmp_path / "o.jsonl")
    assert [record["id"]] == [row["id"] for row in started]
    assert 0 < record["started"] < record["reported"] < 1.6
    assert record["clip"]["codec"] == "h264"
    assert record["clip"]["begins"] <= record["started"]
    assert where.name.split("-")[1:3] == ["a", started[0]["label"]]


def test_limits_need_something_to_limit(tmp_path: Path, light_bundle: Path) -> None:
    done = twostream("run", light_bundle, "test://?live=1", "--keep-gb", 1)
    assert_refused(done, "--keep-gb", "--segment MINUTES or --events DIR")
    done = twostream("run", light_bundle, "test://?live=1", "--events", tmp_path, "--before", 100)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_sources_that_share_a_camera_have_clips_of_their_own(
    tmp_path: Path, light_bundle: Path
) -> None:
    """The camera's own stream for what is the whole of it, the region alone for what is not."""
    anything = thresholds_that_anything_reaches(light_bundle)
    lines = tmp_path / "o.jsonl"
    words = ["--events", tmp_path / "events", "--before", 1, "--json", lines, *anything]
    with RtspServer() as camera:
        sources = [f"yard={camera.url}", f"gate={camera.url}?region=0,0,0.5,1"]
        with Running("run", light_bundle, *sources, *words, "--device", "cpu") as run:
            for name in ("yard", "gate"):
                form = f'"source":"{name}","event":"start"'
                run.wait_until(lambda form=form: form in growing(lines))
            assert count_clients(camera) == 1
            run.stop()
    sizes = {}
    for where, record in records(tmp_path / "events"):
        with av.open(str(where / "clip.mp4")) as video:
            shown = next(video.decode(video=0))
        sizes[record["source"]] = shown.height, shown.width
    (yard_h, yard_w), (gate_h, gate_w) = sizes["yard"], sizes["gate"]
    assert (yard_h, yard_w) == (240, 320)
    assert gate_w / gate_h == 160 / 240  # small pictures are enlarged


def test_a_clip_of_a_masked_camera_shows_nothing_of_what_is_masked(
    tmp_path: Path, light_bundle: Path
) -> None:
    """Its own stream, which has no mask, is not what is kept."""
    anything = thresholds_that_anything_reaches(light_bundle)
    lines = tmp_path / "o.jsonl"
    words = ["--events", tmp_path / "events", "--before", 1, "--json", lines, *anything]
    with RtspServer() as camera:
        address = f"{camera.url}?mask=0.1,0,1,0,1,1,0.1,1"  # all but a strip
        with Running("run", light_bundle, address, *words, "--device", "cpu") as run:
            run.wait_until(lambda: '"event":"start"' in growing(lines))
            run.stop()
    where, _ = records(tmp_path / "events")[0]
    with av.open(str(where / "clip.mp4")) as video:
        pictures = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
    assert pictures
    assert all(picture[:, 40:].max() < 24 for picture in pictures)  # the ball is never to be seen
