"""Every kind of source gives its region alone, with its masks black, and nothing else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import SourceError
from edge.sources.source import open_source
from edge.sources.uri import with_view
from edge.video.frames import Frame
from edge.video.view import Region, View, ViewCutter
from tests.support.clips import write_clip

# all three differ in x and y, so that a swap of the two is seen
VIEW = View(Region(0.125, 0.25, 0.5, 0.625), (((0.0, 0.25), (0.25, 0.25), (0.25, 0.5)),))
KINDS = ("file", "pictures", "test pattern", "live", "pipeline")


def address(kind: str, folder: Path) -> str:
    if kind == "file":
        return str(write_clip(folder / "clip.avi", frames=3, pattern="smpte"))
    if kind == "pictures":
        rng = np.random.default_rng(0)
        for number in range(3):
            picture = rng.integers(0, 256, (240, 320, 3), np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), picture)
        return str(folder)
    elements = "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=320,height=240"
    options = "frames=3&width=320&height=240"
    return {
        "test pattern": f"test://?{options}",
        "live": f"test://?{options}&live=1",
        "pipeline": f"pipeline:{elements}",
    }[kind]


def first_frame(uri: str) -> tuple[Frame, tuple[int, int]]:
    with open_source(uri) as source:
        return next(source), source.size_hw


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_gives_its_view(kind: str, tmp_path: Path) -> None:
    uri = address(kind, tmp_path)
    turns = ("",) if kind == "pipeline" else ("", "&rotate=90")
    for turned in turns:
        place = f"{uri}{turned if '?' in uri else turned.replace('&', '?')}"
        whole, _ = first_frame(place)
        frame, size_hw = first_frame(with_view(place, VIEW))
        expected = ViewCutter(VIEW, "")(whole)
        for name in ("y", "u", "v"):
            np.testing.assert_array_equal(getattr(frame, name), getattr(expected, name))
        assert size_hw == frame.size_hw == expected.size_hw != whole.size_hw
        assert frame.y[1, 1] == 16  # in the mask, whatever the picture


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_that_is_too_small_is_named_with_its_source(kind: str, tmp_path: Path) -> None:
    uri = address(kind, tmp_path)
    with (
        pytest.raises(SourceError) as caught,
        open_source(with_view(uri, View(Region(0, 0, 0.04, 0.04)))),
    ):
        pass
    name = "pipeline" if kind == "pipeline" else uri
    assert str(caught.value).startswith(name)
    assert "region is 12 x 10 px of its 320 x 240 picture; give one of 16 px" in str(caught.value)
