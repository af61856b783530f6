"""From the logits of all streams to fused scores, frame by frame, with what a source's fusion
remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest, RecurrentLogits
from edge.decision.fusion import MeanFuser, StreamScores
from edge.decision.recurrent import RecurrentFuser
from edge.devices.inference import StatefulNetwork


class Fuser(Protocol):
    """The fusion of one source."""

    def push(self, time_s: float, logits: Mapping[str, NDArray[np.float32]]) -> StreamScores:
        """The scores of the frame at stream time `time_s`, which must rise. logits: (C,) by
        stream."""

    def clear(self) -> None:
        """Forget earlier frames, after a gap."""


def open_fuser(manifest: Manifest, network: StatefulNetwork | None) -> Fuser:
    """The fusion of a source. network: of the bundle, for any number of sources (see
    edge/devices/fusion_network.py)."""
    if not isinstance(manifest.fusion, RecurrentLogits):
        return MeanFuser(manifest, manifest.fusion)
    if network is None:
        raise ValueError(f"{manifest.name} has a recurrent fusion, but its network is not open")
    return RecurrentFuser(manifest, manifest.fusion, network)
