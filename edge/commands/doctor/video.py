"""Checks GStreamer, its elements, and the board's video hardware."""

from __future__ import annotations

from edge.commands.doctor.board import jetson
from edge.commands.doctor.check import BOTH, Check, DeviceName
from edge.commands.doctor.machine import Machine
from edge.commands.doctor.python import OLDEST, hidden, show_hidden, system_python

# The elements that runs use (edge/sources/pipeline.py, edge/outputs/video_writer.py), by package.
_ELEMENTS = {
    "gstreamer1.0-plugins-base": (
        *("appsink", "appsrc", "decodebin", "decodebin3", "videoconvert", "videotestsrc"),
    ),
    "gstreamer1.0-plugins-good": (
        *("jpegdec", "matroskamux", "mp4mux", "rtspsrc", "v4l2src", "videoflip"),
    ),
    "gstreamer1.0-plugins-bad": ("h264parse",),
}
_DECODERS = ("nvv4l2decoder", "avdec_h264", "openh264dec")
_SOFTWARE_ENCODERS = ("x264enc", "openh264enc")
_BINDINGS = (
    "`sudo apt install python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 "
    "gstreamer1.0-plugins-base`"
)
_L4T = "`sudo apt update && sudo apt install nvidia-l4t-gstreamer nvidia-l4t-camera`"
_IN_CONTAINER = "use an image for a Jetson, started with `docker run --runtime nvidia`"


def check_gstreamer(machine: Machine) -> Check:
    name = "GStreamer"
    if version := machine.gstreamer_version:
        return Check(name, "ok", version, needed_by=BOTH)
    if "gi" in hidden(machine):
        distribution = system_python(machine)
        if jetson(machine) and distribution is not None and distribution < OLDEST:
            return Check(
                name,
                "missing",
                "its bindings in this release are for Python "
                f"{distribution[0]}.{distribution[1]} only",
                "run twostream in a container of Ubuntu 22.04 or later (CPU device)",
                BOTH,
            )
        detail = "the distribution has it, but this Python environment does not see it"
        return Check(name, "missing", detail, show_hidden(machine), BOTH)
    return Check(name, "missing", machine.gstreamer.fault.partition(": run ")[0], _BINDINGS, BOTH)


def _unlisted(name: str, needed_by: tuple[DeviceName, ...] = ()) -> Check:
    return Check(name, "missing", "elements cannot be listed", "fix GStreamer first", needed_by)


def check_elements(machine: Machine) -> Check:
    name = "GStreamer elements"
    if machine.gstreamer_version is None:
        return _unlisted(name, BOTH)
    absent = {
        package: [element for element in elements if element not in machine.elements]
        for package, elements in _ELEMENTS.items()
    }
    packages = [package for package, elements in absent.items() if elements]
    if not packages:
        count = sum(map(len, _ELEMENTS.values()))
        return Check(name, "ok", f"all {count} that every machine needs", needed_by=BOTH)
    listed = ", ".join(element for elements in absent.values() for element in elements)
    return Check(name, "missing", f"no {listed}", f"`sudo apt install {' '.join(packages)}`", BOTH)


def check_decoder(machine: Machine) -> Check:
    if machine.gstreamer_version is None:
        return _unlisted("H.264 decoding")
    there = [name for name in _DECODERS if name in machine.elements]
    if there:
        return Check("H.264 decoding", "ok", there[0])
    remedy = "`sudo apt install gstreamer1.0-libav`"
    return Check("H.264 decoding", "missing", f"none of {', '.join(_DECODERS)}", remedy)


def check_encoder(machine: Machine) -> Check:
    """Check for an encoder for --video. An installed one may still not work."""
    if machine.gstreamer_version is None:
        return _unlisted("H.264 encoding")
    board = jetson(machine)
    usable = list(_SOFTWARE_ENCODERS)
    if board and board.has_nvenc:
        usable.insert(0, "nvv4l2h264enc")
    there = [name for name in usable if name in machine.elements]
    if there:
        return Check("H.264 encoding", "ok", there[0])
    return Check(
        "H.264 encoding",
        "missing",
        f"none of {', '.join(usable)}, so annotated video cannot be written",
        "`sudo apt install gstreamer1.0-plugins-ugly`",
    )


def check_nvdec(machine: Machine) -> Check:
    return _hardware(machine, "NVDEC", ("nvv4l2decoder", "nvvidconv"))


def check_nvenc(machine: Machine) -> Check:
    board = jetson(machine)
    if board and not board.has_nvenc:
        detail = "an Orin Nano has none; video is encoded by the CPU"
        return Check("NVENC", "not on this board", detail)
    return _hardware(machine, "NVENC", ("nvv4l2h264enc",))


def check_csi(machine: Machine) -> Check:
    return _hardware(machine, "CSI cameras", ("nvarguscamerasrc", "nvvidconv"))


def _hardware(machine: Machine, name: str, elements: tuple[str, ...]) -> Check:
    if jetson(machine) is None:
        return Check(name, "not on this board", "this is no Jetson")
    absent = [element for element in elements if element not in machine.elements]
    if not absent:
        return Check(name, "ok", f"through {' and '.join(elements)}")
    if machine.gstreamer_version is None:
        return _unlisted(name)
    remedy = _IN_CONTAINER if machine.in_container else _L4T
    return Check(name, "missing", f"no {' and '.join(absent)}", remedy)
