"""How soon a label follows what the camera saw, with one camera, with several, with a slow model.

    python -m tests.benchmarks.live --bundle edge/bundles/ucf101-mini

`latency`: an RTSP camera on the loopback draws the time into each picture as black and white
blocks; what is read from the labelled frame tells how old it is, encoder and network included.
`cameras`: several such cameras at once, and the memory of each. `slow_model`: networks that take
200 ms, on a camera of 25 frames a second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

from edge.bundle.manifest import load_bundle
from edge.commands.self_check.choice import choose_way
from edge.decision.label import RUNNING, Label
from edge.decision.recognizer import Recognizer, RunConfig, label_frame
from edge.devices import Device, open_device
from edge.sources.multiplexer import CameraMultiplexer
from edge.sources.reconnect import ReconnectPolicy
from edge.video.frames import Plane
from tests.benchmarks.result import write_result

BITS, BLOCK = 40, 8  # of the time in 0.1 ms, and the side of what stands for one, px
SIZE_HW = (240, 320)
TOGETHER = ((4, 25), (8, 10), (16, 10))  # cameras, frames a second of each

_SERVER = """
import sys, threading, time
import gi, numpy as np
gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # GstApp: appsrc gets its methods
from tests.benchmarks.live import SIZE_HW, stamp
Gst.init(None)
rate = int(sys.argv[1])
height, width = SIZE_HW
server = GstRtspServer.RTSPServer()
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( appsrc name=pictures is-live=true format=time do-timestamp=true "
    f"caps=video/x-raw,format=I420,width={width},height={height},framerate={rate}/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 )"
)
factory.set_shared(True)

def feed(_factory, media):
    entry = media.get_element().get_by_name("pictures")
    def push():
        y, x = np.mgrid[:height, :width]
        due, index = time.monotonic(), 0
        while True:
            luma = (126 + 60 * np.sin((x - 2 * index) / 9) * np.sin(y / 11)).astype(np.uint8)
            stamp(luma, time.monotonic())
            picture = np.full(height * width * 3 // 2, 128, np.uint8)
            picture[: height * width] = luma.ravel()
            if entry.push_buffer(Gst.Buffer.new_wrapped(picture.tobytes())) != Gst.FlowReturn.OK:
                return
            index += 1
            due += 1 / rate
            time.sleep(max(due - time.monotonic(), 0))
    threading.Thread(target=push, daemon=True).start()

factory.connect("media-configure", feed)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


def stamp(luma: Plane, now_s: float) -> None:
    """Draw a monotonic time into the upper rows, (H, W) uint8."""
    value = int(now_s * 1e4)
    for bit in range(BITS):
        row, column = bit // 20 * BLOCK, bit % 20 * BLOCK
        luma[row : row + BLOCK, column : column + BLOCK] = 235 if value >> bit & 1 else 16


def read_stamp(luma: Plane) -> float:
    """The monotonic time that was drawn into a picture."""
    value = 0
    for bit in range(BITS):
        row, column = bit // 20 * BLOCK, bit % 20 * BLOCK
        block = luma[row + 2 : row + BLOCK - 2, column + 2 : column + BLOCK - 2]
        value |= int(block.mean() > 128) << bit
    return value / 1e4


class StampingCamera:
    """An RTSP camera in a process of its own that draws the time."""

    def __init__(self, rate: int) -> None:
        self._rate = rate

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(self._rate)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        return f"rtsp://127.0.0.1:{int(self._process.stdout.readline())}/cam"

    def __exit__(self, *fault: object) -> None:
        self._process.kill()
        self._process.wait()


def watch(
    device: Device, bundle: Path, urls: list[str], seconds: float, model_s: float = 0.0
) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """(age of the picture, age of the frame as the runtime counts it) in s at each label, by
    camera; and the memory of this process, MB, at the end. model_s: what the networks take longer
    than they do."""
    manifest = load_bundle(bundle).manifest
    ages: dict[str, list[tuple[float, float]]] = {}

    def show(label: Label) -> None:
        if label.state == RUNNING:
            time.sleep(model_s)
            seen_s = time.monotonic() - read_stamp(label.frame.y)
            ages[label.source].append((seen_s, time.monotonic() - label.frame.arrived_s))

    with CameraMultiplexer() as cameras:
        recognisers = {}
        for number, url in enumerate(urls):
            name = f"camera{number + 1}"
            ages[name] = []
            recognisers[name] = Recognizer(manifest, device.open_context(), RunConfig(), name)
            cameras.add(name, url, ReconnectPolicy())
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            arrival = cameras.next(0.2)
            if arrival is not None:
                label_frame(arrival[1], recognisers[arrival[0]], show)
        memory_mb = psutil.Process().memory_info().rss / 1e6
    return ages, memory_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slow-seconds", type=float, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = open_device("cpu", load_bundle(arguments.bundle), choose=choose_way)
    found: dict[str, object] = {}

    def quantiles(ages: list[float]) -> dict[str, float]:
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {name: round(1e3 * float(np.quantile(ages, q)), 1) for name, q in shares.items()}

    with StampingCamera(25) as url:
        (ages,) = watch(device, arguments.bundle, [url], arguments.seconds)[0].values()
        found["latency_ms"] = quantiles([seen for seen, _ in ages])
        print(f"one camera, {len(ages)} labels: picture to label, ms: {found['latency_ms']}")
    rows = []
    for count, rate in TOGETHER:
        before_mb = psutil.Process().memory_info().rss / 1e6
        with ExitStack() as stack:
            urls = [stack.enter_context(StampingCamera(rate)) for _ in range(count)]
            by_camera, memory_mb = watch(device, arguments.bundle, urls, arguments.seconds)
        labels = sorted(len(ages) for ages in by_camera.values())
        rows.append(
            {
                "cameras": count,
                "frames_per_second_each": rate,
                "labels": labels,
                "labelled": round(sum(labels) / (count * rate * arguments.seconds), 3),
                "most_over_least": round(labels[-1] / max(labels[0], 1), 3),
                "latency_ms": quantiles([seen for ages in by_camera.values() for seen, _ in ages]),
                "memory_mb_each": round((memory_mb - before_mb) / count, 1),
            }
        )
        print(rows[-1])
    found["cameras"] = rows
    with StampingCamera(25) as url:
        model_s = 0.2
        by_camera, _ = watch(device, arguments.bundle, [url], arguments.slow_seconds, model_s)
        (ages,) = by_camera.values()
        frame_ages = [age - model_s for _, age in ages]
        found["slow_model"] = {
            "labels": len(ages),
            "frame_age_less_model_ms": quantiles(frame_ages),
            "bound_ms": 3 * 40,
        }
        print(f"a model of 200 ms for {arguments.slow_seconds:g} s: {found['slow_model']}")
    if arguments.json:
        write_result(arguments.json, found)


if __name__ == "__main__":
    main()
