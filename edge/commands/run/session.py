"""A run whose outputs and device are open: files are read to their end, cameras until the run is
stopped."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from typing import Any

from edge.bundle.manifest import Bundle, Manifest, load_bundle
from edge.commands.run.options import RunOptions
from edge.commands.run.signals import SignalRequests, handle_signals
from edge.commands.run.source_run import SourceRun
from edge.decision.events import EventRules, EventTracker
from edge.decision.recognizer import Recognizer, RunConfig, label_frame, label_video
from edge.devices import Device
from edge.devices.fusion_network import open_fusion_network
from edge.devices.inference import StatefulNetwork
from edge.errors import BundleError, SourceError, TwostreamError
from edge.motion.method import need_vectors
from edge.outputs.base import Output, SourceInfo
from edge.sources.camera_view import CameraView
from edge.sources.first_frames import crashes
from edge.sources.multiplexer import CameraMultiplexer
from edge.sources.named import SourceSpec
from edge.sources.reconnect import ReconnectPolicy, SourceState
from edge.sources.source import Source, open_source
from edge.text import counted
from edge.video.frames import Frame
from edge.video.image_folder import ImageFolder

logger = logging.getLogger(__name__)

_POLL_S = 0.2  # how often signals are checked while no frame comes
_NAMED_MAX = 5  # source names in one message


@dataclass
class Session:
    """The sources of a run and what they share.

    reopen: opens another bundle on the same device, without a check that takes long. network: of
    the bundle's fusion; None if its fusion has none. pictured: an output draws on frames, so they
    are copied until their label is there. packets: an output wants the compressed streams of
    cameras. running: the open sources, by name; failed: why a source was not read to its end, by
    name. reload: reads the options again at SIGHUP; without it, SIGHUP stops the run. requests:
    made by signals so far.
    """

    bundle: Bundle
    device: Device
    reopen: Callable[[Bundle], Device]
    network: StatefulNetwork | None
    config: RunConfig
    rules: EventRules
    pictured: bool
    packets: bool
    outputs: list[Output]
    reload: Callable[[], RunOptions] | None
    requests: SignalRequests
    running: dict[str, SourceRun] = field(default_factory=dict)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def vectors(self) -> bool:
        """Whether sources have to give motion vectors."""
        return need_vectors(self.manifest.motions)

    @property
    def done(self) -> bool:
        """Whether a signal has asked for a stop, or an output has lost its reader."""
        return self.requests.stop or any(output.done for output in self.outputs)

    def begin(self, spec: SourceSpec, source: Source | CameraView | ImageFolder) -> SourceRun:
        """Start a source. Raises SourceError if the rules name an action that is not in the
        bundle."""
        name, manifest = spec.name, self.manifest
        tracker = EventTracker(name, manifest.classes, manifest.decision, self.rules)
        recognizer = Recognizer(
            manifest, self.device.open_context(), self.config, name, self.network
        )
        run = self.running[name] = SourceRun(source, recognizer, tracker, self.outputs)
        self.failed.pop(name, None)
        info = SourceInfo(
            name,
            spec.slug,
            source.live,
            source.frame_rate,
            source.expected_frames,
            self.device.description,
            source.packets if isinstance(source, CameraView) else None,
            spec.address.view,
        )
        for output in self.outputs:
            output.begin(info)
        return run

    def use(self, bundle: Bundle, rules: EventRules, config: RunConfig) -> None:
        """Go on with another bundle. Raises TwostreamError, and goes on with the one before, if it
        has other actions or streams, or cannot be opened."""
        _check_alike(self.bundle, bundle)
        device = self.reopen(bundle)
        try:
            network = open_fusion_network(bundle)
            recognizers = {
                name: Recognizer(bundle.manifest, device.open_context(), config, name, network)
                for name in self.running
            }
        except BaseException:
            device.close()
            raise
        for name, recognizer in recognizers.items():
            self.running[name].use(recognizer, rules)
        self.device.close()
        self.bundle, self.device, self.network = bundle, device, network
        for output in self.outputs:
            output.on_bundle(bundle)
        logger.info("the bundle is now %s, %s", bundle.manifest.name, bundle.path)

    def end(self, name: str) -> None:
        """Close a source that was read as far as requested, and keep its summary."""
        summary = self.running.pop(name).end(self.device.description, summarise=True)
        assert summary is not None
        self.summaries.append(summary)

    def fail(self, spec: SourceSpec, reason: str) -> None:
        """Mark a source as failed. A failed camera stays listed; a file is closed."""
        name = spec.name
        self.failed[name] = reason if name in reason else f"{name}: {reason}"
        if name not in self.running:  # it could not even be opened
            for output in self.outputs:
                output.begin(SourceInfo(name, spec.slug, spec.live, view=spec.address.view))
        self.note(SourceState(name, "failed", reason))
        if spec.live:
            return
        if name in self.running:
            self.running.pop(name).end(self.device.description, summarise=False)
        else:
            for output in self.outputs:
                output.end(name, None)

    def note(self, state: SourceState) -> None:
        for output in self.outputs:
            output.on_source_state(state)

    def tick(self) -> None:
        """Called often, also while no frame comes: pass on counts and the states of outputs."""
        for run in self.running.values():
            run.tick()
        self._note_outputs()

    def _note_outputs(self) -> None:
        for health in [output.health for output in self.outputs if output.health is not None]:
            for state in health.changes():
                for output in self.outputs:
                    output.on_output_state(state)

    def frame(self, frame: Frame) -> Frame:
        """The frame; if it has to wait for its label, a copy that does not hold the decoder's
        buffer."""
        if not self.pictured:
            return frame
        return replace(frame, y=frame.y.copy(), u=frame.u.copy(), v=frame.v.copy())

    def close(self) -> None:
        """Release the device."""
        self.device.close()

    def finish(self) -> None:
        """Finish all outputs, at the regular end of a run."""
        for output in self.outputs:
            output.finish()
        self._note_outputs()

    def complain(self) -> None:
        """Raises SourceError if sources were not read to their end."""
        if not self.failed:
            return
        names = ", ".join(list(self.failed)[:_NAMED_MAX])
        more = len(self.failed) - _NAMED_MAX
        raise SourceError(
            f"{counted(len(self.failed), 'source')} could not be read: {names}"
            + (f" and {more} more" if more > 0 else "")
        )


def read(session: Session, specs: Iterable[SourceSpec]) -> None:
    """Read files one after another; one that cannot be read, or that crashes the decoder, does not
    stop the others.

    Raises SourceError if the only file cannot be read.
    """
    specs = list(specs)
    with (
        _signals(session.requests, reloads=False),
        closing(crashes([spec.uri for spec in specs])) as reasons,
    ):
        for spec, reason in zip(specs, reasons, strict=True):
            if session.done:
                return
            try:
                if reason is not None:
                    raise SourceError(f"{spec.name}: {reason}")
                _read_one(session, spec)
            except SourceError as error:
                session.fail(spec, str(error))
                if len(specs) == 1:
                    raise
                logger.warning("not read any further: %s", session.failed[spec.name])


def _read_one(session: Session, spec: SourceSpec) -> None:
    with open_source(spec.uri, vectors=session.vectors) as source:
        run = session.begin(spec, source)

        def frames() -> Iterator[Frame]:
            for frame in source:
                yield session.frame(frame)
                session.tick()
                if session.done:
                    return

        try:
            label_video(frames(), run.recognizer, run.on_label)
        except SourceError:
            if not session.done:  # then it was not read to its end
                raise
        session.end(spec.name)


def watch(session: Session, options: RunOptions) -> None:
    """Read cameras until a signal asks to stop or no camera is left.

    Raises SourceError if a camera cannot be opened at the start and --wait-for-cameras is not set.
    """
    requests = session.requests
    multiplexer = CameraMultiplexer(session.packets, session.vectors)
    with _signals(requests, session.reload is not None), multiplexer as cameras:
        for spec in options.sources:
            _begin_camera(session, cameras, spec, options.reconnect)
        reloaded = False
        while cameras.any_left() and not session.done:
            if requests.reload:
                requests.reload, reloaded = False, True
                options = _reload(session, cameras, options)
            arrival = cameras.next(_POLL_S)
            _pass_on(session, cameras)  # a camera's state is reported before its first frame
            _note_failed(session, cameras, options, reloaded)
            if arrival is not None:
                _label(session, cameras, *arrival)
            session.tick()
        _pass_on(session, cameras)
        _note_failed(session, cameras, options, reloaded)
        for name in list(session.running):
            _end_camera(session, cameras, name)


def _begin_camera(
    session: Session, cameras: CameraMultiplexer, spec: SourceSpec, policy: ReconnectPolicy
) -> None:
    session.begin(spec, cameras.add(spec.name, spec.uri, policy))


def _label(session: Session, cameras: CameraMultiplexer, name: str, frame: Frame) -> None:
    run = session.running[name]
    run.check_rate(frame)
    label_frame(session.frame(frame), run.recognizer, run.on_label)
    limit = session.config.max_frames
    if limit and run.recognizer.statistics.frames >= limit:
        _end_camera(session, cameras, name)


def _end_camera(session: Session, cameras: CameraMultiplexer, name: str) -> None:
    cameras.remove(name)
    _pass_on(session, cameras)  # report its last state before its end
    statistics = session.running[name].recognizer.statistics
    statistics.seconds = time.monotonic() - statistics.began_s
    session.end(name)


def _pass_on(session: Session, cameras: CameraMultiplexer) -> None:
    for state in cameras.states():
        if state.name in session.running:
            session.note(state)


def _note_failed(
    session: Session, cameras: CameraMultiplexer, options: RunOptions, reloaded: bool
) -> None:
    """Report cameras that have failed. They stay listed until the end of the run or until a reload
    tries them again. One that gave no frame ends the run, unless --wait-for-cameras is set or the
    run was reloaded since it began: cameras that work are not stopped for one that is added."""
    specs = {spec.name: spec for spec in options.sources}
    for name, fault in cameras.faults().items():
        if name in session.failed:
            continue
        session.fail(specs[name], str(fault))
        view = session.running[name].source
        at_start = isinstance(view, CameraView) and not view.began and not reloaded
        if at_start and not options.reconnect.wait:
            raise fault
        logger.warning("not read any further: %s", session.failed[name])


def _reload(session: Session, cameras: CameraMultiplexer, options: RunOptions) -> RunOptions:
    """Apply changed options: the bundle, cameras, rules, and which frames are processed."""
    try:
        assert session.reload is not None
        new = session.reload()
        bundle = load_bundle(new.bundle)
        new.rules.check(bundle.manifest.classes, bundle.manifest.decision)
        new.config.check(bundle.manifest)
        if not new.live:
            raise SourceError(f"{new.sources[0].name} is a file; this run reads cameras")
        if bundle.manifest_bytes() != session.bundle.manifest_bytes():
            session.use(bundle, new.rules, new.config)
    except TwostreamError as error:
        logger.warning("not reloaded, the run continues unchanged: %s", error)
        return options
    session.config, session.rules = new.config, new.rules
    before, after = ({spec.name: spec.uri for spec in o.sources} for o in (options, new))
    for name in before:
        again = after.get(name) != before[name] or name in session.failed
        if name in session.running and again:
            _end_camera(session, cameras, name)
    for run in session.running.values():
        run.change(new.rules, new.config)
    for spec in new.sources:
        if spec.name not in session.running:
            _begin_camera(session, cameras, spec, new.reconnect)
    applied = {"bundle", "sources", "config", "rules"}
    unchanged = replace(new, **{name: getattr(options, name) for name in applied})
    note = "" if unchanged == options else "; other changed options need a restart"
    logger.info("reloaded: %s%s", counted(len(new.sources), "camera"), note)
    return replace(options, **{name: getattr(new, name) for name in applied})


def _check_alike(old: Bundle, new: Bundle) -> None:
    """Raises BundleError if a run of one bundle cannot go on with the other: its outputs and
    cameras are set up for these actions and streams."""
    one, other = old.manifest, new.manifest
    for what, differ in (
        ("actions", one.classes != other.classes),
        ("streams", list(one.streams) != list(other.streams)),
        ("needs of its cameras", need_vectors(one.motions) != need_vectors(other.motions)),
    ):
        if differ:
            raise BundleError(f"{new.path}: has other {what}; restart the run to take it")


def _signals(requests: SignalRequests, reloads: bool) -> AbstractContextManager[None]:
    """SIGINT and SIGTERM request a stop, so that outputs are closed properly; so does SIGHUP,
    unless it `reloads`."""
    stop = requests.request_stop
    hang_up = requests.request_reload if reloads else requests.hang_up
    return handle_signals({signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: hang_up})
