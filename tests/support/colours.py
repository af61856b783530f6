"""Pictures of known colours, and whether a frame has them."""

from __future__ import annotations

import numpy as np

from edge.video.frames import Frame, Geometry, Normalisation, resize_to_model, rgb_tensor

SIZE_HW = (240, 320)
SAME_SIZE = Geometry(aspect=(4, 3), size_hw=SIZE_HW, interpolation="area")
PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
LEVELS_MAX = 1.5  # mean difference that rounding and subsampled chroma explain
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # of red and blue in luma
STATED = {
    ("bt601", False): "bt601",
    ("bt601", True): "1:4:0:0",
    ("bt709", False): "bt709",
    ("bt709", True): "1:3:0:0",
}


def patches(seed: int = 0) -> np.ndarray:
    """(H, W, 3) RGB, 0..255: patches of plain colours, over the whole cube."""
    rng = np.random.default_rng(seed)
    height, width = SIZE_HW
    colours = rng.integers(0, 256, (height // 40, width // 40, 3)).astype(np.float64)
    return colours.repeat(40, axis=0).repeat(40, axis=1)


def yuv_of(rgb: np.ndarray, matrix: str, full_range: bool, bits: int = 8) -> np.ndarray:
    """(3, H, W) of `bits`, by the definition of the matrix (ITU-R BT.601, BT.709)."""
    red, blue = WEIGHTS[matrix]
    r, g, b = (rgb / 255).transpose(2, 0, 1)
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = np.stack([(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))])
    unit = 2 ** (bits - 8)
    most = 2**bits - 1
    if full_range:
        y, chroma = y * most, chroma * most + 128 * unit
    else:
        y, chroma = (16 + 219 * y) * unit, (128 + 224 * chroma) * unit
    return np.clip(np.round([y, *chroma]), 0, most).astype(np.uint16)


def halved(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    height, width = plane.shape
    blocks = plane.reshape(height // rows, rows, width // columns, columns)
    return np.round(blocks.mean(axis=(1, 3))).astype(np.uint16)


def packed(yuv: np.ndarray, form: str) -> bytes:
    """One frame in one of GStreamer's formats."""
    y, u, v = yuv
    down = {"I420": (2, 2), "NV12": (2, 2), "Y42B": (1, 2), "Y444": (1, 1), "I420_10LE": (2, 2)}
    u, v = (halved(plane, *down[form]) for plane in (u, v))
    if form == "NV12":
        chroma = np.stack([u, v], axis=-1)
        return b"".join(plane.astype(np.uint8).tobytes() for plane in (y, chroma))
    depth = np.uint16 if form.endswith("10LE") else np.uint8
    return b"".join(plane.astype(depth).tobytes() for plane in (y, u, v))


def seen(frame: Frame) -> np.ndarray:
    """(H, W, 3) RGB, 0..255, as the networks see it."""
    return rgb_tensor(resize_to_model(frame, SAME_SIZE), PLAIN).transpose(1, 2, 0) * 255.0


def assert_colours(frame: Frame, rgb: np.ndarray) -> None:
    assert np.abs(seen(frame) - rgb).mean() < LEVELS_MAX
    luma = resize_to_model(frame, SAME_SIZE).y.astype(float)
    truth = yuv_of(rgb, frame.matrix, False)[0]
    assert np.abs(luma - truth).mean() < LEVELS_MAX
