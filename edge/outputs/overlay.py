"""Draws the recognition on a picture: label, what decided, the best classes of each stream, flow.

    picture = bgr_picture(frame)          # for display: BGR, at least 480 px high
    draw_overlay(picture, view)           # in place

Everything scales with the height of the picture. The colours of the streams, in the order of the
manifest, can be told apart with red-green blindness (Okabe and Ito's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.decision.label import State
from edge.video.frames import LUMA_WEIGHTS, SQUARE, Frame, Matrix

Picture = NDArray[np.uint8]  # (H, W, 3), BGR
Colour = tuple[int, int, int]  # BGR

READABLE_HEIGHT_PX = 480
FLOW_FULL_PX = 6.0  # displacement drawn at full brightness
_OPEN_SET_FULL = 1.6  # thresholds that the bar of the open-set score is long

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE: Colour = (245, 245, 245)
_GREY: Colour = (165, 165, 165)
_TRACK: Colour = (70, 70, 70)
# orange, blue, yellow, green, purple
_STREAMS: tuple[Colour, ...] = (
    (40, 160, 255),
    (255, 180, 70),
    (66, 228, 240),
    (115, 158, 0),
    (167, 121, 204),
)
_FLOW = _STREAMS[1]
_GREEN: Colour = (100, 210, 90)
_AMBER: Colour = (60, 200, 250)


@dataclass(frozen=True, slots=True)
class OpenSet:
    """The best open-set score, its class, and what it has to reach for the label to be shown."""

    label: str
    score: float
    threshold: float


@dataclass(frozen=True, slots=True)
class OverlayView:
    """What to draw on one picture.

    label, score: the fused decision, score 0..1; label None: no class is above the threshold.
    streams: each stream's best classes and their scores, best first, by name; empty: not yet known.
    open_set: None: not yet known, or the best class is always shown.
    flow: (2, h, w) float32, px a frame interval, x then y; None: no flow picture.
    status: a short line such as "25.0 fps  62 ms".
    reason: why it has been warming up for so long; "" otherwise.
    """

    state: State
    label: str | None = None
    score: float = 0.0
    streams: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    open_set: OpenSet | None = None
    flow: NDArray[np.float32] | None = None
    status: str = ""
    reason: str = ""


def picture_size(
    size_hw: tuple[int, int], pixel_aspect: tuple[int, int] = SQUARE
) -> tuple[int, int]:
    """(H, W) of the picture for a frame: with square pixels, enlarged by an integer to a readable
    height, and even.

    The side that is shown longer is stretched, so that nothing is lost.
    """
    height, width = size_hw
    wide, high = pixel_aspect
    if wide > high:
        width = round(width * wide / high)
    else:
        height = round(height * high / wide)
    factor = -(-READABLE_HEIGHT_PX // height)
    return height * factor + height * factor % 2, width * factor + width * factor % 2


def bgr_picture(frame: Frame) -> Picture:
    """A frame for display: (H, W, 3) BGR at `picture_size`, a new array.

    The networks never see this: their colours come from `edge.video.frames.rgb_tensor`.
    """
    height, width = frame.size_hw
    y = frame.y
    if height % 2 or width % 2:  # OpenCV's I420 needs even sides
        y = cv2.copyMakeBorder(y, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    packed = np.concatenate([y.ravel(), frame.u.ravel(), frame.v.ravel()])
    even_h, even_w = y.shape
    bgr = cv2.cvtColor(packed.reshape(even_h * 3 // 2, even_w), cv2.COLOR_YUV2BGR_I420)
    correction = _CORRECTIONS.get((frame.matrix, frame.full_range))
    if correction is not None:
        bgr = cv2.transform(bgr, correction)
    out_h, out_w = picture_size(frame.size_hw, frame.pixel_aspect)
    if (out_h, out_w) != (even_h, even_w):
        bgr = cv2.resize(bgr, (out_w, out_h), interpolation=cv2.INTER_LINEAR)
    return bgr  # type: ignore[return-value]


def _yuv_to_bgr(weight_red: float, weight_blue: float, full_range: bool) -> NDArray[np.float64]:
    """(4, 4): [Y, U, V, 1] in 0..255 to [B, G, R, 1]."""
    green = 1 - weight_red - weight_blue
    luma, chroma = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    blue_u, red_v = 2 * (1 - weight_blue), 2 * (1 - weight_red)
    linear = np.array(
        [
            [luma, chroma * blue_u, 0],
            [luma, -chroma * blue_u * weight_blue / green, -chroma * red_v * weight_red / green],
            [luma, 0, chroma * red_v],
        ]
    )
    black = np.array([0 if full_range else 16, 128, 128])
    return np.block([[linear, (-linear @ black)[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


def _correction(matrix: Matrix, full_range: bool) -> NDArray[np.float64]:
    """(3, 4): from OpenCV's colours, which assume limited-range BT.601, to the correct ones."""
    correct = _yuv_to_bgr(*LUMA_WEIGHTS[matrix], full_range)
    return (correct @ np.linalg.inv(_yuv_to_bgr(*LUMA_WEIGHTS["bt601"], False)))[:3]


