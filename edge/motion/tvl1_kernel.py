"""TV-L1 as numba compiles it (see edge.motion.tvl1, which says what it does and how fast)."""

from __future__ import annotations

import numpy as np
from numba import njit

from edge.motion.tvl1_layout import GUARD, PITCH, PLANES, ROW

# Of the freedoms of fast math those alone that leave the result the same on every processor of a
# kind: no approximate reciprocals and square roots, whose bits differ between makers, and sums in
# the order that is written. "contract" is fused multiply-add.
FASTMATH = {"nnan", "ninf", "nsz", "contract"}
_compiled = njit(nogil=True, fastmath=FASTMATH, error_model="numpy")

_LEFT = 16  # columns before a plane: one cache line
_U, _V, _P11, _P12, _P21, _P22, _RHO, _GX, _GY, _INV, _MEAN = (k * PITCH for k in range(PLANES))
_LANES = 32  # rows are padded to multiples of it, so that vectorised loops have no scalar remainder
# Added to the squared gradient (luma levels^2 / px^2), which may be zero, before dividing by it.
_FLAT = np.float32(1e-9)
_ZERO, _ONE = np.float32(0), np.float32(1)


@_compiled
def _repeat_last(out, height, width):  # type: ignore[no-untyped-def]
    """Repeat the last column and row, so that the pixel at (x + 1, y + 1) can always be read."""
    for y in range(height):
        out[y, width] = out[y, width - 1]
    for x in range(width + 1):
        out[height, x] = out[height - 1, x]


@_compiled
def _halve(fine, height, width, coarse):  # type: ignore[no-untyped-def]
    """2 x 2 means: (height, width) -> (ceil(height / 2), ceil(width / 2)); an odd edge is
    repeated."""
    out_h, out_w = (height + 1) // 2, (width + 1) // 2
    for y in range(out_h):
        upper, lower = fine[2 * y], fine[2 * y + 1]
        row = coarse[y]
        for x in range(out_w):
            total = upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]
            row[x] = np.float32(0.25) * total
    _repeat_last(coarse, out_h, out_w)


@_compiled
def _clear(state, height, width):  # type: ignore[no-untyped-def]
    """Zero the flow, duals and coefficients of a level, with guard rows and padding."""
    end = _LEFT + width + _LANES
    for y in range(height + 2 * GUARD):
        for plane in range(PLANES):
            start = y * ROW + plane * PITCH
            state[start : start + end] = 0


@_compiled
def _double(coarse, coarse_h, coarse_w, state, height, width):  # type: ignore[no-untyped-def]
    """Upsample the flow (2, h, w) of the coarser level to u and v of this level, bilinearly.

    The centre of pixel x is at (x + 0.5) / 2 - 0.5 of the coarser level: weights 3/4 and 1/4.
    """
    near, far = np.float32(1.5), np.float32(0.5)  # times 2: flow is in px of this level
    for y in range(height):
        y0 = y // 2
        y1 = min(max(y0 + 2 * (y % 2) - 1, 0), coarse_h - 1)
        start = (y + GUARD) * ROW + _LEFT
        for component in range(2):
            upper, lower = coarse[component, y0], coarse[component, y1]
            out = state[start + component * PITCH : start + component * PITCH + width]
            for x in range(width):
                x0 = x // 2
                x1 = min(max(x0 + 2 * (x % 2) - 1, 0), coarse_w - 1)
                row0 = near * upper[x0] + far * upper[x1]
                row1 = near * lower[x0] + far * lower[x1]
                out[x] = np.float32(0.75) * row0 + np.float32(0.25) * row1


@_compiled
def _warp(first, pixels, base, pitch, offsets, state, height, width):  # type: ignore[no-untyped-def]
    """Warp the second picture: I1w(x, y) = I1(x + u, y + v), bilinear, coordinates clamped.

    Sets MEAN = (I0 + I1w) / 2, RHO = I1w - I0, and INV = 1 inside the picture, falling to 0 one
    pixel outside. pixels: of the whole pyramid in one row, of which the second picture begins at
    `base`, with `pitch` pixels a row. Each row takes three loops, because reading four neighbours
    cannot be vectorised and would prevent it for the rest. Between the loops, `offsets` (int32, of
    one row) holds the pixels to read, GX and GY the fractions.
    """
    last_x, last_y = np.float32(width - 1), np.float32(height - 1)
    for y in range(height):
        start = (y + GUARD) * ROW + _LEFT
        row = state[start : start + ROW]
        for x in range(width):
            to_x, to_y = np.float32(np.int32(x)) + row[x + _U], np.float32(y) + row[x + _V]
            in_x, in_y = min(max(to_x, _ZERO), last_x), min(max(to_y, _ZERO), last_y)
            x0, y0 = np.floor(in_x), np.floor(in_y)
            offsets[x] = base + np.int32(y0 * np.float32(pitch) + x0)  # exact: below 2^24
            row[x + _GX] = in_x - x0
            row[x + _GY] = in_y - y0
            row[x + _INV] = max(_ONE - abs(to_x - in_x) - abs(to_y - in_y), _ZERO)
        for x in range(width):
            at = np.uint32(offsets[x])
            upper = pixels[at] + row[x + _GX] * (pixels[at + 1] - pixels[at])
            at += pitch
            lower = pixels[at] + row[x + _GX] * (pixels[at + 1] - pixels[at])
            row[x + _MEAN] = upper + row[x + _GY] * (lower - upper)
        picture = first[y]
        for x in range(width):
            warped = row[x + _MEAN]
            row[x + _RHO] = warped - picture[x]
            row[x + _MEAN] = np.float32(0.5) * (warped + picture[x])


