"""Writes compressed pictures as an .mp4 that browsers and phones play, without encoding again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.errors import OutputError
from edge.video.gstreamer import Pipeline, load_gstreamer
from edge.video.packets import Packet

_END_S = 60.0  # for writing a clip, on a slow card
_SINGLE_NS = 40_000_000  # that a clip of one picture is shown
_PARSERS = {"video/x-h264": "h264parse", "video/x-h265": "h265parse"}


def write_clip(path: Path, packets: Sequence[Packet]) -> float:
    """Write packets of one stream, of which the first is a key frame. Returns the clip's length in
    seconds. The index is at the beginning of the file, so that it plays while it is loaded.

    Raises OutputError if the file cannot be written.
    """
    gst = load_gstreamer(OutputError).Gst
    parser = _PARSERS[packets[0].caps.partition(",")[0]]
    pipeline = Pipeline(
        f"appsrc name=packets format=time ! {parser} ! mp4mux name=mux faststart=true "
        "! filesink name=file sync=false",
        OutputError,
    )
    try:
        source = pipeline.element("packets")
        source.set_property("caps", gst.Caps.from_string(packets[0].caps))
        source.set_property("max-bytes", 0)  # all are in memory already
        pipeline.element("mux").set_property("faststart-file", f"{path}.index")
        pipeline.element("file").set_property("location", str(path))
        pipeline.play()
        times = decoding_times([packet.pts_ns for packet in packets])
        shown_ns = _frame_ns([shown for shown, _ in times])
        for packet, (shown, decoded) in zip(packets, times, strict=True):
            buffer = gst.Buffer.new_wrapped(packet.data)
            buffer.pts, buffer.dts, buffer.duration = shown, decoded, shown_ns
            if not packet.key:
                buffer.set_flags(gst.BufferFlags.DELTA_UNIT)
            source.push_buffer(buffer)
        source.end_of_stream()
        pipeline.await_end(_END_S)
    finally:
        pipeline.stop()
    if pipeline.fault is not None:
        raise OutputError(f"{path}: {pipeline.fault}")
    if not pipeline.ended:
        raise OutputError(f"{path}: was not written within {_END_S:g} s")
    shown_at = [shown for shown, _ in times]
    return (max(shown_at) - min(shown_at) + shown_ns) / 1e9


def decoding_times(pts_ns: Sequence[int]) -> list[tuple[int, int]]:
    """(shown, decoded) of each packet in ns, from 0, given when they are shown in the order of
    decoding. Cameras state no decoding times: they are the sorted times of showing, early enough
    for every picture."""
    decoded = sorted(pts_ns)
    delay = max(early - shown for early, shown in zip(decoded, pts_ns, strict=True))
    begin = decoded[0]
    return [
        (shown - begin + delay, early - begin) for shown, early in zip(pts_ns, decoded, strict=True)
    ]


def _frame_ns(shown_ns: Sequence[int]) -> int:
    """The mean time that a picture is shown."""
    if len(shown_ns) < 2:
        return _SINGLE_NS
    return (max(shown_ns) - min(shown_ns)) // (len(shown_ns) - 1)
