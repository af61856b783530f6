"""Records each action as a folder: a clip, a picture of its best moment and what the networks said.

Each action has its own clip, from some seconds before it to some after it, so clips of actions that
follow each other closely overlap. The clip is the camera's own H.264 or H.265 stream where it sends
one; the frames that are labelled are encoded otherwise. A clip ends early where the camera is lost,
after LONGEST_S, or where it would take more memory than a camera may (see edge.video.packets); its
record says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge.bundle.manifest import Bundle, sha256
from edge.decision.events import Event
from edge.decision.label import Label
from edge.errors import OutputError
from edge.outputs.base import Output, SourceInfo
from edge.outputs.events.event_store import EventStore
from edge.outputs.events.recording import LONGEST_S, Moment, Recording, earliest, moment_of
from edge.outputs.events.ring_encoder import RingEncoder
from edge.outputs.events.writer import EventFiles, EventWriter
from edge.outputs.health import OutputHealth
from edge.outputs.jpeg import jpeg_bytes
from edge.outputs.overlay import Picture, bgr_picture
from edge.outputs.picture_encoder import choose_encoder
from edge.sources.reconnect import SourceState
from edge.video.packets import PacketRing

_REPORT_S = 3.0  # an action is reported so long after it began at most, with its cooldown
_LATE_S = 2.0  # after a clip's end, if its last pictures do not come


@dataclass(frozen=True, slots=True)
class Margins:
    """Seconds of a clip before its action begins and after it has ended."""

    before_s: float = 5.0
    after_s: float = 5.0


@dataclass
class _Camera:
    """What is known of a source. moments: of the last seconds. encoded: the ring of our encoder."""

    info: SourceInfo
    rate: float
    encoded: PacketRing = field(default_factory=PacketRing)
    encoder: RingEncoder | None = None
    size_hw: tuple[int, int] = (0, 0)
    moments: deque[Moment] = field(default_factory=deque)
    recordings: list[Recording] = field(default_factory=list)
    last: Label | None = None

    @property
    def own(self) -> PacketRing | None:
        """The ring of the stream that it sends; None: it sends none that can be kept."""
        ring = self.info.packets
        return ring if ring is not None and ring.newest_s is not None else None

    def end_encoder(self) -> None:
        if self.encoder is not None:
            self.encoder.close()
            self.encoder = None


class EventRecorder(Output):
    """default_rate: frames a second, for sources without a known rate. draw: returns (H, W, 3) BGR,
    which must not be changed. goes_on: whether the run does where an event cannot be written."""

    health: OutputHealth

    def __init__(
        self,
        store: EventStore,
        margins: Margins,
        bundle: Bundle,
        draw: Callable[[Label], Picture],
        goes_on: bool,
    ) -> None:
        self._store, self._margins, self._draw, self._goes_on = store, margins, draw, goes_on
        self._use(bundle)
        self.health = OutputHealth("events", "events not recorded")
        self._writer = EventWriter(store, self.health, goes_on)
        self._cameras: dict[str, _Camera] = {}

    def __enter__(self) -> EventRecorder:
        self._store.open()
        self._writer.start()
        return self

    def begin(self, source: SourceInfo) -> None:
        rate = source.frame_rate or 1 / self._manifest.interval_s
        self._cameras[source.name] = _Camera(source, rate)

    def on_bundle(self, bundle: Bundle) -> None:
        for camera in self._cameras.values():
            self._end_all(camera, "the bundle was changed")
        self._use(bundle)

    def _use(self, bundle: Bundle) -> None:
        self._manifest = bundle.manifest
        self._bundle = {"name": bundle.manifest.name, "sha256": sha256(bundle.manifest_bytes())}

    def on_source_state(self, state: SourceState) -> None:
        camera = self._cameras[state.name]
        camera.rate = state.frame_rate or camera.rate
        if state.state != "running":
            self._end_all(camera, f"the camera was {state.state}")

    def on_label(self, label: Label) -> None:
        camera = self._cameras[label.source]
        self._writer.check()
        camera.last = label
        if camera.own is None:
            self._encode(camera, label)
        else:
            camera.end_encoder()
        if (moment := moment_of(label)) is not None:
            camera.moments.append(moment)
        for recording in camera.recordings:
            recording.add(label)
        self._end_due(camera, label.frame.time_s)
        self._hold(camera, label)

    def on_event(self, event: Event) -> None:
        camera = self._cameras[event.source]
        if event.kind == "start":
            if camera.last is not None:
                camera.recordings.append(self._recording(camera, camera.last, event))
                self._hold(camera, camera.last)
            return
        for recording in camera.recordings:
            if recording.ended_s is None:
                recording.ended_s, recording.score = event.time_s, event.score
                self._draw_best(recording)

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        camera = self._cameras.pop(source)
        camera.end_encoder()
        self._end_all(camera, "the source has ended")

    def finish(self) -> None:
        self._writer.finish()

    def close(self) -> None:
        for camera in self._cameras.values():
            camera.end_encoder()
        self._writer.close()

    def _recording(self, camera: _Camera, label: Label, event: Event) -> Recording:
        ring, offset_s = camera.encoded, 0.0
        if (own := camera.own) is not None:
            ring, offset_s = own, label.frame.arrived_s - label.frame.time_s
        from_s = event.started_s - self._margins.before_s
        return Recording(
            event,
            self._manifest.classes.index(event.label),
            ring,
            ring.stream,
            from_s,
            offset_s,
            label,
            label.latency_ms,
            [moment for moment in camera.moments if moment.time_s >= from_s],
        )

    def _encode(self, camera: _Camera, label: Label) -> None:
        """Add a frame of a camera that sends no H.264 or H.265 to its ring."""
        picture = bgr_picture(label.frame)
        size_hw = (picture.shape[0], picture.shape[1])
        choose_encoder(size_hw)  # without one no event helps: this fault ends the run
        time_s = label.frame.time_s
        try:
            if camera.encoder is None or size_hw != camera.size_hw:
                camera.end_encoder()
                camera.encoder = RingEncoder(camera.encoded, size_hw, camera.rate, time_s)
                camera.size_hw = size_hw
            camera.encoder.write(picture, time_s)
        except OutputError as fault:
            camera.end_encoder()
            self.health.fail(f"{camera.info.name}: {fault}")
            if not self._goes_on:
                raise

    def _hold(self, camera: _Camera, label: Label) -> None:
        """Let go of what no clip needs any more."""
        time_s, oldest_s = label.frame.time_s, self._margins.before_s + _REPORT_S
        while camera.moments and camera.moments[0].time_s < time_s - oldest_s:
            camera.moments.popleft()
        arrived_s = label.frame.arrived_s
        for ring, now_s in ((camera.own, arrived_s), (camera.encoded, time_s)):
            if ring is not None:
                first_s = earliest(camera.recordings, ring)
                from_s = now_s - oldest_s
                ring.hold(from_s if first_s is None else min(first_s, from_s), first_s is not None)

    def _end_due(self, camera: _Camera, time_s: float) -> None:
        """End what is complete, and what cannot go on."""
        for recording in list(camera.recordings):
            cut, to_s = None, time_s
            if recording.ended_s is not None and (
                time_s >= (last_s := recording.ended_s + self._margins.after_s)
                and (recording.caught_up(last_s) or time_s >= last_s + _LATE_S)
            ):
                to_s = last_s
            elif time_s - recording.from_s >= LONGEST_S:
                cut = f"a clip is {LONGEST_S:g} s long at most"
            elif recording.ring.full(recording.begin):
                cut = f"a camera has {recording.ring.limit_bytes >> 20} MiB at most"
            else:
                continue
            self._end(camera, recording, to_s, cut)

    def _end_all(self, camera: _Camera, cut: str) -> None:
        for recording in list(camera.recordings):
            time_s = camera.last.frame.time_s if camera.last is not None else recording.from_s
            due_s = None if recording.ended_s is None else recording.ended_s + self._margins.after_s
            if due_s is not None and due_s <= time_s:
                self._end(camera, recording, due_s, None)
            else:
                self._end(camera, recording, time_s, cut)

    def _end(self, camera: _Camera, recording: Recording, to_s: float, cut: str | None) -> None:
        """Hand a recording to the writer."""
        camera.recordings.remove(recording)
        self._draw_best(recording)
        packets = recording.packets(to_s)
        if not packets:
            self.health.fail(
                f"{camera.info.name}: an event without a clip, for there was no key frame among "
                f"the last {recording.ring.limit_bytes >> 20} MiB of its stream"
            )
        more = {"bundle": self._bundle, "device": camera.info.device}
        record = recording.record(cut, packets, more)
        slug = camera.info.slug
        self._writer.put(EventFiles(camera.info.name, slug, record, recording.picture, packets))

    def _draw_best(self, recording: Recording) -> None:
        """Draw the best moment, and let go of its frame."""
        if recording.best is not None:
            recording.picture, recording.best = jpeg_bytes(self._draw(recording.best)), None
