"""From a picture that FFmpeg decoded to a frame: one colour contract, whatever the pixel format.

YUV of any depth and subsampling   to I420; its matrix and range stay as they are stated
grey                               luma as it is, neutral chroma; full range unless stated
RGB, palettes                      to limited-range YUV, BT.601 or, above 576 lines, BT.709
FCC, SMPTE 240M, BT.2020, YCgCo     to BT.709
another matrix, HDR                read as they are; `colour_fault` says so
"""

from __future__ import annotations

import struct
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from edge.video.frames import LUMA_WEIGHTS, SQUARE, Frame, Matrix, Plane, default_matrix
from edge.video.orientation import UPRIGHT, Orientation

_AS_IT_IS = ("yuv420p", "yuvj420p")
# ITU-T H.273, matrix coefficients
_MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601"}
_UNSPECIFIED = (0, 2)  # 0 is RGB; an encoder that leaves it in YUV has not thought about it


def _to_rgb(red: float, blue: float) -> NDArray[np.float64]:
    """(3, 3): R, G, B from Y, U, V of the same scale. red, blue: their weights in luma."""
    of_v, of_u = 2 * (1 - red), 2 * (1 - blue)
    green = 1 - red - blue
    return np.array([[1, 0, of_v], [1, -of_u * blue / green, -of_v * red / green], [1, of_u, 0]])


# FCC, SMPTE 240M, YCgCo, BT.2020
_OTHERS = {
    4: _to_rgb(0.30, 0.11),
    7: _to_rgb(0.212, 0.087),
    8: np.array([[1.0, -1, 1], [1, 1, 0], [1, -1, -1]]),
    9: _to_rgb(0.2627, 0.0593),
}
_HDR = {16: "PQ", 18: "HLG"}  # H.273, transfer characteristics
_RANGES = {False: ColorRange.MPEG, True: ColorRange.JPEG}
_SPACES: dict[Matrix, Colorspace] = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}


def read_picture(
    picture: av.VideoFrame, time_s: float, index: int, pixel_aspect: tuple[int, int] = SQUARE
) -> Frame:
    """The frame with the planes of `picture`, as stored: see `orientation_of`."""
    matrix = _MATRICES.get(int(picture.colorspace), default_matrix(picture.height))
    full_range = picture.color_range == ColorRange.JPEG or picture.format.name.startswith("yuvj")
    if _is_grey(picture):
        full_range = picture.color_range != ColorRange.MPEG
        return _grey(picture, time_s, index, full_range, pixel_aspect)
    if picture.format.is_rgb or picture.format.has_palette:
        full_range, planes = False, _through_rgb(picture.to_ndarray(format="rgb24"), matrix)  # type: ignore[arg-type]
    elif int(picture.colorspace) in _OTHERS:
        y, u, v = _in_bt709(picture, full_range)
        return Frame(y, u, v, time_s, index, "bt709", full_range, pixel_aspect)
    elif picture.format.name in _AS_IT_IS:
        planes = picture
    else:
        planes = _to_i420(picture, _SPACES[matrix], full_range, full_range)
    y, u, v = (_plane(plane) for plane in planes.planes)
    return Frame(y, u, v, time_s, index, matrix, full_range, pixel_aspect)


def states_its_matrix(picture: av.VideoFrame) -> bool:
    """Whether the colour matrix is known, not guessed from the height."""
    return int(picture.colorspace) not in _UNSPECIFIED or picture.format.is_rgb


def colour_fault(picture: av.VideoFrame) -> str | None:
    """Why the colours are not those that were meant, in one line; None: they are."""
    if picture.color_trc in _HDR:
        return (
            f"it is HDR ({_HDR[picture.color_trc]}) and is read without tone mapping, so that it "
            "looks flat to networks that learnt from other video; convert it to SDR"
        )
    space = int(picture.colorspace)
    known = space in (*_UNSPECIFIED, *_MATRICES, *_OTHERS)
    if known or _is_grey(picture) or picture.format.is_rgb:
        return None
    return (
        f"its colour matrix (number {space} of H.273) is not supported; "
        f"{default_matrix(picture.height)} is used"
    )


