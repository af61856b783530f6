"""Whether takes are enough, and the estimate from those that were left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import DataError
from export.takes import Estimate, check_takes, estimate, streams_that_tell
from train.data.clips import Clip, Split

CLASSES = ("Jump", "Wave")


def clips(label: str, count: int) -> list[Clip]:
    return [Clip(f"{label}/{n}.mp4", Path(f"{n}.mp4"), label, f"{n}.mp4") for n in range(count)]


def split(**counts: int) -> Split:
    every = [clip for label, count in counts.items() for clip in clips(label, count)]
    return Split(1, tuple(every[::2]), tuple(every[1::2]), ())


def test_too_few_takes_are_named_with_the_command_that_records_more() -> None:
    with pytest.raises(DataError) as refused:
        check_takes(Path("c"), split(Wave=5, Jump=3, background=9), CLASSES)
    assert "Jump has 3 takes; 5 are needed" in str(refused.value)
    assert "twostream actions record c 'Jump' --source CAMERA --takes 2" in str(refused.value)


@pytest.mark.parametrize("count", [0, 4])
def test_too_little_background_is_named_with_the_command_that_records_it(count: int) -> None:
    with pytest.raises(DataError) as refused:
        check_takes(Path("c"), split(Wave=5, Jump=5, background=count), CLASSES)
    assert f"{count} takes of what is none" in str(refused.value)
    assert f"record c background --source CAMERA --takes {5 - count}" in str(refused.value)


def test_enough_takes_pass() -> None:
    check_takes(Path("c"), split(Wave=5, Jump=5, background=5), CLASSES)


def test_the_interval_is_wilsons() -> None:
    """Against R's prop.test(29, 30, correct=FALSE) and prop.test(30, 30, correct=FALSE)."""
    assert Estimate(29, 30, {}).interval == pytest.approx((0.8333, 0.9941), abs=1e-4)
    assert Estimate(30, 30, {}).interval == pytest.approx((0.8865, 1.0), abs=1e-4)


def test_streams_are_judged_alone_and_by_the_mean_of_their_scores() -> None:
    own = [*clips("Jump", 1), *clips("Wave", 1), *clips("background", 1)]

    def logits(jump: list[float], wave: list[float]) -> dict[str, np.ndarray]:
        rows = {"Jump/0.mp4": jump, "Wave/0.mp4": wave, "background/0.mp4": [9.0, 0.0]}
        return {name: np.array([row, row], np.float32) for name, row in rows.items()}

    by_stream = {
        "spatial": logits([0.1, 0.0], [0.1, 0.0]),
        "temporal": logits([2.0, 0.0], [0.0, 2.0]),
    }
    found = estimate(by_stream, own, CLASSES)
    assert {name: each.right for name, each in found.items()} == {
        "spatial": 1,
        "temporal": 2,
        "fused": 2,
    }
    assert found["spatial"].takes == 2
    assert found["spatial"].by_class == {"Jump": "1 of 1", "Wave": "0 of 1"}


def judged(**right: int) -> dict[str, Estimate]:
    return {name: Estimate(count, 20, {"Jump": "5 of 10"}) for name, count in right.items()}


def test_guessing_is_refused() -> None:
    with pytest.raises(DataError, match=r"guessing \(50%\): 12 of 20 takes.*; Jump 5 of 10"):
        streams_that_tell(judged(spatial=11, temporal=12, fused=12), CLASSES)


def test_a_stream_that_guesses_is_left_out_unless_both_are_needed() -> None:
    assert streams_that_tell(judged(spatial=9, temporal=19, fused=17), CLASSES) == ["temporal"]
    both = judged(spatial=17, temporal=19, fused=20)
    assert streams_that_tell(both, CLASSES) == ["spatial", "temporal"]
    together = judged(spatial=12, temporal=12, fused=17)
    assert streams_that_tell(together, CLASSES) == ["spatial", "temporal"]
