"""Calibration of scores: temperature, calibration error; and the accuracy gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.decision.fusion import apply_temperature, softmax
from export.confidence import (
    Bin,
    calibration_error,
    reliability,
)
from export.figures import draw_reliability
from export.gate import no_better_than_chance, too_much_lost
from train.evaluation.fusion_fit import fit_temperature


def random_scores(sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores (4000, 4) that are calibrated at sharpness 1, and true classes (4000,)."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (4000, 4)).astype(np.float32)
    calibrated = softmax(logits, 1.0)
    truth = (rng.random((4000, 1)) > calibrated.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return softmax(logits * np.float32(sharpness), 1.0), truth


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_restores_calibrated_scores(sharpness: float) -> None:
    scores, truth = random_scores(sharpness)
    temperature = fit_temperature(scores, truth)
    assert temperature == pytest.approx(sharpness, rel=0.1)
    after = calibration_error(reliability(apply_temperature(scores, temperature), truth))
    assert after < 0.02
    if sharpness != 1.0:
        assert calibration_error(reliability(scores, truth)) > 5 * after


def test_the_calibration_error_is_the_mean_distance_from_the_diagonal() -> None:
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], np.float32)
    bins = reliability(scores, np.array([0, 1, 0, 1]))
    assert [(round(b.confidence, 3), b.accuracy, b.count) for b in bins] == [
        (0.6, 1, 2),
        (0.9, 0.5, 2),
    ]
    assert calibration_error(bins) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4, abs=1e-6)


@pytest.mark.slow
def test_a_reliability_diagram_is_drawn_reproducibly(tmp_path: Path) -> None:
    bins = {name: [Bin(0.5, 0.4, 10), Bin(0.95, 1.0, 90)] for name in ("spatial", "fused")}
    draw_reliability(bins, tmp_path / "r.png")
    picture = cv2.imread(str(tmp_path / "r.png"))
    assert picture is not None
    assert picture.std() > 10
    first = (tmp_path / "r.png").read_bytes()
    draw_reliability(bins, tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes() == first


def accuracy(**changes: dict[str, float]) -> dict[str, Any]:
    row = {"top1_fp32": 0.9, "top1_int8": 0.9, "mean_score_difference": 0.005}
    rows = {stream: row | changes.get(stream, {}) for stream in ("spatial", "temporal", "fused")}
    return {"clips": 40, **rows}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"spatial": {"top1_int8": 1.0}}, None),  # a gain is no loss
        ({"spatial": {"top1_int8": 0.89}}, None),  # one point is allowed
        ({"fused": {"top1_int8": 0.875}}, None),  # and one clip, here of 40
        ({"fused": {"top1_int8": 0.85}}, "40 validation clips: fused top-1 falls from 0.9 to 0.85"),
        ({"temporal": {"mean_score_difference": 0.021}}, "temporal scores differ by 0.021"),
    ],
)
def test_the_gate_refuses_too_large_a_loss(changes: dict[str, Any], message: str | None) -> None:
    loss = too_much_lost(accuracy(**changes), ("spatial", "temporal"))
    assert (loss is None) if message is None else (loss is not None and message in loss)


@pytest.mark.parametrize(
    ("classes", "clips", "right", "refused"),
    [
        (3, 30, 10, True),  # a third of three classes
        # P(X >= 14) = 0.0898 and P(X >= 15) = 0.0435 of 30 clips at 1/3
        (3, 30, 14, True),
        (3, 30, 15, False),
        (8, 20, 19, False),
        (2, 5, 4, True),  # P(X >= 4) = 6/32
        (2, 5, 5, False),  # 1/32
        (2, 2, 1, True),
        (2, 2, 2, False),  # 1/4: so few prove nothing, but none is wrong
    ],
)
def test_the_gate_refuses_a_network_at_chance(
    classes: int, clips: int, right: int, refused: bool
) -> None:
    good, row = {"top1_fp32": 1.0}, {"top1_fp32": round(right / clips, 4)}
    report = {"clips": clips, "spatial": good, "temporal": row}
    said = no_better_than_chance(report, ("spatial", "temporal"), classes)
    assert (said is not None) == refused
    if said is not None:
        assert f"right of {clips} validation clips of {classes} classes" in said
        assert said.endswith(f"temporal {right}")
        assert "spatial" not in said
