"""Draws labels on their frames."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from edge.bundle.manifest import Bundle, Manifest
from edge.decision.decide import UNKNOWN
from edge.decision.fusion import top_scores
from edge.decision.label import Label
from edge.motion.quantise import FlowBytes, to_pixels
from edge.outputs.base import Output
from edge.outputs.overlay import OpenSet, OverlayView, Picture, bgr_picture, draw_overlay

SHOWN = 3  # classes of each stream
FLOW_PICTURE_PX = 112  # flow is subsampled to about this side length before drawing


class Annotator(Output):
    """Draws each label on its frame once for all outputs. Thread-safe."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._lock = threading.Lock()
        self._drawn: dict[str, tuple[Label, Picture]] = {}  # the last of each source

    def __call__(self, label: Label) -> Picture:
        """The annotated frame, (H, W, 3) BGR, which must not be changed."""
        with self._lock:
            last = self._drawn.get(label.source)
            if last is not None and last[0] is label:
                return last[1]
            picture = bgr_picture(label.frame)
            draw_overlay(picture, self._view(label))
            self._drawn[label.source] = (label, picture)
            return picture

    def on_bundle(self, bundle: Bundle) -> None:
        with self._lock:
            self._manifest = bundle.manifest

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        with self._lock:
            self._drawn.pop(source, None)

    def _view(self, label: Label) -> OverlayView:
        classes, decision = self._manifest.classes, label.decision
        is_known = decision is not None and decision.label != UNKNOWN
        return OverlayView(
            state=label.state,
            label=decision.label if decision is not None and is_known else None,
            score=decision.score if decision is not None else 0.0,
            open_set=None
            if decision is None or decision.threshold is None
            else OpenSet(
                classes[decision.best], float(decision.open_set[decision.best]), decision.threshold
            ),
            streams={
                name: top_scores(label.streams[name], classes, SHOWN)
                if name in label.streams
                else []
                for name in self._manifest.streams
            },
            flow=None if label.flow is None else self._subsample(label.flow),
            status=f"{label.frame.time_s:.1f} s   {label.latency_ms:.0f} ms",
            reason=label.reason,
        )

    def _subsample(self, flow: FlowBytes) -> np.ndarray:
        step = max(flow.shape[1] // FLOW_PICTURE_PX, 1)
        return to_pixels(flow[:, ::step, ::step], self._manifest.motions[0])  # type: ignore[arg-type]
