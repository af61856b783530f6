"""Which source pixels make an output pixel, and how much each counts: OpenCV's INTER_AREA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# `struct AreaWeights` of preprocess.cu: weight `head` for `first`, `tail` for `last`, `body`
# between.
AREA_WEIGHTS = np.dtype(
    [("first", "<i4"), ("last", "<i4"), ("head", "<f4"), ("body", "<f4"), ("tail", "<f4")]
)


def area_weights(
    view_hw: tuple[int, int], out_hw: tuple[int, int], top: int, left: int
) -> list[NDArray]:
    """Weights of the rows and of the columns, for a view of a plane that begins at `top`, `left`.

    INTER_AREA takes means where neither side grows; where one does, it is a bilinear interpolation
    of its own kind along both (cv::resize, imgproc/src/resize.cpp).
    """
    grows = any(out > view for view, out in zip(view_hw, out_hw, strict=True))
    make = _bilinear if grows else _means
    return [
        make(view, out, start)
        for view, out, start in zip(view_hw, out_hw, (top, left), strict=True)
    ]


def _means(view: int, out: int, start: int) -> NDArray:
    """Pixel k covers [k scale, (k + 1) scale) of the view; a source pixel counts by its share."""
    scale = view / out
    begin = np.arange(out) * scale
    end = np.minimum(begin + scale, view)
    first = np.floor(begin + 1e-3).astype(np.int64)  # slivers below 1e-3 of a pixel do not count
    last = np.ceil(end - 1e-3).astype(np.int64) - 1
    width = end - begin
    weights = np.empty(out, AREA_WEIGHTS)
    weights["first"], weights["last"] = first + start, last + start
    weights["head"] = np.where(last > first, np.minimum(first + 1 - begin, 1), width) / width
    weights["body"] = 1 / width
    weights["tail"] = np.minimum(end - last, 1) / width
    return weights


def _bilinear(view: int, out: int, start: int) -> NDArray:
    """Two neighbours; the weight moves only where an output pixel covers two source pixels."""
    inverse = out / view
    scale = 1 / inverse  # as there: its rounding decides at whole pixels
    index = np.arange(out)
    first = np.floor(index * scale).astype(np.int64)
    part = (index + 1) - (first + 1) * inverse
    part = np.where(part <= 0, 0, part - np.floor(part))
    part = np.where(first >= view - 1, 0, part)
    first = np.minimum(first, view - 1)
    last = np.minimum(first + 1, view - 1)
    weights = np.empty(out, AREA_WEIGHTS)
    weights["first"], weights["last"] = first + start, last + start
    weights["head"], weights["body"], weights["tail"] = 1 - part, 0, part
    return weights
