"""Recurrent fusion, live: a small network that carries a source's state from snippet to snippet.

It was trained on snippets `interval_s` apart, while frames come more often. So each frame gets its
scores from the state of the snippets before it, and the state moves on only with a frame that is
`interval_s` after the last that moved it: memory has the length that it had in training, at any
rate of frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest, RecurrentLogits
from edge.decision.fusion import StreamScores, softmax, stream_scores
from edge.devices.fusion_network import side_by_side
from edge.devices.inference import StatefulNetwork

_ROUNDING_S = 1e-3  # times of frames are not exact


class RecurrentFuser:
    """See edge.decision.fuser.Fuser."""

    def __init__(self, manifest: Manifest, spec: RecurrentLogits, network: StatefulNetwork) -> None:
        self._manifest, self._spec, self._network = manifest, spec, network
        self._state = network.first_state()
        self._moved_s: float | None = None  # stream time of the last snippet

    def push(self, time_s: float, logits: Mapping[str, NDArray[np.float32]]) -> StreamScores:
        inputs, streams = side_by_side(self._spec, logits), stream_scores(logits, self._manifest)
        if not np.isfinite(inputs).all():  # the network's kernels would make numbers of them
            classes = len(self._manifest.classes)
            return StreamScores(streams, np.full(classes, np.nan, np.float32))
        fused, state = self._network.step(inputs, self._state)
        due_s = -np.inf if self._moved_s is None else self._moved_s + self._spec.interval_s
        if time_s >= due_s - _ROUNDING_S:
            self._state, self._moved_s = state, time_s
        return StreamScores(streams, softmax(fused, self._spec.temperature))

    def clear(self) -> None:
        self._state, self._moved_s = self._network.first_state(), None
