"""What a network that was trained on published flow sees in a live run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from edge.errors import DataError, ExportError
from edge.motion.method import is_live
from edge.spec import Spec
from export.package import Networks

logger = logging.getLogger(__name__)


def with_live_motion(
    networks: Networks, files: Mapping[str, Path], live: tuple[str, Spec] | None
) -> Networks:
    """The networks, with a motion that a camera has in place of published flow.

    files: their checkpoints, by stream. live: name and spec of that motion; None: not given. Raises
    ExportError if it is needed and not given, because live flow is another one than in training,
    and DataError if it is given for nothing.
    """
    published = [
        stream
        for stream, (_, spec) in networks.items()
        if spec.input.motion is not None and not is_live(spec.input.motion)
    ]
    if live is None:
        for stream in published:
            raise ExportError(
                f"{files[stream]}: was trained on published flow, which no camera has; fine-tune "
                f"it on live flow (twostream train {stream} DATA --motion fast --set "
                f"network.weights={files[stream]}), or export it as it is with --live-motion fast"
            )
        return networks
    name, motion = live
    if not published:
        raise DataError(f"--live-motion {name}: no network was trained on published flow")
    changed = dict(networks)
    for stream in published:
        network, spec = networks[stream]
        inputs = spec.input.model_copy(update={"motion": motion})
        changed[stream] = network, spec.model_copy(update={"input": inputs})
        logger.warning(
            "%s: was trained on published flow and will see %s, another one; all figures are with "
            "that",
            stream,
            name,
        )
    return changed
