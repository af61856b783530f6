"""`twostream run`: opens what was asked for, joins it, and closes it well."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from edge.address import Address, parse_address
from edge.bundle import Manifest, load_bundle
from edge.devices import open_device
from edge.errors import SinkError, SourceError
from edge.events import Event, EventRules, EventTracker
from edge.flow.stack import FlowBytes, to_pixels
from edge.frames import Frame
from edge.fusion import UNKNOWN
from edge.mqtt import BrokerAddress, MQTTSink
from edge.overlay import OverlayView, Picture, bgr_picture, draw_overlay, picture_size
from edge.report import (
    best,
    label_record,
    notice_record,
    summary_lines,
    summary_record,
    summary_table,
)
from edge.runtime import RUNNING, Label, Recogniser, RunConfig, recognise
from edge.service import Notifier
from edge.sink import JsonLines, VideoWriter
from edge.source import Source, open_source
from edge.supervisor import CameraState, Patience, Supervised
from edge.web.server import WebAddress, WebServer
from edge.web.state import LiveState
from edge.webhook import Webhook

FLOW_PICTURE_PX = 112  # about the side of the flow picture; it is thinned to that before drawing


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is made of the labels; None is not made."""

    video: Path | None
    json: str | None
    web: WebAddress | None
    mqtt: BrokerAddress | None
    webhook: str | None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked for on the command line."""

    bundle: Path
    source: str
    device: str
    config: RunConfig
    rules: EventRules
    patience: Patience
    outputs: Outputs


class Sink(Protocol):
    """Takes labels as they come, and what happens between them."""

    def show(self, label: Label) -> None: ...
    def tell(self, notice: Event | CameraState) -> None: ...


def run(options: RunOptions) -> None:
    """Recognise until the source ends or a signal asks to stop; a second signal interrupts.

    Raises TwostreamError for whatever the user can mend.
    """
    _check_outputs(options)
    address = parse_address(options.source)
    pictured = options.outputs.video is not None or options.outputs.web is not None
    console = Console(stderr=True, highlight=False)
    bundle = load_bundle(options.bundle)
    manifest = bundle.manifest

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False)

    if manifest.accepted_loss is not None:
        say(f"warning: this bundle was made although {manifest.accepted_loss}")

    with ExitStack() as stack:
        sinks: list[Sink] = [_Console(say)]

        def tell(notice: Event | CameraState) -> None:
            for sink in sinks:
                sink.tell(notice)

        if options.outputs.mqtt is not None:
            sinks.append(stack.enter_context(MQTTSink(options.outputs.mqtt, say)))
        if options.outputs.webhook is not None:
            sinks.append(stack.enter_context(Webhook(options.outputs.webhook, say)))
        # what is not there is told before anything is loaded
        source = _open(address, options, tell)
        device = open_device(options.device, bundle, say, flow_wanted=pictured)
        stack.callback(device.close)
        # before the camera, which may be waited for: that is no reason to be restarted
        sinks.append(stack.enter_context(Notifier()))
        stack.enter_context(source)  # last: a camera's frames would be dropped meanwhile
        recogniser = Recogniser(manifest, device, options.config)
        tracker = EventTracker(manifest.classes, manifest.fusion.threshold, options.rules)
        json = video = None
        if options.outputs.json is not None:
            json = stack.enter_context(JsonLines(options.outputs.json))
            sinks.append(_Records(json, manifest.classes))
        if options.outputs.video is not None:
            rate = source.frame_rate or 1 / manifest.flow.interval_s
            writer = VideoWriter(options.outputs.video, picture_size(source.size_hw), rate)
            video = stack.enter_context(writer)
            sinks.append(_Pictures(video, _Artist(manifest)))
        if options.outputs.web is not None:
            state = LiveState(manifest, source, address.name, recogniser, _Artist(manifest))
            server = stack.enter_context(WebServer(options.outputs.web, state))
            sinks.append(state)
            say(f"live page: {server.url}")
        with _status(console, source, manifest) as status, _until_signal(source) as frames:
            sinks.append(status)
            kept = map(_own, frames) if pictured else frames
            try:
                recognise(kept, source.live, recogniser, _Follow(tracker, sinks, tell))
            except SourceError as error:
                raise SourceError(f"{options.source} {error}") from None
        for event in tracker.clear():
            tell(event)
        summary = summary_record(
            recogniser, device.description, source.dropped, source.expected_frames, source.warnings
        )
        if json is not None:
            json.write({"summary": summary})
            json.finish()
        if video is not None:
            video.finish()
    for warning in source.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True, markup=False)
    console.print(summary_table(summary))
    for line in summary_lines(summary):
        console.print(line, soft_wrap=True, markup=False)


def _check_outputs(options: RunOptions) -> None:
    """Raises SinkError where an output would take the place of the source or of another output."""
    taken = {Path(options.source).resolve(): "the source"}
    for option, name in (("--video", options.outputs.video), ("--json", options.outputs.json)):
        if name is None or str(name) == "-":
            continue
        path = Path(name).resolve()
        if path in taken:
            raise SinkError(f"{name}: is {taken[path]} already; give {option} another name")
        taken[path] = f"the output of {option}"


def _open(
    address: Address, options: RunOptions, tell: Callable[[CameraState], None]
) -> Source | Supervised:
    """A camera is waited for; a file or a test pattern is read to its end."""
    if address.kind in ("file", "test"):
        return open_source(options.source)
    return Supervised(options.source, options.patience, tell)


@dataclass(frozen=True, slots=True)
class _Follow:
    """Shows each label, and tells the actions that start and end with it."""

    tracker: EventTracker
    sinks: list[Sink]
    tell: Callable[[Event], None]

    def __call__(self, label: Label) -> None:
        if label.decision is None:  # after a gap, as at the start
            events = self.tracker.clear()
        else:
            events = self.tracker.push(label.frame.time_s, label.decision.scores)
        for sink in self.sinks:
            sink.show(label)
        for event in events:
            self.tell(event)


def _own(frame: Frame) -> Frame:
    """A frame that does not keep the decoder's buffer: it waits for its label to be drawn."""
    return replace(frame, y=frame.y.copy(), u=frame.u.copy(), v=frame.v.copy())


