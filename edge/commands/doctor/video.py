"""Checks GStreamer, its elements, and the board's video hardware."""

from __future__ import annotations

from collections.abc import Iterable

from edge.commands.doctor.board import jetson
from edge.commands.doctor.check import BOTH, Check, DeviceName
from edge.commands.doctor.elements import DECODERS, NEEDED, SOFTWARE_ENCODERS
from edge.commands.doctor.machine import Machine
from edge.commands.doctor.python import OLDEST, hidden, show_hidden, system_python

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


def _lacks(machine: Machine, names: Iterable[str]) -> str:
    """Which of these elements a run cannot use, and why; "" if it can use all."""
    absent = [name for name in names if name not in machine.elements]
    faults = machine.element_faults
    missing = [name for name in absent if name not in faults]
    parts = [f"no {', '.join(missing)}"] if missing else []
    parts += [f"{name} does not load ({faults[name]})" for name in absent if name in faults]
    return "; ".join(parts)


def check_elements(machine: Machine) -> Check:
    name = "GStreamer elements"
    if machine.gstreamer_version is None:
        return _unlisted(name, BOTH)
    packages = [package for package, names in NEEDED.items() if _lacks(machine, names)]
    needed = sum(NEEDED.values(), ())
    if not packages:
        return Check(name, "ok", f"all {len(needed)} that every machine needs", needed_by=BOTH)
    again = "--reinstall " if machine.element_faults.keys() & set(needed) else ""
    remedy = f"`sudo apt install {again}{' '.join(packages)}`"
    return Check(name, "missing", _lacks(machine, needed), remedy, BOTH)


def check_decoder(machine: Machine) -> Check:
    if machine.gstreamer_version is None:
        return _unlisted("H.264 decoding")
    there = [name for name in DECODERS if name in machine.elements]
    if there:
        return Check("H.264 decoding", "ok", there[0])
    again = "--reinstall " if "avdec_h264" in machine.element_faults else ""
    remedy = f"`sudo apt install {again}gstreamer1.0-libav`"
    return Check("H.264 decoding", "missing", _lacks(machine, DECODERS), remedy)


def check_encoder(machine: Machine) -> Check:
    """Check for an encoder for --video. An installed one may still not work."""
    if machine.gstreamer_version is None:
        return _unlisted("H.264 encoding")
    board = jetson(machine)
    usable = list(SOFTWARE_ENCODERS)
    if board and board.has_nvenc:
        usable.insert(0, "nvv4l2h264enc")
    there = [name for name in usable if name in machine.elements]
    if there:
        return Check("H.264 encoding", "ok", there[0])
    again = "--reinstall " if "x264enc" in machine.element_faults else ""
    return Check(
        "H.264 encoding",
        "missing",
        f"annotated video cannot be written: {_lacks(machine, usable)}",
        f"`sudo apt install {again}gstreamer1.0-plugins-ugly`",
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
    lacks = _lacks(machine, elements)
    if not lacks:
        return Check(name, "ok", f"through {' and '.join(elements)}")
    if machine.gstreamer_version is None:
        return _unlisted(name)
    remedy = _IN_CONTAINER if machine.in_container else _L4T
    if machine.element_faults.keys() & set(elements):
        remedy = remedy.replace("apt install", "apt install --reinstall")
    return Check(name, "missing", lacks, remedy)
