"""Frames are turned and mirrored as a person would turn the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.video.frames import Frame
from edge.video.orientation import (
    FLIPPED_HORIZONTALLY,
    FLIPPED_VERTICALLY,
    UPRIGHT,
    Orientation,
    turn,
)
from tests.support.frames import noise_frame

ALL = [Orientation(turns, mirrored) for turns in range(4) for mirrored in (False, True)]
sides = st.integers(1, 19)
orientations = st.sampled_from(ALL)


def same(one: Frame, other: Frame) -> bool:
    pairs = ((one.y, other.y), (one.u, other.u), (one.v, other.v))
    equal = all(np.array_equal(a, b) for a, b in pairs)
    return equal and one.pixel_aspect == other.pixel_aspect


def by_letters(orientation: Orientation) -> list[str]:
    """What becomes of the picture "ab" over "cd"."""
    y = np.frombuffer(b"abcd", np.uint8).reshape(2, 2)
    chroma = np.zeros((1, 1), np.uint8)
    turned = turn(Frame(y, chroma, chroma, 0.0, 0), orientation)
    return [bytes(row).decode() for row in turned.y]


@pytest.mark.parametrize(
    ("orientation", "rows"),
    [
        (UPRIGHT, ["ab", "cd"]),
        (Orientation(1), ["ca", "db"]),
        (Orientation(2), ["dc", "ba"]),
        (Orientation(3), ["bd", "ac"]),
        (FLIPPED_HORIZONTALLY, ["ba", "dc"]),
        (FLIPPED_VERTICALLY, ["cd", "ab"]),
        (Orientation(1, True), ["db", "ca"]),
        (Orientation(3, True), ["ac", "bd"]),
    ],
)
def test_eight_orientations(orientation: Orientation, rows: list[str]) -> None:
    assert by_letters(orientation) == rows


@given(height=sides, width=sides, orientation=orientations)
def test_planes_of_any_size(height: int, width: int, orientation: Orientation) -> None:
    """Each plane is turned whole, so that nothing is lost at an odd side."""
    frame = noise_frame(height, width, pixel_aspect=(16, 11))
    turned = turn(frame, orientation)
    for plane, before in ((turned.y, frame.y), (turned.u, frame.u), (turned.v, frame.v)):
        flipped = before[:, ::-1] if orientation.mirrored else before
        np.testing.assert_array_equal(plane, np.rot90(flipped, -orientation.quarter_turns))
        assert plane.flags.c_contiguous
    half = ((turned.size_hw[0] + 1) // 2, (turned.size_hw[1] + 1) // 2)
    assert turned.u.shape == turned.v.shape == half
    swapped = orientation.quarter_turns % 2 == 1
    assert turned.size_hw == ((width, height) if swapped else (height, width))
    assert turned.pixel_aspect == ((11, 16) if swapped else (16, 11))


@given(height=sides, width=sides, first=orientations, second=orientations)
def test_composition(height: int, width: int, first: Orientation, second: Orientation) -> None:
    frame = noise_frame(height, width, pixel_aspect=(4, 3))
    assert same(turn(turn(frame, first), second), turn(frame, first.then(second)))


@given(first=orientations, second=orientations, third=orientations)
def test_they_are_a_group(first: Orientation, second: Orientation, third: Orientation) -> None:
    assert first.then(second).then(third) == first.then(second.then(third))
    assert first.then(UPRIGHT) == first == UPRIGHT.then(first)
    assert any(first.then(back) == UPRIGHT for back in ALL)


@given(orientation=orientations)
def test_all_else_is_kept(orientation: Orientation) -> None:
    frame = noise_frame(6, 8, matrix="bt709", full_range=True, discontinuity=True, time_s=1.5)
    turned = turn(frame, orientation)
    kept = replace(turned, y=frame.y, u=frame.u, v=frame.v)
    assert kept == frame


def test_the_rows_of_a_decoder_are_padded_and_read_only() -> None:
    padded = np.arange(48, dtype=np.uint8).reshape(6, 8)
    padded.flags.writeable = False
    frame = Frame(padded[:, :5], padded[:3, :3], padded[:3, :3], 0.0, 0)
    np.testing.assert_array_equal(turn(frame, Orientation(1)).y, np.rot90(padded[:, :5], -1))
    assert not np.shares_memory(turn(frame, FLIPPED_HORIZONTALLY).y, padded)
