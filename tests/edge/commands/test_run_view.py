"""`run` with regions and masks: what the networks see, what is recorded, what a reload changes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from edge.sources.source import open_source
from edge.video.frames import Frame, pack_i420
from tests.support.clips import write_clip
from tests.support.command import Running, assert_refused, growing, read_lines, twostream
from tests.support.rtsp import RtspServer, count_clients

pytestmark = pytest.mark.slow

LEFT, TOP = 200, 60  # of a clip of 320 x 240 in a picture of 640 x 480


def write_lossless(path: Path, frames: Iterable[Frame], size_hw: tuple[int, int]) -> Path:
    height, width = size_hw
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            planes = pack_i420(frame).reshape(height * 3 // 2, width)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuv420p")))
        out.mux(stream.encode())
    return path


def surrounded(frame: Frame) -> Frame:
    """A frame of 320 x 240 in a picture of noise, other noise each time."""
    rng = np.random.default_rng(frame.index)
    y = rng.integers(16, 235, (480, 640), np.uint8)
    u, v = rng.integers(16, 240, (2, 240, 320), np.uint8)
    y[TOP : TOP + 240, LEFT : LEFT + 320] = frame.y
    for plane, inner in ((u, frame.u), (v, frame.v)):
        plane[TOP // 2 : TOP // 2 + 120, LEFT // 2 : LEFT // 2 + 160] = inner
    return replace(frame, y=y, u=u, v=v)


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: line[key] for key in line if key not in ("source", "latency_ms")} for line in lines
    ]


def test_a_clip_in_a_region_has_the_labels_of_the_clip_alone(
    tmp_path: Path, light_bundle: Path, ucf101: Path
) -> None:
    clip = next((ucf101 / "UCF-101" / "Surfing").glob("*.avi"))
    with open_source(str(clip)) as source:
        frames = [frame for frame, _ in zip(source, range(16), strict=False)]
    alone = write_lossless(tmp_path / "alone.mkv", frames, (240, 320))
    picture = write_lossless(tmp_path / "picture.mkv", map(surrounded, frames), (480, 640))
    region = f"region={LEFT / 640},{TOP / 480},0.5,0.5"
    found = {}
    for name, place in (("alone", alone), ("region", f"{picture}?{region}")):
        out = tmp_path / f"{name}.jsonl"
        done = twostream("run", light_bundle, place, "--json", out, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        found[name] = without_times(read_lines(out)[0])
    assert len(found["alone"]) == 16
    assert found["region"] == found["alone"]
    assert {line["state"] for line in found["region"]} == {"warming up", "running"}


def test_what_is_masked_is_black_in_the_recording(tmp_path: Path, light_bundle: Path) -> None:
    """A white clip: its right half is masked, but for what is drawn upon it."""
    clip = write_clip(tmp_path / "clip.avi", frames=20, size_hw=(480, 640), pattern="white")
    out = tmp_path / "out.mp4"
    mask = "mask=0.5,0,1,0,1,1,0.5,1"
    done = twostream("run", light_bundle, f"{clip}?{mask}", "--video", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with av.open(str(out)) as container:
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) == 20
    for picture in pictures:
        middle = picture[230:250]  # nothing is drawn at half the height
        assert middle[:, 330:].max() < 24
        assert middle[:, :300].min() > 220
        assert (picture[:, 330:] > 200).mean() < 0.1


def test_a_reload_applies_changed_regions_and_masks(tmp_path: Path, light_bundle: Path) -> None:
    file, out = tmp_path / "run.toml", tmp_path / "o.jsonl"
    head = f"bundle = '{light_bundle}'\njson = '{out}'\ndevice = 'cpu'\n"

    def sources(**views: str) -> str:
        place = "address = 'test://?live=1&pattern=ball'"
        return "".join(f"[sources.{name}]\n{place}\n{view}\n" for name, view in views.items())

    def lines(name: str) -> int:
        return growing(out).count(f'"source":"{name}","frame"')

    file.write_text(head + sources(yard="region = [0, 0, 0.5, 0.5]", gate=""))
    with Running("run", "--config", file) as run:
        run.wait_until(lambda: lines("yard") >= 2 and lines("gate") >= 2)
        file.write_text(head + sources(yard="region = [0, 0, 0.04, 0.5]", gate="region = [0]"))
        run.process.send_signal(signal.SIGHUP)
        run.said(r"not reloaded, .*: .*sources\.gate: region must be x, y, width, height")
        file.write_text(head + sources(yard="mask = [[[0, 0], [1, 0], [1, 1]]]", gate=""))
        run.process.send_signal(signal.SIGHUP)
        run.said("reloaded: 2 cameras$")
        # the camera is opened again, the other one is not touched
        run.wait_until(lambda: growing(out).count('"summary":{"source":"yard"') == 1)
        before = lines("yard")
        run.wait_until(lambda: lines("yard") >= before + 2)
        run.stop()
    text = out.read_text()
    assert text.count('"summary":{"source":"yard"') == 2
    assert text.count('"summary":{"source":"gate"') == 1


def test_regions_of_one_camera_come_and_go_by_reload(tmp_path: Path, light_bundle: Path) -> None:
    file, out = tmp_path / "run.toml", tmp_path / "o.jsonl"
    regions = {"left": [0, 0, 0.5, 1], "right": [0.5, 0, 0.5, 1], "tiny": [0, 0, 0.01, 1]}

    def lines(name: str, state: str = "") -> int:
        return growing(out).count(f'"source":"{name}","{state or "frame"}"')

    with RtspServer(rate=25) as server:

        def write(*names: str) -> None:
            head = f"bundle = '{light_bundle}'\njson = '{out}'\ndevice = 'cpu'\n[sources]\n"
            form = "[sources.{0}]\naddress = '{1}'\nregion = {2}\n"
            views = "".join(form.format(name, server.url, regions[name]) for name in names)
            file.write_text(f"{head}yard = '{server.url}'\n{views}")

        write("left")
        with Running("run", "--config", file) as run:
            run.wait_until(lambda: lines("yard") >= 2 and lines("left") >= 2)
            write("right", "tiny")
            run.process.send_signal(signal.SIGHUP)
            run.said("reloaded: 3 cameras$")
            run.said("not read any further: tiny: region is 4 x 240 px")  # the others go on
            run.wait_until(lambda: lines("right") >= 2)
            before = lines("yard")
            run.wait_until(lambda: lines("yard") >= before + 2)
            assert count_clients(server) == 1
            run.stop(code=2)  # for the one that could not be read
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    states = [(r["source"], r["source_state"]) for r in rows if "source_state" in r]
    assert [state for name, state in states if name != "tiny"] == ["running"] * 3
    summaries = {row["summary"]["source"]: row["summary"] for row in rows if "summary" in row}
    assert list(summaries) == ["left", "yard", "right", "tiny"]
    # one that joins counts from then on
    last = max(row["frame"] for row in rows if row.get("source") == "right" and "frame" in row)
    assert last <= summaries["right"]["frames"] + summaries["right"]["dropped"]


def test_a_wrong_view_is_refused_in_one_line(tmp_path: Path, light_bundle: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"bundle = '{light_bundle}'\n[sources.yard]\naddress = 'test://'\nmask = 1\n")
    reason = "sources.yard: mask must be polygons, each a list of corners"
    assert_refused(twostream("run", "--config", file), f"{file}: {reason}")
