"""What `twostream run` was asked for: its parameters, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.commands.run.arguments import RunArguments
from edge.decision.events import EventRules, parse_thresholds
from edge.decision.recognizer import RunConfig
from edge.errors import OutputError
from edge.outputs.listen_address import ListenAddress, parse_listen
from edge.outputs.mqtt import BrokerAddress, parse_broker
from edge.outputs.rotation import Segments
from edge.outputs.webhook import parse_webhook
from edge.sources.named import SourceSpec, parse_sources, placed_source
from edge.sources.reconnect import ReconnectPolicy


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is made of the labels; None is not made."""

    video: Path | None
    json: str | None
    segments: Segments
    web: ListenAddress | None
    rtsp: ListenAddress | None
    mqtt: BrokerAddress | None
    webhook: str | None

    @property
    def pictured(self) -> bool:
        return self.video is not None or self.web is not None or self.rtsp is not None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked for on the command line."""

    bundle: Path
    sources: tuple[SourceSpec, ...]
    device: str
    config: RunConfig
    rules: EventRules
    patience: ReconnectPolicy
    outputs: Outputs

    @property
    def live(self) -> bool:
        return self.sources[0].live


def run_options(asked: RunArguments) -> RunOptions:
    """The parameters of the command, checked. Raises TwostreamError for what is wrong."""
    given = [*(asked.sources or ()), *(asked.source or ())]
    for number, elements in enumerate(asked.pipeline or ()):
        given.append(f"pipeline{number + 1}=pipeline:{elements}")
    token = asked.token
    minutes, gigabytes, days = asked.segment, asked.keep_gb, asked.keep_days
    if minutes is None and (gigabytes is not None or days is not None):
        raise OutputError("--keep-gb and --keep-days are for files of --segment MINUTES")
    if asked.webhook is not None:
        parse_webhook(asked.webhook)  # what is none is told now
    return RunOptions(
        bundle=asked.bundle,
        sources=tuple(parse_sources(given)),
        device=asked.device,
        config=RunConfig(asked.every, asked.max_frames, asked.max_fps, asked.standby_after),
        rules=EventRules(
            parse_thresholds(asked.threshold or []), ignored=frozenset(asked.ignore or ())
        ),
        patience=ReconnectPolicy(wait=asked.wait_for_cameras, retries=asked.retries),
        outputs=Outputs(
            video=asked.video,
            json=asked.json,
            segments=Segments(
                None if minutes is None else 60 * minutes,
                None if gigabytes is None else int(1e9 * gigabytes),
                None if days is None else 86400 * days,
            ),
            web=None if asked.web is None else parse_listen("--web", asked.web, token),
            rtsp=None if asked.rtsp is None else parse_listen("--rtsp", asked.rtsp, token),
            mqtt=None if asked.mqtt is None else parse_broker(asked.mqtt),
            webhook=asked.webhook,
        ),
    )


def placed_options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as values of a configuration file that means the same from any folder."""
    found = {key: value for key, value in asked.items() if key not in ("config", "sources")}
    given = [*(asked.get("sources") or ()), *(asked.get("source") or ())]
    if given:
        found["source"] = [placed_source(text) for text in given]
    if found.get("threshold"):
        pairs = (text.rpartition("=") for text in found["threshold"])
        found["threshold"] = {action: score for action, _, score in pairs}
    for key in ("bundle", "video", "json"):
        if found.get(key) not in (None, "-"):
            found[key] = str(Path(found[key]).absolute())
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in found.items()
        if value is not None
    }
