"""What is drawn, and that colours for people are right."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.outputs.overlay import (
    OpenSet,
    OverlayView,
    bgr_picture,
    draw_overlay,
    flow_picture,
    picture_size,
)
from edge.video.frames import Frame, Matrix, Normalisation, rgb_tensor

SPATIAL_BGR = (40, 160, 255)
TEMPORAL_BGR = (255, 180, 70)
STREAMS = {
    "spatial": [("Archery", 0.93), ("Shotput", 0.04), ("TaiChi", 0.02)],
    "temporal": [("TaiChi", 0.41), ("Archery", 0.39), ("Shotput", 0.11)],
}
NONE: dict[str, list[tuple[str, float]]] = {"spatial": [], "temporal": []}
VIEW = OverlayView("running", "Archery", 0.87, STREAMS)


def drawn(view: OverlayView, size_hw: tuple[int, int] = (480, 640)) -> np.ndarray:
    picture = np.full((*size_hw, 3), 120, np.uint8)
    draw_overlay(picture, view)
    return picture


def widest_run(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """The longest unbroken row of exactly this colour, px: a bar, not the stroke of a letter."""
    widest = 0
    for row in (picture == colour).all(axis=2):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        widest = max(widest, int(np.diff(ends)[::2].max(initial=0)))
    return widest


@pytest.mark.parametrize("size_hw", [(240, 320), (480, 640), (720, 1280), (640, 360)])
def test_bars_follow_the_scores(size_hw: tuple[int, int]) -> None:
    whole = widest_run(
        drawn(replace(VIEW, streams=STREAMS | {"spatial": [("a", 1.0)]}), size_hw), SPATIAL_BGR
    )
    assert whole > size_hw[1] * 0.25
    for score in (0.1, 0.5, 0.93):
        picture = drawn(
            replace(VIEW, streams={"spatial": [("a", score)], "temporal": [("a", 1 - score)]}),
            size_hw,
        )
        assert widest_run(picture, SPATIAL_BGR) == pytest.approx(score * whole, abs=4)
        assert widest_run(picture, TEMPORAL_BGR) == pytest.approx((1 - score) * whole, abs=4)


def test_only_the_edges_are_drawn_on() -> None:
    picture = drawn(replace(VIEW, flow=np.ones((2, 60, 80), np.float32), status="25.0 fps"))
    assert (picture[140:340] == 120).all()
    assert (picture[:140, 200:440] == 120).all()
    assert (picture[345:] == 120).all(axis=2).mean() < 0.01


def decision_colours(view: OverlayView) -> np.ndarray:
    """The mean colour of the brightest pixels of the decision's line."""
    line = drawn(view)[348:382, 30:400].reshape(-1, 3)
    return line[np.argsort(line.sum(axis=1))[-50:]].mean(axis=0)


def test_states_look_different() -> None:
    running = decision_colours(VIEW)
    unknown = decision_colours(replace(VIEW, label=None))
    warming = decision_colours(OverlayView("warming up", streams=NONE))
    assert running.min() > 235  # white
    assert np.ptp(unknown) < 3  # grey, well below white
    assert unknown.max() < 200
    assert warming[2] - warming[0] > 100  # amber


def test_why_there_is_no_label_is_shown() -> None:
    warming = OverlayView("warming up", streams=NONE)
    row = np.s_[348:382, 200:]
    assert (drawn(replace(warming, reason="it gives 3 frames"))[row] != drawn(warming)[row]).any()


def test_unknown_shows_no_score() -> None:
    """The fused score's place, at the right of the decision, stays empty."""
    place = np.s_[348:380, 540:]
    empty = drawn(OverlayView("warming up", streams=NONE))[place]
    np.testing.assert_array_equal(drawn(replace(VIEW, label=None))[place], empty)
    assert (drawn(VIEW)[place] != empty).any()


def test_the_bar_of_the_open_set_score_turns_green_at_the_threshold() -> None:
    green = (100, 210, 90)  # BGR
    none, below, short, long = (
        (drawn(replace(VIEW, open_set=shown)) == green).all(axis=2).sum()
        for shown in (None, *(OpenSet("Swing", score, 1.0) for score in (0.99, 1.0, 1.4)))
    )
    assert none == below < short < long  # the dot of the state is green, too


def test_the_next_classes_are_under_the_best() -> None:
    row = np.s_[422:436, 300:]  # of the spatial stream
    best = {name: rows[:1] for name, rows in STREAMS.items()}
    assert (drawn(VIEW)[row] != drawn(replace(VIEW, streams=best))[row]).any()