@_compiled
def _repeat_edges(state, plane, reach, height, width):  # type: ignore[no-untyped-def]
    """Extend a plane on all sides by `reach` (1 or 2) pixels, by repeating its edges."""
    for y in range(height):
        start = (y + GUARD) * ROW + plane + _LEFT
        for step in range(reach):
            state[start - 1 - step] = state[start]
            state[start + width + step] = state[start + width - 1]
    for step in range(reach):
        for x in range(_LEFT - reach, _LEFT + width + reach):
            column = plane + x
            above, below = GUARD - 1 - step, GUARD + height + step
            state[above * ROW + column] = state[GUARD * ROW + column]
            state[below * ROW + column] = state[(GUARD + height - 1) * ROW + column]


@_compiled
def _linearise(state, height, width):  # type: ignore[no-untyped-def]
    """Linearise the brightness difference at the flow of this warp: rho(u, v) = RHO + GX u + GY v,
    in luma levels.

    GX, GY: the 5 point derivative (1, -8, 0, 8, -1) / 12 of MEAN, in levels / px. INV = 1 /
    (GX^2 + GY^2).
    """
    near, far = np.float32(8 / 12), np.float32(1 / 12)
    for y in range(height):
        start = y * ROW + _LEFT - 2  # two rows up, two columns left
        row = state[start : start + 5 * ROW]
        for x in range(width):
            here = x + 2 * ROW + 2
            mean = here + _MEAN
            fade = row[here + _INV]
            gx = near * (row[mean + 1] - row[mean - 1]) - far * (row[mean + 2] - row[mean - 2])
            gy = near * (row[mean + ROW] - row[mean - ROW])
            gy -= far * (row[mean + 2 * ROW] - row[mean - 2 * ROW])
            gx *= fade
            gy *= fade
            row[here + _GX] = gx
            row[here + _GY] = gy
            row[here + _RHO] = fade * row[here + _RHO] - gx * row[here + _U] - gy * row[here + _V]
            row[here + _INV] = _ONE / (gx * gx + gy * gy + _FLAT)


@_compiled
def _primal_row(state, y, width, padded, theta, limit):  # type: ignore[no-untyped-def]
    """The primal step of one row: u += t GX + theta div p, and v likewise.

    t = -rho / |g|^2, clipped to +-limit (= lambda theta), is the thresholding step of the data term
    without branches.
    """
    start = (y + GUARD - 1) * ROW + _LEFT - 1  # one row up, one column left
    row = state[start : start + 2 * ROW]
    for x in range(padded):
        here = x + ROW + 1
        u, v = row[here + _U], row[here + _V]
        gx, gy = row[here + _GX], row[here + _GY]
        step = -(row[here + _RHO] + gx * u + gy * v) * row[here + _INV]
        step = min(max(step, -limit), limit)
        div_u = row[here + _P11] - row[here + _P11 - 1] + row[here + _P12] - row[x + 1 + _P12]
        div_v = row[here + _P21] - row[here + _P21 - 1] + row[here + _P22] - row[x + 1 + _P22]
        row[here + _U] = u + step * gx + theta * div_u
        row[here + _V] = v + step * gy + theta * div_v
    # The forward difference at the right edge is zero.
    row[ROW + 1 + width + _U] = row[ROW + width + _U]
    row[ROW + 1 + width + _V] = row[ROW + width + _V]


@_compiled
def _dual_row(state, y, padded, sigma):  # type: ignore[no-untyped-def]
    """The dual step of one row: p = q / max(1, |q|) with q = p + sigma grad (u, v).

    sigma = tau / theta. |q| is the norm of all four: q11, q12 (of u, along x and y) and q21, q22
    (of v).
    """
    start = (y + GUARD) * ROW + _LEFT
    row = state[start : start + 2 * ROW]
    for x in range(padded):
        u, v = row[x + _U], row[x + _V]
        q11 = row[x + _P11] + sigma * (row[x + _U + 1] - u)
        q12 = row[x + _P12] + sigma * (row[x + _U + ROW] - u)
        q21 = row[x + _P21] + sigma * (row[x + _V + 1] - v)
        q22 = row[x + _P22] + sigma * (row[x + _V + ROW] - v)
        squared = q11 * q11 + q12 * q12 + q21 * q21 + q22 * q22
        scale = _ONE / np.sqrt(max(squared, _ONE))
        row[x + _P11] = scale * q11
        row[x + _P12] = scale * q12
        row[x + _P21] = scale * q21
        row[x + _P22] = scale * q22


