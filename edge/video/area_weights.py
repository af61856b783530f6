"""The source pixels of each output pixel and their weights, as in OpenCV's INTER_AREA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# `struct AreaWeights` of preprocess.cu, for one output row or column: source pixel `first` has the
# weight `head`, `last` has `tail`, those between have `body`.
AREA_WEIGHTS = np.dtype(
    [("first", "<i4"), ("last", "<i4"), ("head", "<f4"), ("body", "<f4"), ("tail", "<f4")]
)


def area_weights(
    view_hw: tuple[int, int], out_hw: tuple[int, int], top: int, left: int
) -> list[NDArray]:
    """Weights of the rows (H,) and columns (W,) that resize the part `view_hw` of a plane, which
    begins at `top`, `left`, to `out_hw`.

    INTER_AREA averages if neither side is enlarged. If one is, both are interpolated, by weights
    that differ from INTER_LINEAR's (cv::resize, imgproc/src/resize.cpp).
    """
    enlarged = any(out > view for view, out in zip(view_hw, out_hw, strict=True))
    weights = _bilinear if enlarged else _means
    return [
        weights(view, out, start)
        for view, out, start in zip(view_hw, out_hw, (top, left), strict=True)
    ]


def _means(view: int, out: int, start: int) -> NDArray:
    """Output pixel k covers [k scale, (k + 1) scale) of the view; source pixels are weighted by
    their share of it."""
    scale = view / out
    begin = np.arange(out) * scale
    end = np.minimum(begin + scale, view)
    first = np.floor(begin + 1e-3).astype(np.int64)  # ignore less than 1e-3 of a pixel
    last = np.ceil(end - 1e-3).astype(np.int64) - 1
    width = end - begin
    weights = np.empty(out, AREA_WEIGHTS)
    weights["first"], weights["last"] = first + start, last + start
    weights["head"] = np.where(last > first, np.minimum(first + 1 - begin, 1), width) / width
    weights["body"] = 1 / width
    weights["tail"] = np.minimum(end - last, 1) / width
    return weights


def _bilinear(view: int, out: int, start: int) -> NDArray:
    """Weights of two neighbours. An output pixel within one source pixel takes it alone."""
    inverse = out / view
    scale = 1 / inverse  # as OpenCV computes it: rounding decides at whole pixels
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
