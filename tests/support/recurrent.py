"""Bundles with a recurrent fusion, and the network that they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edge.bundle.manifest import Bundle
from export.recurrent import FILE, RecurrentFile, export_recurrent
from tests.support.bundles import CLASSES, write_bundle
from train.evaluation.recurrent import Origin, RecurrentFusion

INTERVAL_S = 0.12  # three frames at 25 a second


def network(inputs: int, classes: tuple[str, ...] = CLASSES, seed: int = 1) -> RecurrentFusion:
    """Not trained, but with weights so large that its scores differ from snippet to snippet."""
    torch.manual_seed(seed)
    made = RecurrentFusion("causal", inputs, classes).eval()
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.mul_(3)
        made.keep_logit.fill_(1.0)
    return made


def origin(streams: tuple[str, ...]) -> Origin:
    return Origin(1, streams, dict.fromkeys(streams, "0" * 64), INTERVAL_S)


def recurrent_bundle(folder: Path, inputs: dict[str, Any]) -> tuple[Bundle, RecurrentFusion]:
    """A bundle of these streams, see write_bundle. The window is of no length, so that what is
    shown is what the network gives."""
    made = network(len(inputs) * len(CLASSES))
    streams = tuple(reversed(inputs))  # the order is that of the manifest, not of its streams
    folder.parent.mkdir(exist_ok=True)
    candidate = export_recurrent(RecurrentFile(made, origin(streams)), folder.parent)
    spec = candidate.spec.model_copy(update={"temperature": 0.5})
    written = (folder.parent / FILE).read_bytes()
    return write_bundle(folder, inputs, spec, written, window_s=0.0), made
