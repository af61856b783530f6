"""Leaves out the pictures of a JPEG camera of which a part was lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.errors import SourceError
from edge.video.gstreamer import load_gstreamer
from edge.video.jpeg import lacks_end

_JUDGED = 10  # if none of a camera's first pictures has an end, it never writes one


def drop_cut_pictures(pad: Any, on_drop: Callable[[], None]) -> None:
    """Drop what passes `pad` and lacks its end. on_drop is called in GStreamer's thread."""
    gst = load_gstreamer(SourceError).Gst
    seen, whole = 0, False

    def look(_: Any, info: Any) -> Any:
        nonlocal seen, whole
        buffer = info.get_buffer()
        cut = lacks_end(buffer.extract_dup(0, buffer.get_size()))
        seen, whole = seen + 1, whole or not cut
        if cut and (whole or seen <= _JUDGED):
            on_drop()
            return gst.PadProbeReturn.DROP
        return gst.PadProbeReturn.OK

    pad.add_probe(gst.PadProbeType.BUFFER, look)
