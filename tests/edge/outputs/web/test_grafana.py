"""docs/grafana.json asks for metrics, with labels, that /metrics serves."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.decision.events import Event
from edge.decision.statistics import Histogram, SourceStatistics
from edge.outputs.health import OutputState
from tests.support.live_page import Page, page
from tests.support.paths import REPOSITORY

DASHBOARD: dict[str, Any] = json.loads((REPOSITORY / "docs" / "grafana.json").read_text())
_FUNCTIONS = {"sum", "rate", "increase", "histogram_quantile", "by", "label_values"}


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """The labels of each sample of a page where everything has happened once, by name."""
    with page() as running:
        happen(running)
        running.ask("/", method="POST")  # refused
        text = running.ask("/metrics").body.decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def happen(running: Page) -> None:
    times = Histogram()
    times.add(12.0)
    stages = {"latency": times.times()}
    counts = SourceStatistics("yard", 9, 8, 1, 1, 1, 1, stages, {"video": 2})
    running.state.on_statistics(counts)
    running.state.on_event(Event("yard", "start", "Diving", 1.0, 1.5, 0.9))
    running.state.on_output_state(OutputState("video", "failing", "full", 2, "frames"))


def queries() -> list[str]:
    panels = [target["expr"] for each in DASHBOARD["panels"] for target in each["targets"]]
    return panels + [
        each["query"]["query"]
        for each in DASHBOARD["templating"]["list"]
        if each["type"] == "query"
    ]


@pytest.mark.parametrize("query", queries())
def test_each_query_names_what_is_served(query: str, served: dict[str, set[str]]) -> None:
    names = re.findall(r"\b(twostream_\w+)(?:\{([^}]*)\})?", query)
    assert names
    labels = set(re.findall(r"(\w+)=~?\"", query))
    for group in re.findall(r"by \(([^)]*)\)", query):
        labels |= {label.strip() for label in group.split(",")}
    for name, _ in names:
        assert name in served, f"{name} is not in /metrics"
        assert labels <= served[name]
    words = set(re.findall(r"\b([a-z_]+) ?\(", query))
    assert words <= _FUNCTIONS
    assert query.count("(") == query.count(")")


def test_legends_have_labels_that_are_there(served: dict[str, set[str]]) -> None:
    for each in DASHBOARD["panels"]:
        for target in each["targets"]:
            (name, *_) = re.findall(r"twostream_\w+", target["expr"])
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= served[name]


def test_it_is_a_dashboard() -> None:
    """By Grafana's documentation, "Dashboard JSON model"."""
    assert {"title", "schemaVersion", "panels", "templating", "time", "uid"} <= set(DASHBOARD)
    assert "id" not in DASHBOARD  # it is given by the server that imports it
    identities = [each["id"] for each in DASHBOARD["panels"]]
    assert len(identities) == len(set(identities))
    taken: set[tuple[int, int]] = set()
    for each in DASHBOARD["panels"]:
        assert each["type"] in ("stat", "timeseries")
        assert each["title"]
        place = each["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken  # none covers another
        taken |= cells
        assert each["datasource"]["uid"] == "${datasource}"


def test_grafana_s_own_models_read_all_of_it() -> None:
    """With a key that they do not know, or of another type, something would be lost."""
    pytest.importorskip("grafana_foundation_sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(DASHBOARD), cls=JSONEncoder))
    assert lost(DASHBOARD, read) == []


def lost(wanted: Any, found: Any, place: str = "") -> list[str]:
    """The places of `wanted` that `found` has not, or not so."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        pairs = [(value, found.get(key), f"{place}.{key}") for key, value in wanted.items()]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = [
            (a, b, f"{place}[{n}]") for n, (a, b) in enumerate(zip(wanted, found, strict=True))
        ]
    else:
        return [] if wanted == found else [place]
    return [each for pair in pairs for each in lost(*pair)]


def test_every_metric_is_on_it_but_what_says_nothing(served: dict[str, set[str]]) -> None:
    shown = set(re.findall(r"twostream_\w+", json.dumps(DASHBOARD)))
    assert set(served) - shown <= {"twostream_received_total", "twostream_standby_total"}