_CORRECTIONS = {
    ("bt601", True): _correction("bt601", True),
    ("bt709", False): _correction("bt709", False),
    ("bt709", True): _correction("bt709", True),
}


def flow_picture(flow: NDArray[np.float32], size_hw: tuple[int, int]) -> Picture:
    """Flow (2, h, w) as colours (H, W, 3): hue for direction, brightness for displacement."""
    height, width = size_hw
    x, y = (cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) for part in flow)
    length, angle_deg = cv2.cartToPolar(x, y, angleInDegrees=True)
    hsv = np.empty((height, width, 3), np.uint8)
    hsv[..., 0] = angle_deg / 2  # OpenCV's hue runs to 180
    hsv[..., 1] = 220
    hsv[..., 2] = 255 * np.sqrt(np.minimum(length / FLOW_FULL_PX, 1))  # the root lifts slow motion
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)  # type: ignore[return-value]


def draw_overlay(picture: Picture, view: OverlayView) -> None:
    """Draw `view` on `picture`, (H, W, 3) BGR uint8, in place."""
    height = picture.shape[0]
    # scale of the drawing; below this minimum text is not legible
    unit = max(height / READABLE_HEIGHT_PX, 0.65)
    if view.flow is not None:
        _draw_flow(picture, view.flow, unit)
    if view.status:
        _draw_status(picture, view.status, unit)
    margin, open_set_h, row_h = round(12 * unit), round(20 * unit), round(36 * unit)
    panel_h = round(40 * unit) + open_set_h + len(view.streams) * row_h + margin // 2
    top = max(height - panel_h, 0)
    _darken(picture[top:])
    _draw_decision(picture, view, unit, (margin, top + round(30 * unit)))
    first = top + round(40 * unit)
    if view.open_set is not None:
        _draw_open_set(picture, view.open_set, unit, (margin, first + round(12 * unit)))
    elif view.label is not None:
        origin, room = (margin, first + round(12 * unit)), picture.shape[1] - 2 * margin
        _draw_fitted(picture, "the best class is always shown", origin, 0.45 * unit, _GREY, room)
    for row, (name, best) in enumerate(view.streams.items()):
        colour = _STREAMS[row % len(_STREAMS)]
        baseline = first + open_set_h + row * row_h + round(16 * unit)
        _draw_stream(picture, name, best, colour, unit, (margin, baseline))


def _darken(region: Picture) -> None:
    region[:] = cv2.convertScaleAbs(region, alpha=0.28, beta=10)


def _draw_decision(
    picture: Picture, view: OverlayView, unit: float, origin: tuple[int, int]
) -> None:
    """Draw a dot for the state, the label, and its score at the right margin."""
    left, baseline = origin
    text, colour, dot = view.label or "unknown", _WHITE, _GREEN
    if view.state == "warming up":
        text = f"warming up: {view.reason}" if view.reason else "warming up"
        colour, dot = _AMBER, _AMBER
    elif view.label is None:
        text = "no motion" if view.state == "standby" else text
        colour, dot = _GREY, _GREY
    radius = max(round(6 * unit), 3)
    cv2.circle(picture, (left + radius, baseline - round(9 * unit)), radius, dot, -1, cv2.LINE_AA)
    right = picture.shape[1] - left
    if view.state == "running" and view.label is not None:
        right = _draw_right(picture, f"{view.score:.0%}", right, baseline, 0.9 * unit, colour)
    start = left + 3 * radius
    _draw_fitted(picture, text, (start, baseline), 0.9 * unit, colour, right - start - left, 2)


def _draw_open_set(
    picture: Picture, open_set: OpenSet, unit: float, origin: tuple[int, int]
) -> None:
    """Draw a bar for the score with a tick at the threshold, and both as numbers."""
    left, baseline = origin
    scale = 0.45 * unit
    reached = open_set.score >= open_set.threshold
    _draw_fitted(picture, "open set", origin, scale, _GREY, round(picture.shape[1] * 0.18))
    full = _OPEN_SET_FULL * open_set.threshold
    share = open_set.score / full if full else 1.0
    right = _draw_bar(picture, share, _GREEN if reached else _GREY, unit, origin)
    bar_left = _bar_left(picture, left)
    tick = bar_left + round((right - bar_left) / _OPEN_SET_FULL)
    half = round(8 * unit)
    middle = baseline - round(5 * unit)
    thickness = max(round(2 * unit), 1)
    cv2.line(picture, (tick, middle - half), (tick, middle + half), _WHITE, thickness)
    text = f"{open_set.score:.2f} of {open_set.threshold:.2f}  {open_set.label}"
    room = picture.shape[1] - right - 2 * left
    _draw_fitted(picture, text, (right + left, baseline), scale, _GREY, room)


