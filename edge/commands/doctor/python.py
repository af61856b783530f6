"""Checks the Python environment and what the CPU device needs in it."""

from __future__ import annotations

import re

from edge.commands.doctor.check import BOTH, Check
from edge.commands.doctor.machine import SYSTEM_PYTHON, Machine
from edge.installation import install_line

OLDEST = (3, 10)


def version_pair(text: str) -> tuple[int, int] | None:
    """(major, minor) of the first version number in `text`."""
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def system_python(machine: Machine) -> tuple[int, int] | None:
    """The version of the distribution's own Python."""
    return version_pair(machine.output(f"{SYSTEM_PYTHON} --version"))


def hidden(machine: Machine) -> list[str]:
    """The distribution's modules that this environment does not see."""
    return [
        name
        for name, answer in machine.system_imports.items()
        if answer.code == 0 and "ModuleNotFoundError" in machine.imports[name].err
    ]


def show_hidden(machine: Machine) -> str:
    """The command that makes this environment see the distribution's packages."""
    if system_python(machine) == version_pair(machine.python):
        # On an existing environment this changes the setting and keeps installed packages.
        return f"`{SYSTEM_PYTHON} -m venv --system-site-packages {machine.prefix}`"
    return (
        f"`{SYSTEM_PYTHON} -m venv --clear --system-site-packages {machine.prefix}`, "
        "and reinstall twostream in it"
    )


def check_environment(machine: Machine) -> Check:
    name = "Python"
    detail = f"{machine.python} in {machine.prefix}"
    distribution = system_python(machine)
    unseen = hidden(machine)
    if not unseen:
        return Check(name, "ok", detail)
    if distribution is not None and distribution < OLDEST:
        return Check(
            name,
            "note",
            f"{detail}; the distribution's {' and '.join(unseen)} are for its own "
            f"{distribution[0]}.{distribution[1]} and cannot be used: twostream needs "
            f"{OLDEST[0]}.{OLDEST[1]}",
        )
    return Check(
        name,
        "missing",
        f"{detail} does not see the distribution's {' and '.join(unseen)}",
        show_hidden(machine),
        BOTH if "gi" in unseen else ("cuda",),
    )


def check_opencv(machine: Machine) -> Check:
    answer = machine.imports["cv2"]
    if answer.code == 0:
        return Check("OpenCV", "ok", answer.out.strip(), needed_by=BOTH)
    if "libGL.so.1" in answer.err:
        remedy = "`sudo apt install libgl1`"
    elif "ModuleNotFoundError" in answer.err:
        remedy = "`pip install opencv-python`"
    else:
        remedy = "`pip install --force-reinstall opencv-python`"
    return Check("OpenCV", "missing", answer.fault, remedy, BOTH)


def check_numba(machine: Machine) -> Check:
    return _package(machine, "numba", "flow, resizing and colours on the CPU")


def check_openvino(machine: Machine) -> Check:
    return _package(machine, "openvino", "networks of the CPU device")


def check_web(machine: Machine) -> Check:
    """Check what --web needs; a run without a live page does not."""
    name, remedy = "live page", f"`{install_line('web')}`"
    answers = {module: machine.imports[module] for module in ("aiohttp", "prometheus_client")}
    faults = [
        f"{module} is not installed"
        if "ModuleNotFoundError" in answer.err
        else f"{module} does not load ({answer.fault})"
        for module, answer in answers.items()
        if answer.code != 0
    ]
    if faults:
        return Check(name, "missing", f"--web cannot be used: {', '.join(faults)}", remedy)
    versions = (f"{module} {answer.out.strip()}" for module, answer in answers.items())
    return Check(name, "ok", ", ".join(versions))


def _package(machine: Machine, module: str, purpose: str) -> Check:
    answer = machine.imports[module]
    name = {"openvino": "OpenVINO"}.get(module, module)
    if answer.code == 0:
        return Check(
            name, "ok", f"{answer.out.partition('-')[0].strip()}, {purpose}", needed_by=("cpu",)
        )
    if "ModuleNotFoundError" in answer.err:
        return Check(name, "missing", purpose, f"`pip install {module}`", ("cpu",))
    again = f"`pip install --force-reinstall {module}`"
    return Check(name, "missing", f"it does not load ({answer.fault})", again, ("cpu",))
