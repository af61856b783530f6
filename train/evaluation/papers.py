"""The test protocols of papers, by name. Ours is that of a live run: one view, scores averaged.

All of them take 25 evenly spaced snippets, and of each ten crops of 224 x 224 px, corners, centre
and their mirror images, cut from frames of 340 x 256 px. Nothing is resized, so flow keeps its
length. For a network of another input size the frames are in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.video.frames import Geometry

SAMPLES, CROPS = 25, 10
_CROP_PX, _FRAME_HW = 224, (256, 340)


@dataclass(frozen=True, slots=True)
class Paper:
    """How a paper makes one score of many.

    before_softmax: snippets, crops and streams are averaged as logits, else as softmax scores.
    weights: of the streams in the fusion.
    """

    before_softmax: bool
    weights: Mapping[str, float]

    def fuse(self, means: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The weighted mean of the streams' means (clips, C), of logits or scores as the paper has
        them. Raises KeyError for a stream that has no weight."""
        total = sum(self.weights[name] for name in means)
        return np.sum([rows * (self.weights[name] / total) for name, rows in means.items()], axis=0)

    def __str__(self) -> str:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        return f"{'logits' if self.before_softmax else 'scores'} are averaged; fusion: {weights}"


PAPERS = {
    # Wang et al., "Towards good practices for very deep two-stream ConvNets", 2015
    "very-deep": Paper(before_softmax=False, weights={"spatial": 1.0, "temporal": 2.0}),
    # Wang et al., "Temporal segment networks", 2016
    "tsn": Paper(before_softmax=True, weights={"spatial": 1.0, "temporal": 1.5}),
}


def paper_view(geometry: Geometry) -> Geometry:
    """The frames that crops of a network's input size are cut from."""
    size_hw = tuple(
        2 * round(side * frame / _CROP_PX / 2)
        for side, frame in zip(geometry.size_hw, _FRAME_HW, strict=True)
    )
    return Geometry.model_validate(geometry.model_dump() | {"size_hw": size_hw})
