"""Loads GStreamer, the only module that does, and runs pipelines.

`gi` comes from the distribution, not from PyPI: there are no wheels for Linux, and a pip build of
PyGObject does not find the system's GStreamer plug-ins.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from edge.errors import TwostreamError
from edge.redaction import redact

_REMEDY = (
    "run `sudo apt install python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad "
    "gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp`, and create the environment "
    "with `/usr/bin/python3 -m venv --system-site-packages`"
)
TRIAL_S = 10.0  # an element that accepts no frame for so long will not recover
# Allowed kinds (GStreamer's klass) of elements that are chosen by the content of a stream. Not
# allowed are adaptive demuxers, which fetch the URLs in a playlist, and network elements.
_KINDS = {
    *("Codec", "Demuxer", "Parser", "Decoder", "Depayloader", "Converter", "Hardware", "Bin"),
    *("Video", "Audio", "Image", "Subtitle", "Metadata"),
}
_WARNINGS_MAX = 20  # distinct texts kept; a broken stream can cause a new one for every packet


# Jetson elements whose plug-in has another name than they have.
_PLUGIN_OF = {"nvv4l2decoder": "nvvideo4linux2", "nvv4l2h264enc": "nvvideo4linux2"}
# Never chosen for a stream, though its rank is above that of every decoder that works: nvjpegdec
# fails on what USB cameras send.
_BROKEN = "nvjpegdec"

# Cameras are opened in several threads, and a second thread must not see a half-read registry.
_starting = threading.Lock()


class HttpAnswer(NamedTuple):
    """The head of a web server's answer. content_type, location: "" if it states none."""

    status: int
    content_type: str
    location: str


class GStreamer(NamedTuple):
    """The introspected modules in use."""

    Gst: Any
    GstVideo: Any


@functools.cache
def _import_gstreamer() -> GStreamer:
    # GStreamer loads libunwind, whose _Unwind_Resume replaces libgcc's in every C++ library that is
    # loaded later: OpenVINO aborts at its first exception. Loading libgcc first prevents that.
    ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)
    import gi

    for namespace in ("Gst", "GstApp", "GstVideo"):
        gi.require_version(namespace, "1.0")
    # GstApp is imported for its side effect: appsink and appsrc get their methods.
    from gi.repository import Gst, GstApp, GstVideo  # noqa: F401

    Gst.init(None)
    for factory in _reaching_out(Gst):
        factory.set_rank(Gst.Rank.NONE)
    if broken := Gst.ElementFactory.find(_BROKEN):
        broken.set_rank(Gst.Rank.NONE)
    return GStreamer(Gst, GstVideo)


@functools.cache
def _reaching_out(gst: Any) -> tuple[Any, ...]:
    """Factories that decodebin might choose and that open other addresses than the stream's own,
    since an untrusted video may be a playlist. Nothing in this process chooses them any more; a
    user's own pipeline may still name them."""
    factories = gst.ElementFactory.list_get_elements(
        gst.ELEMENT_FACTORY_TYPE_DECODABLE, gst.Rank.MARGINAL
    )
    return tuple(f for f in factories if not _stays_inside(f.get_metadata("klass")))


def _stays_inside(klass: str) -> bool:
    kinds = set(klass.replace(" ", "").split("/"))
    if "Depayloader" in kinds:  # it only unpacks packets that were received already
        kinds -= {"Network", "RTP"}
    return kinds <= _KINDS


def _answer_of(message: Any) -> HttpAnswer | None:
    """What souphttpsrc says of an answer; None if there was none."""
    _, status = message.get_uint("http-status-code")
    if status < 100:
        return None
    headers = message.get_value("response-headers")
    fields = {}
    for index in range(headers.n_fields() if headers is not None else 0):
        key = headers.nth_field_name(index)
        fields[key.lower()] = headers.get_string(key) or ""  # a header sent twice is no string
    content_type, location = fields.get("content-type", ""), fields.get("location", "")
    return HttpAnswer(status, content_type, location)


def load_gstreamer(error: type[TwostreamError]) -> GStreamer:
    """Import and initialise GStreamer once. Raises `error` with the packages to install."""
    try:
        with _starting:
            return _import_gstreamer()
    except (ImportError, ValueError) as fault:
        raise error(f"GStreamer for Python is not installed ({fault}): {_REMEDY}") from None


def load_rtsp_server(error: type[TwostreamError]) -> tuple[Any, Any]:
    """GLib and GstRtspServer. Raises `error` with the package to install."""
    load_gstreamer(error)
    try:
        import gi

        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, GstRtspServer
    except (ImportError, ValueError):
        raise error(
            "--rtsp needs GStreamer's RTSP server; run: sudo apt install gir1.2-gst-rtsp-server-1.0"
        ) from None
    return GLib, GstRtspServer


def element_fault(name: str) -> str | None:
    """Why there can be no element `name`; None: there can. After load_gstreamer, as load_fault."""
    if fault := load_fault(name):
        return f"{name} is installed, but does not load ({fault})"
    if _import_gstreamer().Gst.ElementFactory.find(name) is None:
        return f"{name} is not installed"
    return None


def load_fault(name: str) -> str | None:
    """Why an installed element does not load; None: it does, or it is not installed.

    A plug-in may not load into this process, beside the libraries that Python has loaded. Where
    that happens while GStreamer lists its plug-ins, it takes the plug-in's elements for absent,
    also in later processes.
    """
    gst = _import_gstreamer().Gst
    factory = gst.ElementFactory.find(name)
    if factory is not None:
        if factory.load() is not None:
            return None
        path = factory.get_plugin().get_filename()
    else:
        file = f"/libgst{_PLUGIN_OF.get(name, name)}.so"
        path = next((path for path in _unloadable(gst) if path.endswith(file)), None)
        if path is None:
            return None
    try:
        gst.Plugin.load_file(path)
    except Exception as fault:  # GLib.Error, see Pipeline
        return " ".join(getattr(fault, "message", str(fault)).split())
    return (
        "it did not when GStreamer last listed its plug-ins; "
        "run `rm -f ~/.cache/gstreamer-1.0/registry.*.bin`"
    )


