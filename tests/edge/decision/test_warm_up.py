"""Rates that are too low, or not what a camera states, are named with their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import load_bundle
from edge.decision.label import Label
from edge.decision.recognizer import MAX_GAP_S, Recognizer, RunConfig, label_frame
from edge.decision.warm_up import JUDGED_S, StatedRate, WarmUp
from edge.devices import open_device
from edge.video.frames import Frame
from tests.support.command import Running, read_lines, twostream
from tests.support.frames import street

HISTORY = 10
EMPTY = np.zeros((2, 2), np.uint8)


def frames(times_s: Iterable[float], every: int = 1) -> Iterator[Frame]:
    """every: the others were dropped by a slow reader."""
    for index, time_s in enumerate(times_s):
        if index % every == 0:
            yield Frame(EMPTY, EMPTY[:1, :1], EMPTY[:1, :1], time_s, index)


def explained(given: Iterable[Frame], max_fps: float | None = None) -> str:
    """What is said once the history should be full; "" if that never is."""
    warm_up = WarmUp(HISTORY, MAX_GAP_S)
    for frame in given:
        warm_up.push(frame)
        if warm_up.overdue:
            return warm_up.explain(max_fps)
    return ""


@pytest.mark.parametrize("rate", [0.1, 1, 3, 3.9])
def test_a_slow_camera(rate: float) -> None:
    reason = explained(frames(np.arange(100) / rate))
    assert reason == f"it gives {rate:g} frames a second; at least 4 are needed"


def test_a_slow_machine_and_a_low_limit() -> None:
    times_s = np.arange(400) / 30
    assert explained(frames(times_s, every=15)) == (
        "this machine keeps up with 2 of its 30 frames a second; at least 4 are needed"
    )
    assert explained(frames(times_s, every=15), max_fps=2) == (
        "--max-fps leaves 2 of its 30 frames a second; at least 4 are needed"
    )


def test_frames_that_come_in_bursts() -> None:
    times_s = [burst + step for burst in range(10) for step in (0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    reason = explained(frames(times_s))
    assert reason == "its frames come up to 0.5 s apart; at most 0.25 s are allowed"


@given(rate=st.floats(4, 200))
def test_a_camera_that_is_fast_enough_warms_up_in_time(rate: float) -> None:
    """The history is full before it is overdue."""
    warm_up = WarmUp(HISTORY, MAX_GAP_S)
    for frame in frames(np.arange(HISTORY + 1) / rate):
        warm_up.push(frame)
        assert not warm_up.overdue


def test_it_measures_anew_after_a_label() -> None:
    """A camera that slows down at night, long after it started."""
    warm_up = WarmUp(HISTORY, MAX_GAP_S)
    for frame in frames(np.arange(1000) / 25):
        warm_up.push(frame)
    warm_up.restart()
    for frame in frames(np.arange(40) / 2):
        warm_up.push(frame)
    assert warm_up.explain(None) == "it gives 2 frames a second; at least 4 are needed"


def said(given: Iterable[Frame], stated_fps: float | None) -> list[str]:
    check = StatedRate()
    return [text for frame in given if (text := check.push(frame, stated_fps))]


@pytest.mark.parametrize(("rate", "stated"), [(12, 30), (60, 30), (3, 30), (0.5, 5)])
def test_a_rate_far_from_what_is_stated(rate: float, stated: float) -> None:
    (text,) = said(frames(np.arange(3000) / rate), stated)  # once
    assert text.startswith(f"it gives {rate:g} frames a second, but states {stated:g}; ")


@pytest.mark.parametrize(("rate", "stated"), [(25, 30), (30, 30), (30, 29.97), (3, 3), (9, None)])
def test_a_rate_as_stated(rate: float, stated: float | None) -> None:
    assert said(frames(np.arange(3000) / rate), stated) == []


def test_dropped_frames_were_given() -> None:
    assert said(frames(np.arange(3000) / 30, every=10), 30) == []


def test_a_rate_that_falls_later() -> None:
    day, night = np.arange(900) / 30, 30 + np.arange(300) / 10
    (text,) = said(frames([*day, *night]), 30)
    assert "but states 30" in text


def test_a_short_pause_says_nothing() -> None:
    """Neither does the time while the camera was lost."""
    times_s = np.arange(300) / 30
    assert said(frames(times_s[times_s < JUDGED_S * 0.9]), 100) == []
    again = [Frame(EMPTY, EMPTY, EMPTY, 100 + t, 300 + i, discontinuity=i == 0)
             for i, t in enumerate(times_s)]  # fmt: skip
    assert said([*frames(times_s), *again], 30) == []


@pytest.mark.slow
def test_labels_and_the_end_say_why(light_bundle: Path) -> None:
    loaded = load_bundle(light_bundle)
    device = open_device("cpu", loaded, flow_wanted=False)
    recognizer = Recognizer(loaded.manifest, device.open_context(), RunConfig())
    labels: list[Label] = []
    for index in range(30):
        frame = street(index)
        slow = Frame(frame.y, frame.u, frame.v, index / 3, index)
        label_frame(slow, recognizer, labels.append)
    reason = "it gives 3 frames a second; at least 4 are needed"
    assert [label.reason for label in labels[:15]] == [""] * 15  # judged over 5 s
    assert {label.reason for label in labels[15:]} == {reason}
    assert recognizer.missing_labels() == reason
    for index in range(30, 60):
        frame = street(index)
        fast = Frame(frame.y, frame.u, frame.v, 10 + index / 25, index)
        label_frame(fast, recognizer, labels.append)
    assert labels[-1].state == "running"
    assert labels[-1].reason == ""
    assert recognizer.missing_labels() is None
    device.close()


@pytest.mark.slow
def test_a_run_without_a_label_says_so(light_bundle: Path, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    done = twostream("run", light_bundle, "yard=test://?rate=3&frames=40", "--json", lines)
    assert done.returncode == 0
    reason = "it gives 3 frames a second; at least 4 are needed"
    assert done.stderr.count(f"yard: no labels: {reason}") == 1
    assert f"no label was given: {reason}" in done.stderr
    labels, summary = read_lines(lines)
    assert labels[-1]["reason"] == reason
    assert "reason" not in labels[0]
    assert summary["no_label"] == reason
    assert summary["warnings"] == [f"yard: no labels: {reason}"]


@pytest.mark.slow
def test_a_live_camera_that_states_another_rate(light_bundle: Path) -> None:
    """Half of its frames are lost before they reach the source."""
    elements = (
        "videotestsrc is-live=true ! video/x-raw,framerate=15/1 "
        "! capssetter caps=video/x-raw,framerate=30/1"
    )
    with Running("run", light_bundle, "--pipeline", elements) as run:
        run.said("it gives 15 frames a second, but states 30")
        run.stop()