def orientation_of(picture: av.VideoFrame) -> Orientation:
    """How `picture` has to be turned to be upright, from its display matrix.

    The matrix maps (x, y) of the picture, y downwards, to (a x + c y, b x + d y) on the screen
    (ISO 14496-12, 8.3.2); its turns by other than quarter turns are rounded to them.
    """
    data: Any = picture.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(data))
    mirrored = a * d - b * c < 0
    if mirrored:  # as if x had been mirrored before
        a, b = -a, -b
    angle = np.arctan2(b, a)  # of the picture's rows on the screen, clockwise since y is downwards
    return Orientation(round(angle / (np.pi / 2)) % 4, mirrored)


def _is_grey(picture: av.VideoFrame) -> bool:
    name = picture.format.name
    return name.startswith(("gray", "mono", "ya"))


def _grey(
    picture: av.VideoFrame,
    time_s: float,
    index: int,
    full_range: bool,
    pixel_aspect: tuple[int, int],
) -> Frame:
    if picture.format.name != "gray":
        # FFmpeg's converter takes grey as full-range on both sides, so that levels are kept
        picture = picture.reformat(format="gray")
    y = _plane(picture.planes[0])
    chroma = np.full(((y.shape[0] + 1) // 2, (y.shape[1] + 1) // 2), 128, np.uint8)
    matrix = default_matrix(picture.height)
    return Frame(y, chroma, chroma, time_s, index, matrix, full_range, pixel_aspect)


def _through_rgb(rgb: NDArray[np.uint8], matrix: Matrix) -> av.VideoFrame:
    """I420 in limited range and `matrix` from (H, W, 3) RGB."""
    # from a new picture, since H.264's own would have its chroma moved to the left by half a pixel
    return _to_i420(av.VideoFrame.from_ndarray(rgb, format="rgb24"), _SPACES[matrix], True, False)


def _in_bt709(picture: av.VideoFrame, full_range: bool) -> tuple[Plane, Plane, Plane]:
    """I420 planes of BT.709, in the same range, of a picture with one of the matrices in _OTHERS.

    Grey is the same in both, so luma changes by a part of the chroma alone.
    """
    # the same matrix on both sides: nothing is converted but depth
    planes = _to_i420(picture, Colorspace.ITU709, full_range, full_range).planes
    y, u, v = (_plane(plane) for plane in planes)
    red, blue = LUMA_WEIGHTS["bt709"]
    to_bt709 = np.linalg.inv(_to_rgb(red, blue)) @ _OTHERS[int(picture.colorspace)]
    rows = to_bt709[:, 1:]  # (3, 2): what U and V add to Y, U and V
    rows[0] *= 1 if full_range else 219 / 224
    offsets = np.array([[0], [128], [128]]) - rows.sum(axis=1, keepdims=True) * 128
    chroma: NDArray[Any] = cv2.merge([u, v]).astype(np.float32)
    turned = cv2.transform(chroma, np.hstack([rows, offsets]).astype(np.float32))
    size_wh = (2 * u.shape[1], 2 * u.shape[0])
    shift = cv2.resize(turned[..., 0], size_wh, interpolation=cv2.INTER_NEAREST)
    luma = cv2.add(y, shift[: y.shape[0], : y.shape[1]], dtype=cv2.CV_8U)  # rounded and clipped
    codes = turned[..., 1:].round().clip(0, 255).astype(np.uint8)
    return luma, codes[..., 0].copy(), codes[..., 1].copy()  # type: ignore[return-value]


def _to_i420(
    picture: av.VideoFrame, space: Colorspace, full_range: bool, wanted_full: bool
) -> av.VideoFrame:
    return picture.reformat(
        format="yuv420p",
        interpolation="AREA",  # chroma is the mean of the pixels that share it
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=_RANGES[full_range],
        dst_color_range=_RANGES[wanted_full],
    )


def _plane(plane: av.video.plane.VideoPlane) -> Plane:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    rows.flags.writeable = False  # the decoder may still refer to it
    return rows[: plane.height, : plane.width]