@_compiled
def _iterate(state, height, width, iterations, theta, limit, sigma):  # type: ignore[no-untyped-def]
    """Jacobi iterations as a wavefront: each runs one row behind the one before it.

    Row y of an iteration needs rows y - 1 to y + 1 of the iteration before. So the result is the
    same as that of whole sweeps one after another, in place, but only iterations + 2 rows need to
    be in the cache.
    """
    padded = (width + _LANES - 1) // _LANES * _LANES
    for front in range(height + iterations):
        for y in range(min(front, height), max(front - iterations, -1), -1):
            if y < height:
                _primal_row(state, y, width, padded, theta, limit)
            else:  # the forward difference at the lower edge is zero
                _repeat_last_row(state, height, padded)
            if y > 0:
                _dual_row(state, y - 1, padded, sigma)


@_compiled
def _repeat_last_row(state, height, padded):  # type: ignore[no-untyped-def]
    """Copy the last row of u and v to the row below it."""
    start = (height + GUARD - 1) * ROW + _LEFT
    row = state[start : start + 2 * ROW]
    for x in range(padded):
        row[x + _U + ROW] = row[x + _U]
        row[x + _V + ROW] = row[x + _V]


@_compiled
def _sorted3(a, b, c):  # type: ignore[no-untyped-def]
    """Smallest, middle and largest."""
    low, high = min(a, b), max(a, b)
    middle = max(low, min(high, c))
    return min(low, c), middle, max(high, c)


@_compiled
def _median(state, source, target, height, width):  # type: ignore[no-untyped-def]
    """The 3 x 3 median of plane `source` into plane `target`, edges repeated. With each column
    sorted, it is the median of the largest minimum, the median middle and the smallest maximum."""
    _repeat_edges(state, source, 1, height, width)
    for y in range(height):
        start = (y + GUARD - 1) * ROW + _LEFT - 1
        row = state[start : start + 3 * ROW]
        for x in range(width):
            at = x + source
            low0, mid0, top0 = _sorted3(row[at], row[at + ROW], row[at + 2 * ROW])
            low1, mid1, top1 = _sorted3(row[at + 1], row[at + 1 + ROW], row[at + 1 + 2 * ROW])
            low2, mid2, top2 = _sorted3(row[at + 2], row[at + 2 + ROW], row[at + 2 + 2 * ROW])
            _, middle, _ = _sorted3(mid0, mid1, mid2)
            low, top = max(low0, low1, low2), min(top0, top1, top2)
            _, middle, _ = _sorted3(low, middle, top)
            row[x + 1 + ROW + target] = middle


@_compiled
def _copy_flow(state, height, width, out):  # type: ignore[no-untyped-def]
    """Copy planes U and V to out (2, H, W)."""
    for component in range(2):
        for y in range(height):
            start = (y + GUARD) * ROW + _LEFT + component * PITCH
            for x in range(width):
                out[component, y, x] = state[start + x]


@_compiled
def _smooth(state, height, width):  # type: ignore[no-untyped-def]
    """Median filter u and v, by way of GX and GY, which are not in use between warps."""
    _median(state, _U, _GX, height, width)
    _median(state, _V, _GY, height, width)
    for y in range(height):
        start = (y + GUARD) * ROW + _LEFT
        row = state[start : start + ROW]
        for x in range(width):
            row[x + _U] = row[x + _GX]
            row[x + _V] = row[x + _GY]


def flow(  # type: ignore[no-untyped-def]
    sizes, pyramid, pixels, coarse, offsets, state, warps, iterations, theta, limit, sigma, out
):
    """The whole algorithm in one compiled function.

    sizes: (scales, 2), heights and widths; pyramid: (scales, 2, H + 1, W + 1), of which the caller
    fills level 0; pixels: the same in one row; limit: lambda theta; sigma: tau / theta; out: (2, H,
    W).
    """
    scales, pitch = len(sizes), pyramid.shape[3]
    for picture in range(2):
        _repeat_last(pyramid[0, picture], sizes[0, 0], sizes[0, 1])
        for level in range(1, scales):
            fine = pyramid[level - 1, picture]
            _halve(fine, sizes[level - 1, 0], sizes[level - 1, 1], pyramid[level, picture])
    for level in range(scales - 1, -1, -1):
        height, width = sizes[level, 0], sizes[level, 1]
        base = np.int32((2 * level + 1) * pyramid.shape[2] * pitch)
        _clear(state, height, width)
        if level < scales - 1:
            _double(coarse, sizes[level + 1, 0], sizes[level + 1, 1], state, height, width)
        for _ in range(warps):
            _warp(pyramid[level, 0], pixels, base, pitch, offsets, state, height, width)
            _repeat_edges(state, _MEAN, 2, height, width)
            _linearise(state, height, width)
            _iterate(state, height, width, iterations, theta, limit, sigma)
            _smooth(state, height, width)
        if level > 0:
            _copy_flow(state, height, width, coarse)
    _copy_flow(state, sizes[0, 0], sizes[0, 1], out)
