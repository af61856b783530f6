"""Flow that was published with a data set, for training and evaluation: no camera has it."""

from __future__ import annotations

from typing import Literal, NoReturn

from pydantic import Field

from edge.errors import DataError
from edge.spec import Spec


class PublishedSpec(Spec):
    """interval_s: flow is in px per this interval. bound_px: flow is clipped to +-bound_px and
    mapped to 0..255. Both are of the flow that a network sees, at its own size (see
    train/data/published_flow.py)."""

    method: Literal["published"]
    interval_s: float = Field(ge=1e-3, le=1)
    bound_px: float = Field(ge=0.1, le=1024)

    def work(self, height: int, width: int) -> int:
        """The number of pixel iterations for one flow of this size."""
        return height * width


# Interval and bound as of the presets of TV-L1, so that networks can start from each other.
PUBLISHED = PublishedSpec(method="published", interval_s=0.04, bound_px=20.0)


def refuse(spec: PublishedSpec, size_hw: tuple[int, int]) -> NoReturn:
    """Raises DataError: frames alone do not have such flow."""
    raise DataError(
        "published flow comes with a data set, and cannot be measured on frames; take another "
        "motion method"
    )
