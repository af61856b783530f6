"""`twostream run`: opens what was asked for, joins it, and closes it well."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edge.bundle import Bundle, load_bundle
from edge.console import Progressing, Said
from edge.devices import open_device
from edge.follower import Follower
from edge.listener import Listener
from edge.mqtt import MQTTSink
from edge.options import RunOptions
from edge.outputs import Artist, Records, Videos, check_outputs
from edge.report import summary_lines, summary_table
from edge.rtsp_out import RTSPOut
from edge.service import Notifier
from edge.session import Session, read, watch
from edge.terminal import stderr_console
from edge.web.server import WebServer
from edge.web.state import LiveState
from edge.webhook import Webhook

logger = logging.getLogger(__name__)


def run(options: RunOptions, read_again: Callable[[], RunOptions] | None = None) -> None:
    """Recognise until the sources end or a signal asks to stop; a second signal interrupts.

    read_again: what SIGHUP brings; without it, SIGHUP stops. Raises TwostreamError for whatever the
    user can mend.
    """
    check_outputs(
        _files(options), [spec.address.location for spec in options.sources if not spec.live]
    )
    bundle = load_bundle(options.bundle)
    if bundle.manifest.accepted_loss is not None:
        logger.warning("this bundle was made although %s", bundle.manifest.accepted_loss)
    with ExitStack() as stack:
        session = _open(options, read_again is not None, bundle, stack)
        if options.live:
            watch(session, options, read_again)
        else:
            read(session, options.sources)
        session.finish()
    for summary in session.summaries:
        if len(options.sources) > 1:
            logger.info("%s:", summary["source"])
        elif logger.isEnabledFor(logging.INFO):
            stderr_console().print(summary_table(summary))
        for line in summary_lines(summary):
            logger.info("%s", line)
    session.complain()


def _files(options: RunOptions) -> list[tuple[str, Path]]:
    """What will be written, by option; segments are never named as a file that is there."""
    outputs, found = options.outputs, list[tuple[str, Path]]()
    if outputs.video is not None:
        slugs = [spec.slug for spec in options.sources]
        for slug in slugs if len(slugs) > 1 else [""]:
            found.append(("--video", outputs.segments.name(outputs.video, slug)))
    if outputs.json not in (None, "-"):
        found.append(("--json", outputs.segments.name(Path(str(outputs.json)), "")))
    return found


def _open(
    options: RunOptions,
    may_change: bool,
    bundle: Bundle,
    stack: ExitStack,
) -> Session:
    """Outputs first: what cannot be had is told before anything is loaded. may_change: sources may
    come and go."""
    outputs, manifest = options.outputs, bundle.manifest
    artist = Artist(manifest)
    listeners: list[Listener] = [Said(), artist]
    followers: dict[str, Follower] = {}
    slugs = {spec.name: spec.slug for spec in options.sources}
    several = len(slugs) > 1 or may_change
    records = videos = None
    if outputs.json is not None:
        records = Records(outputs.json, outputs.segments, manifest.classes)
        listeners.append(stack.enter_context(records))
    if outputs.video is not None:
        usual = 1 / manifest.flow.interval_s
        videos = Videos(
            outputs.video,
            outputs.segments,
            slugs if several else {},
            lambda name: followers[name].source.frame_rate or usual,
            artist,
        )
        listeners.append(stack.enter_context(videos))
    if outputs.mqtt is not None:
        listeners.append(stack.enter_context(MQTTSink(outputs.mqtt, slugs)))
    if outputs.webhook is not None:
        listeners.append(stack.enter_context(Webhook(outputs.webhook)))
    if outputs.rtsp is not None:
        relay = stack.enter_context(RTSPOut(outputs.rtsp, slugs, artist))
        listeners.append(relay)
        logger.info("annotated pictures: %s", relay.url)
    if outputs.web is not None:
        state = LiveState(manifest, followers, artist)
        server = stack.enter_context(WebServer(outputs.web, state))
        listeners.append(state)
        logger.info("live page: %s", server.url)
    flow_wanted = outputs.pictured or options.config.idle_s is not None or may_change
    device = open_device(options.device, bundle, flow_wanted)
    stack.callback(device.close)
    # before the cameras, which may be waited for: that is no reason to be restarted
    listeners.append(stack.enter_context(Notifier()))
    listeners.append(stack.enter_context(Progressing(manifest.classes, followers)))
    return Session(
        manifest,
        device,
        options.config,
        options.rules,
        outputs.pictured,
        listeners,
        followers,
        slugs,
        records,
        videos,
    )
