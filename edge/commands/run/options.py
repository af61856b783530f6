"""The options of `twostream run`, parsed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.commands.run.arguments import RunArguments
from edge.decision.events import EventRules, parse_thresholds
from edge.decision.recognizer import RunConfig
from edge.errors import OutputError
from edge.outputs.events.event_recorder import Margins
from edge.outputs.events.event_store import EventStore, Limits
from edge.outputs.listen_address import ListenAddress, parse_listen
from edge.outputs.mqtt import BrokerAddress, parse_broker
from edge.outputs.mqtt_discovery import parse_discovery
from edge.outputs.rotation import Segments
from edge.outputs.webhook import parse_webhook
from edge.sources.named import SourceSpec, parse_sources, placed_source
from edge.sources.reconnect import ReconnectPolicy


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where labels and events go; None: this output is off."""

    video: Path | None
    json: str | None
    segments: Segments
    web: ListenAddress | None
    rtsp: ListenAddress | None
    mqtt: BrokerAddress | None
    discovery: str | None
    webhook: str | None
    webhook_pictures: bool
    events: EventStore | None
    margins: Margins

    @property
    def pictured(self) -> bool:
        return any(each is not None for each in (self.video, self.web, self.rtsp, self.events)) or (
            self.discovery is not None or self.webhook_pictures
        )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run, from the command line and the configuration file."""

    bundle: Path
    sources: tuple[SourceSpec, ...]
    device: str
    graphs: bool
    config: RunConfig
    rules: EventRules
    reconnect: ReconnectPolicy
    outputs: Outputs

    @property
    def live(self) -> bool:
        return self.sources[0].live


def run_options(arguments: RunArguments) -> RunOptions:
    """Parse and check the parameters of the command. Raises TwostreamError for invalid ones."""
    sources = [*(arguments.sources or ()), *(arguments.source or ())]
    for number, elements in enumerate(arguments.pipeline or ()):
        sources.append(f"pipeline{number + 1}=pipeline:{elements}")
    token = arguments.token
    minutes = arguments.segment
    keep_bytes = None if arguments.keep_gb is None else int(1e9 * arguments.keep_gb)
    keep_s = None if arguments.keep_days is None else 86400 * arguments.keep_days
    _check_segments(arguments)
    if arguments.webhook is not None:
        parse_webhook(arguments.webhook)  # report an invalid URL now
    return RunOptions(
        bundle=arguments.bundle,
        sources=tuple(parse_sources(sources)),
        device=arguments.device,
        graphs=not arguments.no_cuda_graphs,
        config=RunConfig(
            arguments.every, arguments.max_frames, arguments.max_fps, arguments.standby_after
        ),
        rules=EventRules(
            parse_thresholds(arguments.threshold or []), ignored=frozenset(arguments.ignore or ())
        ),
        reconnect=ReconnectPolicy(wait=arguments.wait_for_cameras, retries=arguments.retries),
        outputs=Outputs(
            video=arguments.video,
            json=arguments.json,
            segments=Segments(
                None if minutes is None else 60 * minutes,
                keep_bytes,
                keep_s,
            ),
            web=None if arguments.web is None else parse_listen("--web", arguments.web, token),
            rtsp=None if arguments.rtsp is None else parse_listen("--rtsp", arguments.rtsp, token),
            mqtt=None if arguments.mqtt is None else parse_broker(arguments.mqtt),
            discovery=_discovery(arguments),
            webhook=arguments.webhook,
            webhook_pictures=_webhook_pictures(arguments),
            events=None
            if arguments.events is None
            else EventStore(arguments.events, Limits(keep_bytes, keep_s)),
            margins=Margins(arguments.before, arguments.after),
        ),
    )


def _discovery(arguments: RunArguments) -> str | None:
    """Raises OutputError for an invalid prefix, and where there is no broker."""
    if arguments.mqtt_discovery is None:
        return None
    if arguments.mqtt is None:
        raise OutputError("--mqtt-discovery needs --mqtt MQTT://HOST/TOPIC")
    return parse_discovery(arguments.mqtt_discovery)


def _webhook_pictures(arguments: RunArguments) -> bool:
    """Raises OutputError where there is no webhook."""
    if arguments.webhook_pictures and arguments.webhook is None:
        raise OutputError("--webhook-pictures needs --webhook URL")
    return arguments.webhook_pictures


def _check_segments(arguments: RunArguments) -> None:
    """Raises OutputError for a limit on files that no output has."""
    if arguments.segment is None:
        limits = {"--keep-gb": arguments.keep_gb, "--keep-days": arguments.keep_days}
        for option, limit in limits.items():
            if limit is not None and arguments.events is None:
                raise OutputError(
                    f"{option} deletes old segments and events; it needs --segment MINUTES or "
                    "--events DIR"
                )
    elif arguments.video is None and arguments.json in (None, "-"):
        raise OutputError("--segment splits files; it needs --video FILE or --json FILE")


def placed_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as values of a configuration file, with paths made absolute so that it works from
    any folder."""
    values = {key: value for key, value in arguments.items() if key not in ("config", "sources")}
    sources = [*(arguments.get("sources") or ()), *(arguments.get("source") or ())]
    if sources:
        values["source"] = [placed_source(text) for text in sources]
    if values.get("threshold"):
        pairs = (text.rpartition("=") for text in values["threshold"])
        values["threshold"] = {action: score for action, _, score in pairs}
    for key in ("bundle", "video", "json", "events"):
        if values.get(key) not in (None, "-"):
            values[key] = str(Path(values[key]).absolute())
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value is not None
    }
