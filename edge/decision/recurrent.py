"""Recurrent fusion, live: a small network that carries a source's state from snippet to snippet.

Its state moves on at the interval of the snippets that it was trained on, see
edge/devices/stepped_state.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest, RecurrentLogits
from edge.decision.fusion import StreamScores, softmax, stream_scores
from edge.devices.fusion_network import side_by_side
from edge.devices.inference import StatefulNetwork
from edge.devices.stepped_state import SteppedState


class RecurrentFuser:
    """See edge.decision.fuser.Fuser."""

    def __init__(self, manifest: Manifest, spec: RecurrentLogits, network: StatefulNetwork) -> None:
        self._manifest, self._spec, self._network = manifest, spec, network
        self._state = SteppedState(network.first_state, spec.interval_s)

    def push(self, time_s: float, logits: Mapping[str, NDArray[np.float32]]) -> StreamScores:
        inputs, streams = side_by_side(self._spec, logits), stream_scores(logits, self._manifest)
        if not np.isfinite(inputs).all():  # the network's kernels would make numbers of them
            classes = len(self._manifest.classes)
            return StreamScores(streams, np.full(classes, np.nan, np.float32))
        fused, after = self._network.step(inputs, self._state.at(time_s))
        if self._state.is_due(time_s):
            self._state.move(time_s, after)
        return StreamScores(streams, softmax(fused, self._spec.temperature))

    def clear(self) -> None:
        self._state.clear()
