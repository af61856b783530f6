"""Planes are cut from a buffer where its caps and its meta say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.video.gstreamer import load_gstreamer
from edge.video.i420_buffer import I420Layout, i420_planes, layout_of_buffer, layout_of_caps


def layout_of(text: str, decoded: str = "") -> I420Layout:
    """The layout for caps; decoded: those before the converter, if they are others."""
    gst = load_gstreamer(SourceError).Gst
    return layout_of_caps(gst.Caps.from_string(text), gst.Caps.from_string(decoded or text))


@pytest.mark.parametrize(
    ("colorimetry", "height", "matrix", "full_range"),
    [
        ("bt601", 64, "bt601", False),
        ("bt709", 64, "bt709", False),
        ("1:4:0:0", 64, "bt601", True),
        ("1:3:0:0", 720, "bt709", True),
        ("1:0:0:0", 64, "bt601", True),
        ("1:0:0:0", 720, "bt709", True),
        ("2:0:0:0", 720, "bt709", False),
        ("0:3:0:0", 64, "bt709", False),
        ("bt2020", 720, None, False),
        ("nonsense", 64, "bt601", False),
        ("", 576, "bt601", False),
        ("", 720, "bt709", False),
    ],
)
def test_colorimetry(colorimetry: str, height: int, matrix: str, full_range: bool) -> None:
    tag = f",colorimetry={colorimetry}" if colorimetry else ""
    layout = layout_of(f"video/x-raw,format=I420,width=64,height={height}{tag}")
    assert (layout.matrix, layout.full_range) == (matrix, full_range)


def test_colours_are_read_before_a_converter_that_forgets_them() -> None:
    """As nvvidconv does."""
    before = "video/x-raw(memory:NVMM),format=NV12,width=64,height=720,colorimetry=1:4:0:0"
    layout = layout_of("video/x-raw,format=I420,width=64,height=720", before)
    assert (layout.matrix, layout.full_range) == ("bt601", True)


@given(
    height=st.integers(1, 33),
    width=st.integers(1, 33),
    padding=st.tuples(*[st.integers(0, 9)] * 3),
    gaps=st.tuples(*[st.integers(0, 7)] * 3),
)
def test_planes_follow_the_video_meta(
    height: int, width: int, padding: tuple[int, ...], gaps: tuple[int, ...]
) -> None:
    gst, video = load_gstreamer(SourceError)
    half = ((height + 1) // 2, (width + 1) // 2)
    rng = np.random.default_rng(0)
    content, offsets, strides, wanted = b"", [], [], []
    for (rows, columns), pad, gap in zip(((height, width), half, half), padding, gaps, strict=True):
        padded = rng.integers(0, 256, (rows, columns + pad), np.uint8)
        content += bytes(gap)
        offsets.append(len(content))
        strides.append(columns + pad)
        content += padded.tobytes()
        wanted.append(padded[:, :columns])
    buffer = gst.Buffer.new_wrapped(content)
    video.buffer_add_video_meta_full(
        buffer, 0, video.VideoFormat.I420, width, height, 3, [*offsets, 0], [*strides, 0]
    )
    default = layout_of(f"video/x-raw,format=I420,width={width},height={height}")
    layout = layout_of_buffer(buffer, default)
    planes = i420_planes(np.frombuffer(content, np.uint8), layout)
    for plane, expected in zip(planes, wanted, strict=True):
        np.testing.assert_array_equal(plane, expected)


def test_a_buffer_that_is_too_small_is_an_error() -> None:
    layout = layout_of("video/x-raw,format=I420,width=64,height=64")
    with pytest.raises(SourceError, match="too small for a 64x64 I420 frame"):
        i420_planes(np.zeros(64 * 64, np.uint8), layout)
