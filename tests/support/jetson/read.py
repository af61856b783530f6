"""python -m tests.support.jetson.read FOLDER COUNT ADDRESS...: reads sources, a JSON line each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import SourceError
from edge.sources.gst_source import GStreamerSource
from edge.sources.uri import Address, parse_address
from edge.video.gstreamer import load_gstreamer

_USB = "usb"
_SETTLED = 12  # frames after which a decoder has all that it holds back


def main(folder: str, count: str, *addresses: str) -> None:
    assert load_gstreamer(SourceError).Gst.ElementFactory.find("nvv4l2decoder")
    for number, address in enumerate(addresses):
        print(json.dumps(_read(address, int(count), Path(folder), number)), flush=True)


def _read(text: str, count: int, folder: Path, number: int) -> dict[str, Any]:
    if text == _USB:
        _plug_in()
        address = Address("v4l2", "/dev/video0", "/dev/video0")
    else:
        address = parse_address(text)
    frames: list[dict[str, Any]] = []
    planes = fault = None
    held, earlier, source = 1000, _pictures(), GStreamerSource(address, 20.0)
    try:
        with source:
            for frame in source:
                planes = {"y": frame.y.copy(), "u": frame.u.copy(), "v": frame.v.copy()}
                told = {"matrix": frame.matrix, "full_range": frame.full_range}
                frames.append({"time_s": frame.time_s, "damaged": source.damaged, **told})
                if len(frames) > _SETTLED:
                    left = source.received + source.damaged  # before the log: all of them grow
                    held = min(held, _pictures() - earlier - left)
                if len(frames) == count:
                    break
    except SourceError as error:
        fault = str(error)
    name = f"{number}.npz" if planes else ""
    if planes:
        np.savez(folder / name, **planes)
    known = {"frames": frames, "fault": fault, "planes": name}
    return {**known, "held": held, "damaged": source.damaged, "log": _log()}


def _pictures() -> int:
    """How many compressed pictures the decoder was given."""
    return _log().count("picture")


def _log() -> list[str]:
    log = Path(os.environ["STAND_IN_LOG"])
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def _plug_in() -> None:
    """Let v4l2src be a camera that sends JPEG."""
    gst = load_gstreamer(SourceError).Gst
    camera = gst.ElementFactory.find("usbcamera").load().get_element_type()
    gst.Element.register(None, "v4l2src", gst.Rank.NONE, camera)


if __name__ == "__main__":
    main(*sys.argv[1:])
