"""Colours that are stated in another way than BT.601 or BT.709, and what is said of them."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from edge.video.frames import Geometry, Normalisation, resize_to_model, rgb_tensor
from edge.video.picture import colour_fault, read_picture

FCC, SMPTE240M, YCGCO, BT2020, CONSTANT_LUMINANCE = 4, 7, 8, 9, 10  # ITU-T H.273
PQ, HLG, SDR = 16, 18, 1
# 8 bit codes of pure colours, from the formulas of H.273: red, green, blue in limited range
CODES = {
    BT2020: ((74, 97, 240), (164, 47, 25), (29, 240, 119)),
    SMPTE240M: ((62, 102, 240), (170, 42, 26), (35, 240, 116)),
    FCC: ((82, 90, 240), (145, 54, 35), (40, 240, 109)),
}
# and in full range: Y, Cg, Co
YCGCO_CODES = ((64, 64, 255), (128, 255, 128), (64, 64, 1))
RGB = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
LEVELS = Normalisation(mean=(0.0,) * 3, std=(1 / 255,) * 3)
WHOLE = Geometry(aspect=(1, 1), size_hw=(32, 32), interpolation="area")


def solid(codes: tuple[int, int, int], space: int, full_range: bool = False) -> av.VideoFrame:
    """(32, 32) of one colour, 4:2:0."""
    planes = [np.full((32 * 32) >> (2 if part else 0), code) for part, code in enumerate(codes)]
    rows = np.concatenate(planes).astype(np.uint8).reshape(48, 32)
    picture = av.VideoFrame.from_ndarray(rows, "yuv420p")
    picture.colorspace = space
    picture.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    return picture


def shown(picture: av.VideoFrame) -> np.ndarray:
    """(R, G, B) in the middle, as networks get it."""
    frame = resize_to_model(read_picture(picture, 0.0, 0), WHOLE)
    assert frame.matrix == "bt709"
    return rgb_tensor(frame, LEVELS)[:, 16, 16]


@pytest.mark.parametrize("space", CODES)
@pytest.mark.parametrize("part", range(3))
def test_every_known_matrix_gives_the_colour_that_was_meant(space: int, part: int) -> None:
    picture = solid(CODES[space][part], space)
    assert np.abs(shown(picture) - RGB[part]).max() < 4
    assert colour_fault(picture) is None


@pytest.mark.parametrize("part", range(3))
def test_screens_recorded_in_ycgco(part: int) -> None:
    # in BT.709, blue and red lie at the limits of the codes: half a level of 255 is lost
    picture = solid(YCGCO_CODES[part], YCGCO, full_range=True)
    assert np.abs(shown(picture) - RGB[part]).max() < 6


def test_a_matrix_that_is_not_supported_is_named() -> None:
    picture = solid((100, 100, 140), CONSTANT_LUMINANCE)
    assert colour_fault(picture) == (
        "its colour matrix (number 10 of H.273) is not supported; bt601 is used"
    )


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "PQ"), (HLG, "HLG"), (SDR, "")])
def test_hdr_is_named(transfer: int, name: str) -> None:
    picture = solid((100, 128, 128), BT2020)
    picture.color_trc = transfer
    fault = colour_fault(picture)
    assert (fault is None) if not name else f"it is HDR ({name})" in str(fault)
