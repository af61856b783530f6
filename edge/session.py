"""A run whose outputs and device are open: files read to their end, cameras watched until asked to
stop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from edge.bundle import Manifest
from edge.cameras import Cameras
from edge.devices import Device
from edge.errors import SourceError, TwostreamError
from edge.events import EventRules, EventTracker
from edge.follower import Follower, tell
from edge.frames import Frame
from edge.listener import Listener
from edge.options import RunOptions
from edge.outputs import Records, Videos
from edge.runtime import Recogniser, RunConfig, answer, recognise
from edge.source import Source, open_source
from edge.sources import SourceSpec
from edge.supervisor import Patience, Supervised

logger = logging.getLogger(__name__)

_LOOK_S = 0.2  # how often a signal is looked for while no frame comes
_NAMED_MAX = 5  # sources that a message names


@dataclass
class Session:
    """pictured: frames wait for their labels to be drawn on them. followers: by name, of the
    sources that are open; slugs: what files and streams are called after them; unread: why a
    source could not be read to its end.
    """

    manifest: Manifest
    device: Device
    config: RunConfig
    rules: EventRules
    pictured: bool
    listeners: list[Listener]
    followers: dict[str, Follower]
    slugs: dict[str, str]
    records: Records | None
    videos: Videos | None
    summaries: list[dict[str, Any]] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    def begin(self, spec: SourceSpec, source: Source | Supervised) -> Follower:
        """Raises SourceError where the rules name an action that the bundle does not know."""
        name, manifest = spec.name, self.manifest
        tracker = EventTracker(name, manifest.classes, manifest.fusion.threshold, self.rules)
        recogniser = Recogniser(manifest, self.device.open_feed(), self.config, name)
        follower = Follower(source, recogniser, tracker, self.listeners)
        self.slugs[name], self.followers[name] = spec.slug, follower
        self.unread.pop(name, None)
        for listener in self.listeners:
            listener.begin(name)
        return follower

    def end(self, name: str, summarise: bool = True) -> None:
        follower = self.followers.pop(name)
        summary = follower.end(self.device.description)
        if summarise:
            self.summaries.append(summary)
            if self.records is not None:
                self.records.write({"summary": summary})

    def fail(self, name: str, reason: str) -> None:
        """A source is not read any further; the others are."""
        reason = reason if name in reason else f"{name}: {reason}"
        self.unread[name] = reason
        logger.warning("not read any further: %s", reason)
        if self.records is not None:
            self.records.write({"source": name, "error": reason})

    def frame(self, frame: Frame) -> Frame:
        """The frame, without the decoder's buffer where it has to wait for its label."""
        if not self.pictured:
            return frame
        return replace(frame, y=frame.y.copy(), u=frame.u.copy(), v=frame.v.copy())

    def finish(self) -> None:
        """A good end: files get their names."""
        if self.records is not None:
            self.records.finish()
        if self.videos is not None:
            self.videos.finish()

    def complain(self) -> None:
        """Raises SourceError where sources were not read to their end."""
        if not self.unread:
            return
        names = ", ".join(list(self.unread)[:_NAMED_MAX])
        more = len(self.unread) - _NAMED_MAX
        raise SourceError(
            f"{len(self.unread)} source{'s' * (len(self.unread) > 1)} could not be read: {names}"
            + (f" and {more} more" if more > 0 else "")
        )


def read(session: Session, specs: Iterable[SourceSpec]) -> None:
    """Read files, one after another. One that cannot be read does not keep the others from it.

    Raises SourceError where there is one alone, and it cannot be read.
    """
    specs = list(specs)
    with _signals(reloads=False) as signals:
        for spec in specs:
            if signals.stop:
                return
            try:
                _read_one(session, spec, signals)
            except SourceError as error:
                if len(specs) == 1:
                    raise
                if spec.name in session.followers:
                    session.end(spec.name, summarise=False)
                session.fail(spec.name, str(error))


def _read_one(session: Session, spec: SourceSpec, signals: _Signals) -> None:
    with open_source(spec.uri) as source:
        follower = session.begin(spec, source)

        def frames() -> Iterator[Frame]:
            for frame in source:
                yield session.frame(frame)
                if signals.stop:
                    return

        recognise(frames(), follower.recogniser, follower.show)
        session.end(spec.name)


