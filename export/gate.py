"""Checks that networks do not guess, that INT8 does not lose too much accuracy against FP32, and
that labels are as rare on other actions as was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import binom

from calibration.quantise import DIFFERENCE_MAX
from edge.bundle.manifest import DecisionSpec
from train.streams import FUSED

TOP1_LOSS_MAX = 0.01  # one percentage point
SCORE_DIFFERENCE_MAX = DIFFERENCE_MAX
CHANCE_MAX = 0.05  # probability that guessing gets as many clips right


def too_much_lost(validation: dict[str, Any], streams: Sequence[str]) -> str | None:
    """The accuracy that INT8 loses against FP32 on validation clips, as text; None if it is not too
    much. It is too much if the top-1 of a stream or of "fused" falls by more than TOP1_LOSS_MAX and
    by more than one clip, since one of few proves nothing, or the mean score difference is above
    SCORE_DIFFERENCE_MAX.

    validation: the result of `accuracy_report`.
    """
    reasons = []
    for stream in (*streams, FUSED):
        row = validation[stream]
        lost = round(row["top1_fp32"] - row["top1_int8"], 4)
        if lost > max(TOP1_LOSS_MAX, round(1 / validation["clips"], 4)):
            reasons.append(f"{stream} top-1 falls from {row['top1_fp32']} to {row['top1_int8']}")
        if row["mean_score_difference"] > SCORE_DIFFERENCE_MAX:
            reasons.append(
                f"{stream} scores differ by {row['mean_score_difference']:.3f} "
                f"(at most {SCORE_DIFFERENCE_MAX})"
            )
    if not reasons:
        return None
    return f"INT8 loses too much on {validation['clips']} validation clips: {', '.join(reasons)}"


def no_better_than_chance(
    validation: dict[str, Any], streams: Sequence[str], classes: int
) -> str | None:
    """The streams whose FP32 network may as well guess among the classes, as text; None if there
    are none. One-sided binomial test at CHANCE_MAX; of so few clips that even all of them prove
    nothing, all must be right.

    validation: the result of `accuracy_report`.
    """
    clips = validation["clips"]
    needed = min(int(binom.isf(CHANCE_MAX, clips, 1 / classes)) + 1, clips)
    rights = {stream: round(validation[stream]["top1_fp32"] * clips) for stream in streams}
    reasons = [f"{stream} {right}" for stream, right in rights.items() if right < needed]
    if not reasons:
        return None
    return (
        f"networks are no better than chance: right of {clips} validation clips of {classes} "
        f"classes (at least {needed}): {', '.join(reasons)}"
    )


def missed_rates(decision: DecisionSpec) -> str | None:
    """The rates of labels on other actions that cannot be the asked one, as text; None if there are
    none, or none was asked for: its whole 95 % interval is above it."""
    asked = decision.false_alarm_rate
    if asked is None:
        return None
    parts = {"validation": decision.validation, "test": decision.test}
    reasons = [
        f"{reached.other.share:.1%} ({reached.other.low:.1%} to {reached.other.high:.1%}) on "
        f"{reached.other.clips} {part} clips"
        for part, reached in parts.items()
        if reached is not None and reached.other.low > asked
    ]
    if not reasons:
        return None
    return (
        f"more than {asked:.1%} of the moments of other actions show a label: {'; '.join(reasons)}"
    )
