"""The counts of a run in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from edge.decision.statistics import BUCKETS_S, SourceStatistics

_COUNTS = {
    "received": "Frames from the decoder",
    "labelled": "Frames with a decision",
    "dropped": "Frames replaced by newer ones before they were processed",
    "damaged": "Frames that the decoder could not restore",
    "gaps": "Gaps in the stream, across which no flow is computed",
    "standby": "Frames that the networks skipped because there was no motion",
}


@dataclass(frozen=True, slots=True)
class SourceMetrics:
    """The metrics of one source. starts: counts of started actions, by name; losses: how often the
    camera was lost; up: whether labels are coming."""

    name: str
    up: bool
    losses: int
    starts: Mapping[str, int]
    statistics: SourceStatistics | None


def metrics_text(
    sources: Iterable[SourceMetrics], outputs: Mapping[str, bool], refused: Mapping[str, int]
) -> bytes:
    """The metrics as text. outputs: whether each works, by name. refused: web requests that were
    refused, by reason."""
    registry = CollectorRegistry(auto_describe=False)
    families = [*_of_sources(list(sources)), _of_outputs(outputs), _of_requests(refused)]
    registry.register(_Collected(families))  # type: ignore[arg-type]
    return generate_latest(registry)


@dataclass(eq=False)  # a registry keeps its collectors by identity
class _Collected:
    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def _of_sources(sources: list[SourceMetrics]) -> Iterable[Metric]:
    up = GaugeMetricFamily("twostream_up", "Whether a camera gives labels", labels=["camera"])
    losses = CounterMetricFamily("twostream_losses", "Times a camera was lost", labels=["camera"])
    actions = CounterMetricFamily(
        "twostream_actions", "Actions that have started", labels=["camera", "action"]
    )
    stages = HistogramMetricFamily(
        "twostream_stage_seconds", "Time of each stage for a frame", labels=["camera", "stage"]
    )
    lost = CounterMetricFamily(
        "twostream_output_lost",
        "Frames, lines, messages or events of a camera that an output could not write or deliver",
        labels=["camera", "output"],
    )
    for source in sources:
        for output, count in source.statistics.lost.items() if source.statistics else ():
            lost.add_metric([source.name, output], count)
        up.add_metric([source.name], int(source.up))
        losses.add_metric([source.name], source.losses)
        for action, count in sorted(source.starts.items()):
            actions.add_metric([source.name, action], count)
        for stage, times in source.statistics.stages.items() if source.statistics else ():
            buckets = [
                *(
                    (str(bound), float(n))
                    for bound, n in zip(BUCKETS_S, times.at_most, strict=True)
                ),
                ("+Inf", float(times.count)),
            ]
            stages.add_metric([source.name, stage], buckets, times.total_s)
    yield from (up, losses, actions, stages, lost)
    for name, help_text in _COUNTS.items():
        family = CounterMetricFamily(f"twostream_{name}", help_text, labels=["camera"])
        for source in sources:
            if source.statistics is not None:
                family.add_metric([source.name], getattr(source.statistics, name))
        yield family


def _of_outputs(outputs: Mapping[str, bool]) -> Metric:
    family = GaugeMetricFamily("twostream_output_up", "Whether an output works", labels=["output"])
    for name, works in outputs.items():
        family.add_metric([name], int(works))
    return family


def _of_requests(refused: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        "twostream_web_refused", "Web requests that were refused", labels=["reason"]
    )
    for reason, count in refused.items():
        family.add_metric([reason], count)
    return family