def _draw_stream(
    picture: Picture,
    name: str,
    best: Sequence[tuple[str, float]],
    colour: Colour,
    unit: float,
    origin: tuple[int, int],
) -> None:
    """Draw one row: the stream's name, a bar for its best score, the class, the score as a number;
    under them the next classes."""
    left, baseline = origin
    width = picture.shape[1]
    scale = 0.52 * unit
    label, score = best[0] if best else ("-", 0.0)
    _draw_fitted(picture, name, (left, baseline), scale, colour, round(width * 0.18))
    start = _draw_bar(picture, score, colour, unit, origin) + left
    right = width - left
    if best:
        right = _draw_right(picture, f"{score:.0%}", right, baseline, scale, _GREY)
    _draw_fitted(picture, label, (start, baseline), scale, _WHITE, right - start - left // 2)
    others = "   ".join(f"{name} {score:.0%}" for name, score in best[1:])
    below = (start, baseline + round(15 * unit))
    _draw_fitted(picture, others, below, 0.4 * unit, _GREY, width - left - start)


def _bar_left(picture: Picture, left: int) -> int:
    return left + round(picture.shape[1] * 0.17)


def _draw_bar(
    picture: Picture, share: float, colour: Colour, unit: float, origin: tuple[int, int]
) -> int:
    """Draw a bar that is filled to a share, 0..1, and return where it ends."""
    left, baseline = origin
    bar_left, bar_right = _bar_left(picture, left), left + round(picture.shape[1] * 0.45)
    bar_h = max(round(10 * unit), 4)
    bar_top = baseline - round(5 * unit) - bar_h // 2
    full = round((bar_right - bar_left) * min(max(share, 0.0), 1.0))
    cv2.rectangle(picture, (bar_left, bar_top), (bar_right, bar_top + bar_h), _TRACK, -1)
    if full > 0:
        corner = (bar_left + full, bar_top + bar_h)
        cv2.rectangle(picture, (bar_left, bar_top), corner, colour, -1)
    return bar_right


def _draw_flow(picture: Picture, flow: NDArray[np.float32], unit: float) -> None:
    """Draw the flow in the upper right corner, two ninths of the width, in a thin frame."""
    width = picture.shape[1]
    margin = round(8 * unit)
    flow_w = width * 2 // 9
    flow_h = min(flow_w * flow.shape[1] // flow.shape[2], picture.shape[0] // 3)
    if flow_w < 8 or flow_h < 8:
        return
    left = width - margin - flow_w
    picture[margin : margin + flow_h, left : left + flow_w] = flow_picture(flow, (flow_h, flow_w))
    corners = (left - 1, margin - 1), (left + flow_w, margin + flow_h)
    cv2.rectangle(picture, *corners, _FLOW, max(round(unit), 1))


def _draw_status(picture: Picture, text: str, unit: float) -> None:
    scale, margin = 0.5 * unit, round(8 * unit)
    (text_w, text_h), _ = cv2.getTextSize(text, _FONT, scale, _thickness(scale))
    bottom = margin + text_h + 2 * (margin // 2)
    right = min(margin + text_w + margin, picture.shape[1])
    _darken(picture[margin:bottom, margin:right])
    origin = (margin + margin // 2, bottom - margin // 2)
    _draw_fitted(picture, text, origin, scale, _WHITE, right - margin)


def _thickness(scale: float) -> int:
    return max(round(scale * 1.6), 1)


def _draw_right(
    picture: Picture, text: str, right: int, baseline: int, scale: float, colour: Colour
) -> int:
    """Write `text` so that it ends at `right`; returns where it starts."""
    thickness = _thickness(scale)
    (text_w, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    cv2.putText(
        picture, text, (right - text_w, baseline), _FONT, scale, colour, thickness, cv2.LINE_AA
    )
    return right - text_w


def _draw_fitted(
    picture: Picture,
    text: str,
    origin: tuple[int, int],
    scale: float,
    colour: Colour,
    room_px: int,
    thickness: int | None = None,
) -> None:
    """Write `text` at `origin`; if it is wider than `room_px`, smaller and then cut."""
    if room_px <= 0 or not text:
        return
    thickness = thickness if scale > 0.6 and thickness else _thickness(scale)
    (text_w, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    if text_w > room_px:
        scale *= max(room_px / text_w, 0.75)
        while len(text) > 3:
            (text_w, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
            if text_w <= room_px:
                break
            text = text.rstrip(".")[:-1] + ".."
    cv2.putText(picture, text, origin, _FONT, scale, colour, thickness, cv2.LINE_AA)
