"""A JPEG that was cut anywhere is told from a whole one."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from edge.video.jpeg import lacks_end

NOISE = np.random.default_rng(3).integers(0, 255, (40, 60, 3)).astype(np.uint8)
CODED = cv2.imencode(".jpg", NOISE)[1].tobytes()


def with_thumbnail(picture: bytes) -> bytes:
    """As phones write it: a whole JPEG within the first segment."""
    inside = b"Exif\0\0" + cv2.imencode(".jpg", NOISE[:8, :8])[1].tobytes()
    return picture[:2] + b"\xff\xe1" + struct.pack(">H", len(inside) + 2) + inside + picture[2:]


@pytest.mark.parametrize(
    "whole",
    [
        CODED,
        cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
        cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes(),
        cv2.imencode(".jpg", NOISE[..., 0])[1].tobytes(),
        with_thumbnail(CODED),
        CODED.replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
    ],
    ids=["plain", "progressive", "restarts", "grey", "thumbnail", "fill"],
)
def test_every_cut_is_seen(whole: bytes) -> None:
    assert not lacks_end(whole)
    assert not lacks_end(whole + bytes(100))  # padded to a block
    for size in range(2, len(whole) - 1, 7):
        assert lacks_end(whole[:size])


def test_other_data_is_no_jpeg() -> None:
    for data in (b"", b"\xff", b"\x89PNG\r\n", b"\xff\xd8 no segment"):
        assert not lacks_end(data)
