"""A network camera's own stream in the clips of its events, also after it was lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from edge.bundle.manifest import load_bundle
from edge.decision.events import Event
from edge.outputs.annotator import Annotator
from edge.outputs.base import SourceInfo
from edge.outputs.events.event_recorder import EventRecorder, Margins
from edge.outputs.events.event_store import EventStore
from edge.sources.reconnect import ReconnectingSource, ReconnectPolicy, SourceState
from edge.video.frames import Frame
from edge.video.packets import PacketRing
from tests.support.labels import make_label
from tests.support.paths import REPOSITORY
from tests.support.rtsp import RtspServer
from tests.support.waiting import BOUND_S, wait_until

BUNDLE = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini")


class Watch:
    """The frames of a camera, labelled by hand. shown: the luma of each."""

    def __init__(self, camera: Iterator[Frame], recorder: EventRecorder) -> None:
        self._camera, self._recorder = camera, recorder
        self.shown: set[bytes] = set()

    def frames(self, count: int) -> Frame:
        for _ in range(count):
            frame = next(self._camera)
            self.shown.add(frame.y.tobytes())
            self._recorder.on_label(make_label(BUNDLE.manifest, frame, score=0.8))
        return frame

    def event(self) -> Event:
        """Of 15 frames, and what follows until its clip is complete."""
        time_s = self.frames(1).time_s
        event = Event("yard", "start", "Diving", time_s, time_s, 0.8)
        self._recorder.on_event(event)
        time_s = self.frames(15).time_s
        self._recorder.on_event(Event("yard", "end", "Diving", event.started_s, time_s, 0.9))
        while self.frames(1).time_s < time_s + 1.0:
            pass
        return event


def pictures(path: Path) -> list[bytes]:
    """The luma of each picture of a clip of 240 lines."""
    with av.open(str(path)) as video:
        shown = [frame.to_ndarray()[:240] for frame in video.decode(video=0)]
    return [np.ascontiguousarray(picture).tobytes() for picture in shown]


@pytest.mark.slow
def test_each_connection_has_clips_of_its_own_stream(tmp_path: Path) -> None:
    store, ring, states = EventStore(tmp_path / "events"), PacketRing(), list[SourceState]()
    recorder = EventRecorder(
        store, Margins(0.5, 0.0), BUNDLE, Annotator(BUNDLE.manifest), goes_on=True
    )
    policy = ReconnectPolicy(stall_s=BOUND_S)
    with RtspServer() as server, recorder:
        camera = ReconnectingSource(server.url, policy, states.append, BOUND_S, ring)
        recorder.begin(SourceInfo("yard", "yard", live=True, packets=ring))
        with camera:
            watch = Watch(camera, recorder)
            watch.frames(30)
            first = watch.event()
            server.process.kill()
            server.process.wait(BOUND_S)
            server.start_again()
            while len(states) < 3:  # running, lost, running
                watch.frames(1)
            recorder.on_source_state(replace(states[1], name="yard"))
            watch.frames(30)
            second = watch.event()
        recorder.end("yard", {})
        recorder.finish()
    for event in (first, second):
        folder = wait_until(lambda event=event: store.find(event.id))
        record = json.loads((folder / "event.json").read_text())
        assert record["clip"]["codec"] == "h264"
        assert record["clip"]["begins"] <= event.started_s
        shown = pictures(folder / "clip.mp4")
        assert len(shown) >= 15
        assert sum(picture in watch.shown for picture in shown) >= 15  # bit for bit
    assert recorder.health.lost_total == 0
