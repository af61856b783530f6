"""TV-L1: accuracy against ground truth, signs and axes, and independence of earlier calls."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1, _flow
from tests.support.flows import (
    FLOW_ROOT,
    PAIRS,
    endpoint_error,
    read_flo,
    read_luma,
    texture,
)

SIZE = (97, 131)


def translated_pair(u: float, v: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two windows of one large texture; the second shows it moved by (u, v) px."""
    margin = 24
    height, width = SIZE
    large = texture((height + 2 * margin, width + 2 * margin))
    moved = cv2.warpAffine(
        large, np.float32([[1, 0, u], [0, 1, v]]), large.shape[::-1], flags=cv2.INTER_CUBIC
    )
    inside = (slice(margin, -margin), slice(margin, -margin))
    first, second = (np.clip(np.rint(p[inside]), 0, 255).astype(np.uint8) for p in (large, moved))
    return first, second


@pytest.fixture(scope="module")
def fast() -> TVL1:
    return TVL1(PRESETS["fast"], SIZE)


@pytest.mark.parametrize(
    ("pair", "preset", "bound_px"),
    [
        ("rubberwhale", "fast", 0.16),
        ("rubberwhale", "accurate", 0.14),
        ("flyingchairs", "fast", 1.4),
        ("flyingchairs", "accurate", 1.4),
    ],
)
def test_ground_truth(pair: str, preset: str, bound_px: float) -> None:
    paths = [FLOW_ROOT / name for name in PAIRS[pair]]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"no ground truth in {FLOW_ROOT}; set FLOW_ROOT")
    first, second, truth = read_luma(paths[0]), read_luma(paths[1]), read_flo(paths[2])
    flow = TVL1(PRESETS[preset], first.shape)(first, second)
    assert endpoint_error(flow, truth) <= bound_px


@pytest.mark.parametrize(
    ("u", "v"), [(0.3, 0.0), (0.0, -0.4), (1.0, 0.5), (-2.5, 1.25), (6.0, -4.0), (-9.0, 0.0)]
)
def test_translation_is_found_with_its_sign_and_axis(fast: TVL1, u: float, v: float) -> None:
    flow = fast(*translated_pair(u, v))
    inner = flow[:, 12:-12, 12:-12]
    assert np.abs(inner[0] - u).mean() < 0.05
    assert np.abs(inner[1] - v).mean() < 0.05


def test_square_moving_right_has_no_vertical_flow(fast: TVL1) -> None:
    height, width = SIZE
    square = texture((40, 40), seed=1).astype(np.uint8)
    first, second = (np.full(SIZE, 60, np.uint8) for _ in range(2))
    top, left = (height - 40) // 2, (width - 40) // 2
    first[top : top + 40, left : left + 40] = square
    second[top : top + 40, left + 3 : left + 43] = square
    flow = fast(first, second)
    inside = flow[:, top + 4 : top + 36, left + 4 : left + 36]
    assert abs(inside[0].mean() - 3) < 0.1
    assert np.abs(flow[1]).mean() < 0.05


def test_no_motion_is_no_flow(fast: TVL1) -> None:
    picture = translated_pair(0, 0)[0]
    assert np.abs(fast(picture, picture)).max() < 1e-4


def test_constant_pictures_are_no_flow(fast: TVL1) -> None:
    grey, white = np.full(SIZE, 90, np.uint8), np.full(SIZE, 235, np.uint8)
    assert not fast(grey, grey).any()
    assert not fast(grey, white).any()


def test_mirrored_pair_has_mirrored_flow(fast: TVL1) -> None:
    # The derivatives of the total variation look right and down, so this holds only nearly.
    first, second = translated_pair(1.7, -0.6)
    flow, mirrored = fast(first, second), fast(first[:, ::-1], second[:, ::-1])[:, :, ::-1]
    assert np.abs(mirrored[0] + flow[0]).mean() < 0.02
    assert np.abs(mirrored[1] - flow[1]).mean() < 0.02


def test_transposed_pair_has_exchanged_flow() -> None:
    # The algorithm treats the axes alike; only the rounding of sums differs.
    first, second = translated_pair(1.7, -0.6)
    flow = TVL1(PRESETS["fast"], SIZE)(first, second)
    turned = TVL1(PRESETS["fast"], SIZE[::-1])(first.T, second.T)
    assert np.abs(turned[::-1].transpose(0, 2, 1) - flow).max() < 0.01


