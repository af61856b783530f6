"""`twostream run`: opens the device, the sources and the outputs, and closes them in order."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from edge.bundle.manifest import Bundle, Manifest, load_bundle
from edge.commands.run.options import Outputs, RunOptions
from edge.commands.run.session import Session, read, watch
from edge.commands.run.signals import SignalRequests
from edge.commands.self_check.choice import choose_way
from edge.devices import Device, DeviceName, open_device
from edge.devices.fusion_network import open_fusion_network
from edge.devices.inference import Way
from edge.errors import OutputError
from edge.outputs.annotator import Annotator
from edge.outputs.base import Output
from edge.outputs.console import ConsoleLog, ProgressBar
from edge.outputs.event_pictures import EventPictures
from edge.outputs.events.event_recorder import EventRecorder
from edge.outputs.json_lines import JsonLinesOutput
from edge.outputs.mqtt import MQTTOutput
from edge.outputs.mqtt_discovery import Discovery
from edge.outputs.records import stage_lines, summary_lines
from edge.outputs.systemd import SystemdNotifier
from edge.outputs.video_recorder import VideoRecorder
from edge.outputs.webhook import Webhook

logger = logging.getLogger(__name__)


def run(
    options: RunOptions, reload: Callable[[], RunOptions] | None, requests: SignalRequests
) -> None:
    """Run until the sources end or a signal asks to stop; a second signal interrupts.

    reload: reads the options again at SIGHUP; without it, SIGHUP stops the run. requests: what
    signals have asked for so far. Raises TwostreamError for everything that the user can fix.
    """
    check_outputs(
        _files(options), [spec.address.location for spec in options.sources if not spec.live]
    )
    bundle = load_bundle(options.bundle)
    if bundle.manifest.accepted_loss is not None:
        logger.warning("this bundle was made although %s", bundle.manifest.accepted_loss)
    options.config.check(bundle.manifest)
    with ExitStack() as stack:
        session = _open(options, reload, requests, bundle, stack)
        if options.live:
            watch(session, options)
        else:
            read(session, options.sources)
        session.finish()
    for summary in session.summaries:
        if len(options.sources) > 1:
            logger.info("%s:", summary["source"])
        lines = stage_lines(summary) if len(options.sources) == 1 else []
        for line in (*lines, *summary_lines(summary, options.live)):
            logger.info("%s", line)
    session.complain()


def _files(options: RunOptions) -> list[tuple[str, Path]]:
    """The files that will be written, with their options. The name of a segment is always new."""
    outputs, files = options.outputs, list[tuple[str, Path]]()
    if outputs.video is not None:
        slugs = [spec.slug for spec in options.sources]
        for slug in slugs if len(slugs) > 1 else [""]:
            files.append(("--video", outputs.segments.name(outputs.video, slug)))
    if outputs.json not in (None, "-"):
        files.append(("--json", outputs.segments.name(Path(str(outputs.json)), "")))
    return files


def _open(
    options: RunOptions,
    reload: Callable[[], RunOptions] | None,
    requests: SignalRequests,
    bundle: Bundle,
    stack: ExitStack,
) -> Session:
    """Open outputs first, so that one that fails is reported before anything is loaded.

    reload: None if the sources cannot change during the run."""
    outputs, manifest = options.outputs, bundle.manifest
    annotator = Annotator(manifest)
    several = len(options.sources) > 1 or reload is not None
    opened: list[Output] = [ConsoleLog(), annotator]
    stack.callback(_report_losses, opened)  # once all are closed
    opened += _open_files(options, bundle, annotator, several, stack)
    opened += _open_messages(options, manifest, annotator, stack)
    opened += _open_servers(outputs, manifest, annotator, stack)
    session = _open_session(options, reload, requests, bundle, opened)
    stack.callback(session.close)
    # before the cameras: waiting for one must not make systemd restart the service
    opened.append(stack.enter_context(SystemdNotifier()))
    opened.append(stack.enter_context(ProgressBar(manifest.classes)))
    return session


def _open_session(
    options: RunOptions,
    reload: Callable[[], RunOptions] | None,
    requests: SignalRequests,
    bundle: Bundle,
    opened: list[Output],
) -> Session:
    """Open the device, and say how it is opened for another bundle."""
    flow_wanted = (
        options.outputs.pictured or options.config.standby_after_s is not None or reload is not None
    )
    names: list[DeviceName] = []  # of the device, last

    def choose(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
        names.append(name)
        return choose_way(name, bundle, ways)

    def reopen(bundle: Bundle) -> Device:
        known = partial(choose_way, only_known=True)
        return open_device(names[-1], bundle, flow_wanted, choose=known, graphs=options.graphs)

    return Session(
        bundle,
        open_device(options.device, bundle, flow_wanted, choose=choose, graphs=options.graphs),
        reopen,
        open_fusion_network(bundle),
        options.config,
        options.rules,
        options.outputs.pictured,
        options.outputs.events is not None,
        opened,
        reload,
        requests,
    )


def _open_files(
    options: RunOptions, bundle: Bundle, annotator: Annotator, several: bool, stack: ExitStack
) -> Iterator[Output]:
    """What writes to the disk. several: whether there may be more than one source."""
    outputs, manifest, live = options.outputs, bundle.manifest, options.live
    if outputs.json is not None:
        lines = JsonLinesOutput(outputs.json, outputs.segments, manifest, live)
        yield stack.enter_context(lines)
    if outputs.video is not None:
        rate = 1 / manifest.interval_s
        yield stack.enter_context(
            VideoRecorder(outputs.video, outputs.segments, several, rate, annotator, live)
        )
    if outputs.events is not None:
        recorder = EventRecorder(outputs.events, outputs.margins, bundle, annotator, live)
        yield stack.enter_context(recorder)


def _open_messages(
    options: RunOptions, manifest: Manifest, annotator: Annotator, stack: ExitStack
) -> Iterator[Output]:
    """What sends messages."""
    outputs, discovery = options.outputs, None
    pictures = EventPictures(annotator)
    if outputs.discovery is not None or outputs.webhook_pictures:
        yield pictures
    if outputs.mqtt is not None:
        if outputs.discovery is not None:
            ignored = options.rules.ignored
            discovery = Discovery(outputs.discovery, manifest.name, manifest.classes, ignored)
        yield stack.enter_context(MQTTOutput(outputs.mqtt, discovery, pictures))
    if outputs.webhook is not None:
        picture = pictures if outputs.webhook_pictures else None
        yield stack.enter_context(Webhook(outputs.webhook, picture))


def _open_servers(
    outputs: Outputs, manifest: Manifest, annotator: Annotator, stack: ExitStack
) -> Iterator[Output]:
    """What others connect to; their libraries are not imported where nobody can."""
    if outputs.rtsp is not None:
        from edge.outputs.rtsp_server import RTSPOutput

        relay = RTSPOutput(outputs.rtsp, annotator)
        yield stack.enter_context(relay)
        logger.info("annotated video: %s", relay.url)
    if outputs.web is not None:
        from edge.outputs.web.server import WebServer
        from edge.outputs.web.state import LiveState

        state = LiveState(manifest, annotator, outputs.events)
        server = stack.enter_context(WebServer(outputs.web, state))
        yield state
        logger.info("live page: %s", server.url)


def _report_losses(outputs: Sequence[Output]) -> None:
    for health in [output.health for output in outputs if output.health is not None]:
        if health.lost_total:
            logger.warning("%s: %d %s", health.name, health.lost_total, health.items)


def check_outputs(outputs: Sequence[tuple[str, Path]], sources: Sequence[str]) -> None:
    """outputs: the option and path of each file that will be written.

    Raises OutputError if one would overwrite a source or another output.
    """
    # realpath, since Path.resolve raises for a link that points to itself
    taken = {os.path.realpath(source): "the source" for source in sources}
    for option, name in outputs:
        path = os.path.realpath(name)
        if path in taken:
            raise OutputError(f"{name}: is already {taken[path]}; give {option} another name")
        taken[path] = f"the output of {option}"
