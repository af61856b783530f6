"""What is recorded of an action: seconds around it, its best moment, the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from edge.bundle.manifest import Bundle, load_bundle
from edge.errors import OutputError
from edge.outputs.annotator import Annotator
from edge.outputs.events import event_recorder
from edge.sources.reconnect import SourceState
from edge.video.packets import PacketRing
from tests.support.disks import Filler, small_disk
from tests.support.event_scene import RATE, Scene
from tests.support.paths import REPOSITORY
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(REPOSITORY / "edge/bundles/ucf101-mini")


def read_clip(path: Path) -> tuple[list[float], str, bool]:
    """The times of its pictures, their format, and whether the first packet is a key frame."""
    with av.open(str(path)) as video:
        first = next(video.demux(video=0))
        video.seek(0)
        frames = list(video.decode(video=0))
    return [float(frame.time or 0) for frame in frames], frames[0].format.name, first.is_keyframe


@pytest.mark.slow
def test_an_event_has_a_clip_a_picture_and_scores(tmp_path: Path, bundle: Bundle) -> None:
    scene = Scene(tmp_path / "events", bundle)
    scene.run(6)
    scene.run(0.4, 0.6)
    event = scene.start()
    scene.run(1, 0.7)
    best = scene.run(0.1, 0.9)
    scene.run(1, 0.8)
    scene.stop(event)
    scene.run(3)
    folder, record = scene.folder_of(event), scene.record_of(event)
    assert {file.name for file in folder.iterdir()} == {"clip.mp4", "picture.jpg", "event.json"}
    assert folder.name.endswith(f"-yard-Diving-{event.id}")
    assert (record["id"], record["source"], record["label"]) == (event.id, "yard", "Diving")
    assert (record["score"], record["device"], record["cut"]) == (0.9, "a device", None)
    assert record["best"] == {"time": best.frame.time_s, "score": 0.9}
    assert record["bundle"]["name"] == "ucf101-mini"
    assert len(record["bundle"]["sha256"]) == 64
    # a second after its end, 2 s before its start and less than a group of 30 more
    ended_s = record["ended"]
    begins_s, seconds = record["clip"]["begins"], record["clip"]["seconds"]
    assert event.started_s - 5 < begins_s <= event.started_s - 2
    assert begins_s + seconds == pytest.approx(ended_s + 1 + 1 / RATE, abs=0.11)
    times, pixels, key = read_clip(folder / "clip.mp4")
    assert (times[0], pixels, key) == (0, "yuv420p", True)
    assert len(times) == round(seconds * RATE)
    data = (folder / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    moments = record["scores"]
    assert [moment["time"] for moment in moments] == sorted(moment["time"] for moment in moments)
    assert moments[0]["time"] <= event.started_s - 1.9
    assert moments[-1]["time"] >= ended_s + 1
    at_best = next(m for m in moments if m["time"] == record["best"]["time"])
    assert at_best["streams"] == {"spatial": 0.9, "temporal": 0.63}
    picture = cv2.imread(str(folder / "picture.jpg"))
    expected = Annotator(bundle.manifest)(best)
    assert picture is not None
    assert np.abs(picture.astype(int) - expected).mean() < 6
    scene.finish()


@pytest.mark.slow
def test_actions_that_follow_each_other_have_clips_that_overlap(
    tmp_path: Path, bundle: Bundle
) -> None:
    scene = Scene(tmp_path / "events", bundle)
    scene.run(3)
    first = scene.start("Diving")
    scene.run(1, 0.7)
    scene.stop(first)
    second = scene.start("Swing", began_s=0.0)
    scene.run(1, 0.8, "Swing")
    scene.stop(second)
    scene.run(3)
    one, two = scene.record_of(first), scene.record_of(second)
    assert two["clip"]["begins"] < one["ended"] < two["ended"]
    assert one["clip"]["begins"] + one["clip"]["seconds"] > two["started"]
    assert (one["best"]["score"], two["best"]["score"]) == (0.7, 0.8)
    scene.finish()


@pytest.mark.parametrize("state", ["lost", "failed"])
def test_a_clip_ends_where_the_camera_is_lost(state: Any, tmp_path: Path, bundle: Bundle) -> None:
    scene = Scene(tmp_path / "events", bundle)
    scene.run(3)
    event = scene.start()
    scene.run(1, 0.7)
    scene.recorder.on_source_state(SourceState("yard", state, "gone"))
    record = scene.record_of(event)
    assert (record["cut"], record["ended"]) == (f"the camera was {state}", None)
    assert record["clip"]["begins"] <= event.started_s - 2
    scene.stop(event)  # reported when the camera is back
    scene.finish()
    assert scene.recorder.health.lost_total == 0


@pytest.mark.slow
def test_a_clip_has_a_longest_length_and_a_largest_size(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_recorder, "LONGEST_S", 5.0)
    scene = Scene(tmp_path / "events", bundle)
    scene.run(3)
    event = scene.start()
    scene.run(5, 0.7)
    assert scene.record_of(event)["cut"] == "a clip is 5 s long at most"
    scene.stop(event)
    monkeypatch.setattr(event_recorder, "LONGEST_S", 1000.0)
    ring = scene.recorder._cameras["yard"].encoded
    ring.limit_bytes = 2 * ring.size_bytes
    event = scene.start()
    while scene.store.find(event.id) is None:
        scene.run(1, 0.7)
        assert ring.size_bytes <= ring.limit_bytes
    record = scene.record_of(event)
    assert record["cut"] == f"a camera has {ring.limit_bytes >> 20} MiB at most"
    assert record["clip"]["begins"] <= event.started_s
    scene.finish()


@pytest.mark.slow
def test_without_a_key_frame_there_is_no_clip_and_it_is_said(
    tmp_path: Path, bundle: Bundle
) -> None:
    scene = Scene(tmp_path / "events", bundle)
    scene.recorder._cameras["yard"].encoded = PacketRing(limit_bytes=10)  # no group fits
    scene.run(3)
    event = scene.start()
    scene.run(1, 0.7)
    scene.stop(event)
    scene.run(4)
    assert scene.record_of(event)["clip"] is None
    assert not (scene.folder_of(event) / "clip.mp4").exists()
    states = scene.recorder.health.changes()
    assert "an event without a clip" in states[1].reason
    scene.finish()


def test_what_is_under_way_at_the_end_is_recorded(tmp_path: Path, bundle: Bundle) -> None:
    scene = Scene(tmp_path / "events", bundle, live=False)
    scene.run(3)
    event = scene.start()
    scene.run(1, 0.7)
    scene.finish()
    record = scene.record_of(event)
    assert record["cut"] == "the source has ended"
    assert record["clip"]["begins"] + record["clip"]["seconds"] == pytest.approx(4.0)


@pytest.mark.slow
def test_a_full_disk_loses_events_of_cameras_and_ends_a_run_of_files(
    tmp_path: Path, bundle: Bundle
) -> None:
    with small_disk(tmp_path / "disk", 40) as disk:
        scene = Scene(disk / "events", bundle)
        scene.run(3)
        with Filler(disk):
            scene.start()
            scene.recorder.on_source_state(SourceState("yard", "lost", "gone"))
            wait_until(lambda: scene.recorder.health.failing)
        assert scene.recorder.health.lost("yard") == 1
        event = scene.start()
        scene.recorder.on_source_state(SourceState("yard", "lost", "gone"))
        assert scene.folder_of(event)
        wait_until(lambda: not scene.recorder.health.failing)
        scene.finish()
        files = Scene(disk / "events", bundle, live=False)
        files.run(3)
        files.start()
        with Filler(disk), pytest.raises(OutputError, match="make room"):
            files.finish()
        files.recorder.close()