def reference_iterations(
    coefficients: tuple[NDArray[np.float64], ...], iterations: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whole-plane Jacobi sweeps in NumPy, double precision, from zero flow."""
    spec = PRESETS["fast"]
    rho, gx, gy = coefficients
    flow, duals = np.zeros((2, *rho.shape)), np.zeros((2, 2, *rho.shape))
    for _ in range(iterations):
        step = -(rho + gx * flow[0] + gy * flow[1]) / (gx**2 + gy**2 + 1e-9)
        step = np.clip(step, -spec.lambda_ * spec.theta, spec.lambda_ * spec.theta)
        divergence = np.diff(duals[:, 0], axis=-1, prepend=0) + np.diff(
            duals[:, 1], axis=-2, prepend=0
        )
        flow = flow + step * np.stack([gx, gy]) + spec.theta * divergence
        gradient_x = np.diff(flow, axis=-1, append=flow[:, :, -1:])
        gradient_y = np.diff(flow, axis=-2, append=flow[:, -1:])
        duals = duals + spec.tau / spec.theta * np.stack([gradient_x, gradient_y], axis=1)
        duals /= np.maximum(1, np.sqrt((duals**2).sum((0, 1))))
    return flow[0], flow[1]


@pytest.mark.parametrize("iterations", [1, 2, 7, 60])
def test_wavefront_equals_whole_jacobi_sweeps(iterations: int) -> None:
    """One level, one warp: the order of rows, chosen for the cache, must not change the values."""
    first, second = (p[:37, :45] for p in translated_pair(0.4, 0.2))
    spec = PRESETS["fast"].model_copy(update={"scales": 1, "warps": 1, "iterations": iterations})
    mean = (first.astype(np.float64) + second) / 2
    padded = np.pad(mean, 2, mode="edge")
    gx = (8 * (padded[2:-2, 3:-1] - padded[2:-2, 1:-3]) - padded[2:-2, 4:] + padded[2:-2, :-4]) / 12
    gy = (8 * (padded[3:-1, 2:-2] - padded[1:-3, 2:-2]) - padded[4:, 2:-2] + padded[:-4, 2:-2]) / 12
    rho = second.astype(np.float64) - first
    expected = [
        cv2.medianBlur(plane.astype(np.float32), 3)
        for plane in reference_iterations((rho, gx, gy), iterations)
    ]
    np.testing.assert_allclose(TVL1(spec, (37, 45))(first, second), expected, atol=2e-4)


@settings(max_examples=40)
@given(
    height=st.integers(32, 75),
    width=st.integers(32, 75),
    seed=st.integers(0, 2**16),
    scales=st.integers(1, 6),
)
def test_any_size_is_finite_and_repeatable(height: int, width: int, seed: int, scales: int) -> None:
    spec = PRESETS["fast"].model_copy(update={"scales": scales})
    generator = np.random.default_rng(seed)
    first, second, other = generator.integers(0, 256, (3, height, width), np.uint8)
    tvl1 = TVL1(spec, (height, width))
    flow = tvl1(first, second)
    kept = flow.copy()
    assert flow.shape == (2, height, width)
    assert flow.dtype == np.float32
    assert np.isfinite(flow).all()
    tvl1(second, other)
    np.testing.assert_array_equal(flow, kept)  # a fresh array, not the workspace
    np.testing.assert_array_equal(tvl1(first, second), kept)  # earlier calls leave no trace
    np.testing.assert_array_equal(TVL1(spec, (height, width))(first, second), kept)


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (5, 1), (16, 1024)])
def test_extreme_sizes(size_hw: tuple[int, int]) -> None:
    first, second = np.random.default_rng(0).integers(0, 256, (2, *size_hw), np.uint8)
    flow = TVL1(PRESETS["accurate"], size_hw)(first, second)
    assert flow.shape == (2, *size_hw)
    assert np.isfinite(flow).all()


def test_read_only_views_are_accepted(fast: TVL1) -> None:
    first, second = translated_pair(1, 0)
    wide = np.zeros((SIZE[0], SIZE[1] + 30), np.uint8)
    wide[:, 10 : 10 + SIZE[1]] = first
    view = wide[:, 10 : 10 + SIZE[1]]
    view.flags.writeable = False  # as decoders give them
    expected = fast(first, second)
    np.testing.assert_array_equal(fast(view, second), expected)


@pytest.mark.parametrize(
    "plane",
    [
        np.zeros((SIZE[1], SIZE[0]), np.uint8),
        np.zeros((*SIZE, 1), np.uint8),
        np.zeros(SIZE, np.float32),
    ],
)
def test_wrong_plane_is_refused(fast: TVL1, plane: NDArray[np.generic]) -> None:
    good = np.zeros(SIZE, np.uint8)
    with pytest.raises(ValueError, match=r"previous: expected \(97, 131\) uint8, got"):
        fast(plane, good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"following: expected \(97, 131\) uint8, got"):
        fast(good, plane)  # type: ignore[arg-type]


@pytest.mark.parametrize("size_hw", [(0, 40), (40, 1025)])
def test_impossible_size_is_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sides from 1 to 1024"):
        TVL1(PRESETS["fast"], size_hw)


def test_warm_up_leaves_no_trace() -> None:
    first, second = translated_pair(1, 0)
    cold, warm = (TVL1(PRESETS["fast"], SIZE) for _ in range(2))
    warm.warm_up()
    np.testing.assert_array_equal(cold(first, second), warm(first, second))


@pytest.mark.slow
def test_no_instruction_of_the_flow_depends_on_the_maker_of_the_processor() -> None:
    """Approximate reciprocals and square roots have other bits on another processor."""
    assembly = _flow.compiled_by_numba()._library.get_asm_str()
    assert "sqrt" in assembly
    assert re.findall(r"\b(?:v?rsqrt|v?rcp|frsqrt|frecp)[a-z0-9]*\b", assembly) == []
