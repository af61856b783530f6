"""Labels drawn on their frames."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from edge.bundle.manifest import Manifest
from edge.decision.fusion import UNKNOWN
from edge.decision.label import Label
from edge.motion.quantise import FlowBytes, to_pixels
from edge.outputs.base import Output
from edge.outputs.overlay import OverlayView, Picture, bgr_picture, draw_overlay
from edge.outputs.records import best

FLOW_PICTURE_PX = 112  # about the side of the flow picture; it is thinned to that before drawing


class Annotator(Output):
    """Draws a label on its frame, once for all who ask, from whichever thread."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._lock = threading.Lock()
        self._drawn: dict[str, tuple[Label, Picture]] = {}  # the last of each source

    def __call__(self, label: Label) -> Picture:
        """(H, W, 3) BGR, not to be drawn on."""
        with self._lock:
            known = self._drawn.get(label.source)
            if known is not None and known[0] is label:
                return known[1]
            picture = bgr_picture(label.frame)
            draw_overlay(picture, self._view(label))
            self._drawn[label.source] = (label, picture)
            return picture

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        with self._lock:
            self._drawn.pop(source, None)

    def _view(self, label: Label) -> OverlayView:
        classes, decision = self._manifest.classes, label.decision
        known = decision is not None and decision.label != UNKNOWN
        return OverlayView(
            state=label.state,
            label=decision.label if decision is not None and known else None,
            score=decision.score if decision is not None else 0.0,
            streams={
                name: best(label.streams.get(name), classes) for name in self._manifest.streams
            },
            flow=None if label.flow is None else self._thinned(label.flow),
            status=f"{label.frame.time_s:.1f} s   {label.latency_ms:.0f} ms",
        )

    def _thinned(self, flow: FlowBytes) -> np.ndarray:
        step = max(flow.shape[1] // FLOW_PICTURE_PX, 1)
        return to_pixels(flow[:, ::step, ::step], self._manifest.motions[0])  # type: ignore[arg-type]
