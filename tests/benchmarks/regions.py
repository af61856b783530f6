"""What sources that share a camera save: processor time for each frame of a camera, received,
decoded and cut, with one source, with three regions that share it, and with three that do not."""

from __future__ import annotations

import argparse
import time

from edge.sources.multiplexer import CameraMultiplexer
from edge.sources.reconnect import ReconnectPolicy
from tests.support.rtsp import RtspServer

REGIONS = (
    "region=0,0,0.5,1",
    "region=0.5,0,0.5,1",
    "region=0.25,0.25,0.5,0.5&mask=0.3,0.3,0.5,0.3,0.5,0.5",
)


def processor_ms(urls: list[str], seconds: float) -> float:
    """Milliseconds of processor time for each frame of a camera."""
    with CameraMultiplexer() as cameras:
        views = [
            cameras.add(str(number), url, ReconnectPolicy()) for number, url in enumerate(urls)
        ]
        while not all(view.began for view in views):
            cameras.next(0.2)
        before, began_s = views[0].received, time.process_time()
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            cameras.next(0.2)
        return 1e3 * (time.process_time() - began_s) / (views[0].received - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with RtspServer(rate=25, size_hw=(720, 1280)) as server:
        cases = {
            "one source": [server.url],
            "three regions, shared": [f"{server.url}?{region}" for region in REGIONS],
            # a word of the camera's own makes them different addresses
            "three regions, apart": [
                f"{server.url}?word={number}&{region}" for number, region in enumerate(REGIONS)
            ],
        }
        for _ in range(arguments.rounds):
            for name, urls in cases.items():
                print(f"{name}: {processor_ms(urls, arguments.seconds):.2f} ms", flush=True)


if __name__ == "__main__":
    main()