@settings(max_examples=60)
@given(
    label=st.none() | st.text(max_size=80),
    score=st.floats(0, 1),
    height=st.integers(16, 300),
    width=st.integers(16, 300),
    flow_size=st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_label_fits_any_picture(
    label: str | None, score: float, height: int, width: int, flow_size: tuple[int, int] | None
) -> None:
    flow = None if flow_size is None else np.zeros((2, *flow_size), np.float32)
    streams = [] if label is None else [(label, score)] * 3
    open_set = None if label is None else OpenSet("Swing", 9 * score, score)
    view = OverlayView(
        "running", label, score, dict.fromkeys(STREAMS, streams), open_set, flow, label or ""
    )
    assert drawn(view, (height, width)).shape == (height, width, 3)


def test_a_long_label_leaves_the_score_alone() -> None:
    place = np.s_[402:424, 595:640]  # the spatial score
    short = drawn(VIEW)[place]
    long = drawn(
        replace(
            VIEW,
            streams=STREAMS | {"spatial": [("HandstandPushups on a very long beam " * 3, 0.93)]},
        )
    )[place]
    np.testing.assert_array_equal(short, long)


def test_flow_colours() -> None:
    def colour(x: float, y: float) -> np.ndarray:
        flow = np.stack([np.full((8, 8), x, np.float32), np.full((8, 8), y, np.float32)])
        return flow_picture(flow, (4, 4))[0, 0].astype(int)

    assert colour(0, 0).max() == 0
    assert colour(8, 0).argmax() == 2  # to the right: red
    assert colour(-8, 0).argmin() == 2  # to the left: its complement
    assert 0 < colour(0.5, 0)[2] < colour(3, 0)[2] < 256
    np.testing.assert_array_equal(colour(6, 0), colour(60, 0))


# The picture itself


def smooth_frame(size_hw: tuple[int, int], matrix: Matrix, full_range: bool) -> Frame:
    height, width = size_hw
    low, high = (0, 255) if full_range else (16, 235)
    half = ((height + 1) // 2, (width + 1) // 2)
    y = np.tile(np.linspace(low + 60, high - 60, width).astype(np.uint8), (height, 1))
    u = np.tile(np.linspace(110, 150, half[1]).astype(np.uint8), (half[0], 1))
    v = np.tile(np.linspace(150, 105, half[0]).astype(np.uint8)[:, None], (1, half[1]))
    return Frame(y, u, v, 0.0, 0, matrix, full_range)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_those_of_the_network(matrix: Matrix, full_range: bool) -> None:
    frame = smooth_frame((480, 640), matrix, full_range)
    got = bgr_picture(frame)
    if full_range:  # rgb_tensor takes limited range alone
        y = np.round(16 + frame.y * (219 / 255)).astype(np.uint8)
        u, v = (
            np.round(128 + (c - 128.0) * 224 / 255).astype(np.uint8) for c in (frame.u, frame.v)
        )
        frame = Frame(y, u, v, 0.0, 0, matrix)
    unit = Normalisation(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    rgb = rgb_tensor(frame, unit).transpose(1, 2, 0)
    assert np.abs(got[..., ::-1].astype(float) - rgb).max() <= 4


@pytest.mark.parametrize(
    ("size_hw", "wanted"),
    [
        ((240, 320), (480, 640)),
        ((241, 321), (482, 642)),
        ((480, 640), (480, 640)),
        ((481, 641), (482, 642)),
        ((1080, 1920), (1080, 1920)),
        ((90, 160), (540, 960)),
    ],
)
def test_picture_size(size_hw: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert picture_size(size_hw) == wanted
    assert bgr_picture(smooth_frame(size_hw, "bt601", False)).shape == (*wanted, 3)


def test_planes_with_padded_rows_are_read_only() -> None:
    frame = smooth_frame((240, 320), "bt601", False)
    wide = np.zeros((240, 352), np.uint8)
    wide[:, :320] = frame.y
    view = wide[:, :320]
    view.flags.writeable = False
    padded = Frame(view, frame.u, frame.v, 0.0, 0)
    picture = bgr_picture(padded)
    np.testing.assert_array_equal(picture, bgr_picture(frame))
    cv2.rectangle(picture, (0, 0), (9, 9), (0, 0, 0), -1)  # the picture is the caller's own
    np.testing.assert_array_equal(view, frame.y)