def watch(
    session: Session, options: RunOptions, read_again: Callable[[], RunOptions] | None
) -> None:
    """Watch cameras until a signal asks to stop, or none is left.

    read_again: the options as they are now, asked for at SIGHUP. Raises SourceError where a camera
    gives nothing at the start and is not waited for.
    """
    with _signals(read_again is not None) as signals, Cameras() as cameras:
        for spec in options.sources:
            _begin_camera(session, cameras, spec, options.patience)
        while cameras.any_left() and not signals.stop:
            if signals.reload and read_again is not None:
                signals.reload = False
                options = _reload(session, cameras, options, read_again)
            _pass_on(session, cameras)
            _note_given_up(session, cameras, options.patience)
            arrival = cameras.next(_LOOK_S)
            if arrival is not None:
                _answer(session, cameras, *arrival)
        _note_given_up(session, cameras, options.patience)
        for name in list(session.followers):
            _end_camera(session, cameras, name)


def _begin_camera(session: Session, cameras: Cameras, spec: SourceSpec, patience: Patience) -> None:
    camera = Supervised(spec.uri, patience, cameras.tell, name=spec.name)
    session.begin(spec, camera)
    cameras.add(spec.name, camera)


def _answer(session: Session, cameras: Cameras, name: str, frame: Frame) -> None:
    follower = session.followers[name]
    answer(session.frame(frame), follower.recogniser, follower.show)
    limit = session.config.max_frames
    if limit and follower.recogniser.statistics.frames >= limit:
        _end_camera(session, cameras, name)


def _end_camera(session: Session, cameras: Cameras, name: str) -> None:
    cameras.remove(name)
    _pass_on(session, cameras)  # what it did last is told before its end
    statistics = session.followers[name].recogniser.statistics
    statistics.seconds = time.monotonic() - statistics.began_s
    session.end(name)


def _pass_on(session: Session, cameras: Cameras) -> None:
    for notice in cameras.notices():
        if notice.name in session.followers:
            tell(session.listeners, notice)


def _note_given_up(session: Session, cameras: Cameras, patience: Patience) -> None:
    """A camera that is given up stays, for all to see, until the end or until a reload tries it
    again."""
    for name, fault in cameras.faults().items():
        if name in session.unread:
            continue
        camera = session.followers[name].source
        if isinstance(camera, Supervised) and camera.connections == 0 and not patience.wait:
            raise fault
        session.fail(name, str(fault))


def _reload(
    session: Session, cameras: Cameras, options: RunOptions, read_again: Callable[[], RunOptions]
) -> RunOptions:
    """Go on by the options as they are now: cameras, rules, and which frames are looked at."""
    try:
        new = read_again()
        new.rules.check(session.manifest.classes)
        if not new.live:
            raise SourceError(f"{new.sources[0].name} is a file; cameras are watched here")
    except TwostreamError as error:
        logger.warning("not reloaded, all goes on as before: %s", error)
        return options
    session.config, session.rules = new.config, new.rules
    before, after = ({spec.name: spec.uri for spec in o.sources} for o in (options, new))
    for name in before:
        again = after.get(name) != before[name] or name in session.unread
        if name in session.followers and again:
            _end_camera(session, cameras, name)
    for follower in session.followers.values():
        follower.change(new.rules, new.config)
    for spec in new.sources:
        if spec.name not in session.followers:
            _begin_camera(session, cameras, spec, new.patience)
    unchanged = replace(new, sources=options.sources, config=options.config, rules=options.rules)
    rest = "" if unchanged == options else "; what else has changed waits for the next start"
    logger.info("reloaded: %d cameras%s", len(new.sources), rest)
    return replace(options, sources=new.sources, config=new.config, rules=new.rules)


@dataclass
class _Signals:
    """What the run was asked meanwhile."""

    stop: bool = False
    reload: bool = False


@contextmanager
def _signals(reloads: bool) -> Iterator[_Signals]:
    """SIGINT and SIGTERM ask to stop, so that all outputs are closed well; so does SIGHUP, the
    terminal's last word, unless it `reloads`."""
    asked = _Signals()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if asked.stop:
            raise KeyboardInterrupt
        asked.stop = True

    def hang_up(_number: int, _frame: FrameType | None) -> None:
        if reloads:
            asked.reload = True
        else:
            asked.stop = True

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: hang_up}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
