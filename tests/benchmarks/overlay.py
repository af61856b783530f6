"""What it takes to draw the overlay on a picture of 320x240.

    python -m tests.benchmarks.overlay

The least of many times, which is what the drawing itself costs. It is drawn for each label of a run
with `--video`, `--rtsp` or a watched page: more than LIMIT_MS is a fault and ends this with
code 1.
"""

from __future__ import annotations

import time

import numpy as np

from edge.outputs.overlay import OpenSet, OverlayView, draw_overlay

LIMIT_MS = 2.0


def main() -> None:
    picture = np.zeros((240, 320, 3), np.uint8)
    flow = np.ones((2, 112, 112), np.float32)
    streams = {
        "spatial": [("Archery", 0.93), ("TaiChi", 0.04), ("Shotput", 0.01)],
        "temporal": [("TaiChi", 0.41), ("Archery", 0.39), ("Shotput", 0.1)],
    }
    shown = OpenSet("Archery", 1.24, 1.0)
    view = OverlayView("running", "Archery", 0.87, streams, shown, flow, "25.0 fps  62 ms")
    times_ms = []
    for _ in range(200):
        began_s = time.perf_counter()
        draw_overlay(picture, view)
        times_ms.append(1e3 * (time.perf_counter() - began_s))
    print(f"overlay on 320x240: {min(times_ms):.2f} ms at least, median {np.median(times_ms):.2f}")
    if min(times_ms) > LIMIT_MS:
        raise SystemExit(f"it takes longer than {LIMIT_MS:g} ms")


if __name__ == "__main__":
    main()
