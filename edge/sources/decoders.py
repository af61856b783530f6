"""How a Jetson's video decoder is set up, and what it leaves out without a word."""

from __future__ import annotations

from typing import Any

from edge.errors import SourceError
from edge.video.gstreamer import Pipeline, load_gstreamer

_HARDWARE = "nvv4l2decoder"
_AUTOPLUG_TRY, _AUTOPLUG_SKIP = 0, 2  # decodebin's GstAutoplugSelectResult, which gi does not know


class DecoderSetup:
    """Sets up the decoders of one pipeline.

    live: the stream is surely live, so that its pictures must not wait in the decoder.
    damaged: compressed pictures that were kept from a decoder, since what they are based on is
    lost.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self.damaged = 0

    def attach(self, pipeline: Pipeline) -> None:
        """Before it plays. Decoders that a user has written keep their settings."""
        for element in pipeline.elements():
            self._watch(element)
        pipeline.on_added(self._on_added)

    def guard(self, pad: Any) -> None:
        """Keep from a pad the compressed pictures that are based on lost ones, and count them."""
        gst = load_gstreamer(SourceError).Gst
        pad.add_probe(gst.PadProbeType.BUFFER, _KeyFrameGuard(self, gst).on_buffer)

    def _on_added(self, element: Any) -> None:
        if _factory_name(element) == _HARDWARE:
            # By default it holds back the six to ten pictures that a stream might reorder.
            for key, value in {"enable-max-performance": True, "disable-dpb": self._live}.items():
                if element.find_property(key):  # they differ between releases
                    element.set_property(key, value)
        self._watch(element)

    def _watch(self, element: Any) -> None:
        name = _factory_name(element)
        if name == "decodebin":
            element.connect("autoplug-select", _select)
        elif name == _HARDWARE:
            self.guard(element.get_static_pad("sink"))


class _KeyFrameGuard:
    """Drops compressed pictures after a loss until the next that needs no other.

    A software decoder marks the pictures that it could not restore. This one leaves them out, or
    shows what it made of them, and says nothing.
    """

    def __init__(self, setup: DecoderSetup, gst: Any) -> None:
        self._setup, self._gst = setup, gst
        self._waiting = False

    def on_buffer(self, pad: Any, info: Any) -> Any:
        flags, buffer = self._gst.BufferFlags, info.get_buffer()
        self._waiting = buffer.has_flags(flags.DELTA_UNIT) and (
            self._waiting or buffer.has_flags(flags.DISCONT)
        )
        if not self._waiting:
            return self._gst.PadProbeReturn.OK
        self._setup.damaged += 1
        return self._gst.PadProbeReturn.DROP


def _factory_name(element: Any) -> str:
    factory = element.get_factory()  # None for the pipeline itself
    return factory.get_name() if factory else ""


def _select(decodebin: Any, pad: Any, caps: Any, factory: Any) -> int:
    """Whether decodebin may take a decoder. For JPEG not the hardware, which has to be told that it
    is JPEG, and whose formats are not stated: jpegdec, on the CPU, takes them all."""
    jpeg = caps.get_structure(0).get_name() == "image/jpeg"
    return _AUTOPLUG_SKIP if jpeg and factory.get_name() == _HARDWARE else _AUTOPLUG_TRY
