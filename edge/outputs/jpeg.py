"""Pictures as JPEG."""

from __future__ import annotations

import cv2

from edge.outputs.overlay import Picture

_QUALITY = 80


def jpeg_bytes(picture: Picture) -> bytes:
    """A picture, (H, W, 3) BGR uint8, as a JPEG file."""
    encoded, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    if not encoded:
        raise ValueError(f"no JPEG can hold {picture.shape}")
    return data.tobytes()
