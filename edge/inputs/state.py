"""What a network with state hands on from one step to the next: its tensors' names and shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

MAX_STATE_VALUES = 1 << 20  # of one source, in all tensors of a network's state

StateName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
StateShape = Annotated[
    tuple[Annotated[int, Field(ge=1, le=MAX_STATE_VALUES)], ...],
    Field(strict=False, min_length=1, max_length=8),
]


def check_state_size(state: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError if a state of these shapes would take too much memory."""
    if (count := sum(map(math.prod, state.values()))) > MAX_STATE_VALUES:
        raise ValueError(f"the state has {count} values, {MAX_STATE_VALUES} are allowed")