@contextmanager
def _until_signal(source: Source | Supervised) -> Iterator[Iterator[Frame]]:
    """The source's frames until SIGINT or SIGTERM, so that all outputs are closed well."""
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:
            raise KeyboardInterrupt
        stopped = True
        if isinstance(source, Supervised):
            source.stop()  # also while it waits for a camera

    def frames() -> Iterator[Frame]:
        for frame in source:
            yield frame
            if stopped:
                return

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield frames()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class _Records:
    """Labels as JSON lines."""

    out: JsonLines
    classes: tuple[str, ...]

    def show(self, label: Label) -> None:
        if not self.out.write(label_record(label, self.classes)):
            signal.raise_signal(signal.SIGTERM)  # nobody reads any more

    def tell(self, notice: Event | CameraState) -> None:
        self.out.write(notice_record(notice))


class _Console:
    """What a person should know while it runs: cameras that are lost and come back."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._lost_s = say, 0.0

    def show(self, label: Label) -> None:
        """Labels are the progress line's."""

    def tell(self, notice: Event | CameraState) -> None:
        if isinstance(notice, Event):
            return
        if notice.state == "running":
            if self._lost_s:
                self._say(
                    f"{notice.name}: running again after {time.monotonic() - self._lost_s:.1f} s"
                )
            self._lost_s = 0.0
            return
        self._lost_s = self._lost_s or time.monotonic()
        if notice.failures & (notice.failures - 1) == 0:  # the first, second, fourth, ...
            self._say(f"lost: {notice.reason}; next try in {notice.retry_s:.1f} s")


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Labels drawn on the frames they belong to."""

    writer: VideoWriter
    artist: _Artist

    def show(self, label: Label) -> None:
        self.writer.write(self.artist(label), label.frame.time_s)

    def tell(self, notice: Event | CameraState) -> None:
        """The picture shows labels."""


class _Artist:
    """Draws a label on its frame."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def __call__(self, label: Label) -> Picture:
        picture = bgr_picture(label.frame)
        draw_overlay(picture, self._view(label))
        return picture

    def _view(self, label: Label) -> OverlayView:
        classes, decision = self._manifest.classes, label.decision
        known = decision is not None and decision.label != UNKNOWN
        spatial, temporal = best(label.spatial, classes), best(label.temporal, classes)
        return OverlayView(
            state=label.state,
            label=decision.label if decision is not None and known else None,
            score=decision.score if decision is not None else 0.0,
            spatial=spatial,
            temporal=temporal,
            flow=None if label.flow is None else self._thinned(label.flow),
            status=f"{label.frame.time_s:.1f} s   {label.latency_ms:.0f} ms",
        )

    def _thinned(self, flow: FlowBytes) -> np.ndarray:
        step = max(flow.shape[1] // FLOW_PICTURE_PX, 1)
        return to_pixels(flow[:, ::step, ::step], self._manifest.flow)


class _Status:
    """What the terminal shows meanwhile: a bar for a file, one line for a live source."""

    def __init__(self, progress: Progress, source: Source | Supervised) -> None:
        self._progress = progress
        self._task = progress.add_task(
            "warming up", total=None if source.live else source.expected_frames
        )
        self._source = source

    def show(self, label: Label) -> None:
        text: str = label.state
        if label.decision is not None and label.state == RUNNING:
            text = f"{label.decision.label} {label.decision.score:.2f}"
        if self._source.live:
            text += f"  {label.latency_ms:.0f} ms, {self._source.dropped} dropped"
        self._progress.update(self._task, completed=label.frame.index + 1, description=text)

    def tell(self, notice: Event | CameraState) -> None:
        if isinstance(notice, CameraState) and notice.state == "lost":
            self._progress.update(self._task, description="camera lost")


@contextmanager
def _status(console: Console, source: Source | Supervised, manifest: Manifest) -> Iterator[_Status]:
    width = max(len(name) for name in manifest.classes) + 5
    columns = [SpinnerColumn(), TextColumn(f"{{task.description:{width}}}", markup=False)]
    if not source.live:
        columns += [BarColumn(), TimeRemainingColumn()]
    with Progress(
        *columns,
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield _Status(progress, source)