def _unloadable(gst: Any) -> list[str]:
    """The paths of the plug-ins that GStreamer could not load when it listed them."""
    return [
        plugin.get_filename()
        for plugin in gst.Registry.get().get_plugin_list()
        if plugin.flags & gst.PluginFlags.BLACKLISTED
    ]


@functools.cache
def trial_fault(
    elements: str, caps: str = "video/x-raw,format=I420,width=320,height=240"
) -> str | None:
    """Run five frames of `caps` through `elements`. Returns None if they pass, else the fault.

    An installed element may not work: a distribution may ship it for hardware that is not there,
    and a container may see the element but not the device.
    """
    for word in elements.split("!"):
        name = word.split()[0]
        if "/" not in name and (fault := element_fault(name)):
            return fault
    trial = Pipeline(f"videotestsrc num-buffers=5 ! {caps} ! {elements} ! fakesink", TwostreamError)
    try:
        trial.play()
        trial.await_end(TRIAL_S)
    finally:
        trial.stop()
    return None if trial.ended else trial.fault or "no output"


def one_line(message: str, debug: str | None, element: str) -> str:
    """A native error as `message [element: last line of the debug text]`, without credentials."""
    lines = [line.strip() for line in redact(debug or "").splitlines() if line.strip()]
    tail = element  # only a second line is useful; the first is a line of C code
    if len(lines) > 1:
        tail = f"{element}: {lines[-1][:200]}"
    return f"{redact(' '.join(message.split())).rstrip('.')} [{tail}]"


class Pipeline:
    """A pipeline and the messages of its bus so far.

    ended: end of stream; fault: the first error in one line, or None; warnings: text -> count;
    missing: the names of absent decoders; answer: the last one of a web server.
    """

    def __init__(self, description: str, error: type[TwostreamError]) -> None:
        """Raises `error` if the description names an element that is not installed."""
        self._gst = load_gstreamer(error).Gst
        self.ended = False
        self.fault: str | None = None
        self.warnings: dict[str, int] = {}
        self.missing: list[str] = []
        self.answer: HttpAnswer | None = None
        try:
            self._pipeline = self._gst.parse_launch(description)
        except Exception as fault:  # gi.repository.GLib.Error, which this module imports lazily
            text = getattr(fault, "message", str(fault))
            raise error(
                f"GStreamer cannot build `{redact(description)}`: {redact(text)}; check names with "
                "`gst-inspect-1.0`, and what is not installed with `twostream doctor`"
            ) from None
        self._bus = self._pipeline.get_bus()

    def element(self, name: str) -> Any:
        return self._pipeline.get_by_name(name)

    def play(self) -> None:
        """Start the pipeline; errors come on the bus."""
        outcome = self._pipeline.set_state(self._gst.State.PLAYING)
        self.read_bus()
        if outcome == self._gst.StateChangeReturn.FAILURE and self.fault is None:
            self.fault = "the pipeline does not start"

    def elements(self) -> list[Any]:
        """All elements so far, also those within bins."""
        elements, every = self._pipeline.iterate_recurse(), []
        while (found := elements.next())[0] == self._gst.IteratorResult.OK:
            every.append(found[1])
        return every

    def on_added(self, handle: Callable[[Any], None]) -> None:
        """Call `handle` with each element that is added for the stream, in GStreamer's threads.

        handle: must not refer to this pipeline, or neither is ever released.
        """
        self._pipeline.connect("deep-element-added", lambda pipeline, parent, new: handle(new))

    def stop(self) -> None:
        """Release everything but the messages."""
        self._pipeline.set_state(self._gst.State.NULL)

    def await_end(self, bound_s: float) -> None:
        """Wait for the end of the stream or a fault, at most `bound_s`."""
        deadline_s = time.monotonic() + bound_s
        while not self.ended and self.fault is None and time.monotonic() < deadline_s:
            self.read_bus(0.1)

    def read_bus(self, timeout_s: float = 0.0) -> None:
        """Handle all waiting messages; wait up to `timeout_s` for the first one.

        Called for each frame, since the bus is unbounded and keeps unread messages.
        """
        kinds = self._gst.MessageType
        handled = kinds.ERROR | kinds.EOS | kinds.WARNING | kinds.ELEMENT
        timeout_ns = int(timeout_s * 1e9)
        while message := self._bus.timed_pop_filtered(timeout_ns, handled):
            timeout_ns = 0
            self._take(message, kinds)

    def _take(self, message: Any, kinds: Any) -> None:
        if message.type == kinds.EOS:
            self.ended = True
        elif message.type == kinds.ERROR:
            error, debug = message.parse_error()
            self.fault = self.fault or one_line(error.message, debug, message.src.get_name())
        elif message.type == kinds.WARNING:
            warning, debug = message.parse_warning()
            text = one_line(warning.message, debug, message.src.get_name())
            if text in self.warnings or len(self.warnings) < _WARNINGS_MAX:
                self.warnings[text] = self.warnings.get(text, 0) + 1
        elif (structure := message.get_structure()).get_name() == "http-headers":
            self.answer = _answer_of(structure)
        elif structure.get_name() == "missing-plugin":
            self.missing.append(structure.get_string("name") or structure.to_string()[:200])
