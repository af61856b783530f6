"""Which clips are held out, and which footage is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DataError
from edge.text import NO_CLASS
from train.data.clips import Clip
from train.data.splits import footage_to_train


@given(st.lists(st.tuples(st.text(min_size=1, max_size=4), st.integers(0, 9)), unique=True))
def test_half_of_the_groups_of_footage_are_trained_on(names: list[tuple[str, int]]) -> None:
    clips = [Clip(f"{group}/{n}", Path(f"{n}.mp4"), NO_CLASS, group) for group, n in names]
    groups = {clip.group for clip in clips}
    if len(groups) < 2:
        with pytest.raises(DataError, match="give two videos or more"):
            footage_to_train(clips)
        return
    chosen = footage_to_train(clips)
    trained = {clip.group for clip in chosen}
    assert len(trained) == len(groups) // 2
    assert chosen == [clip for clip in clips if clip.group in trained]
    assert footage_to_train(clips[::-1]) == chosen[::-1]
