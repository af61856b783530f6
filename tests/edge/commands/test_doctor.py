"""`twostream doctor`: the answers of real boards replayed, the traps, and this machine."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

from edge.commands.doctor import report
from edge.commands.doctor.board import describe
from edge.commands.doctor.machine import Answer, Machine, look_at_machine
from edge.commands.doctor.report import run_checks, summarise, usable_devices
from tests.support.command import twostream
from tests.support.machines import (
    ABSENT,
    AGX_ORIN,
    MACHINES,
    NANO,
    OLD_CONTAINER,
    ORIN_NANO,
    PC,
    PC_WITHOUT_NVCC,
    THIN,
    checked,
    without,
)

JETSON_LINES = ("JetPack", "NVDEC", "NVENC", "CSI cameras", "DLA", "power mode", "clocks")
GPU_LINES = ("CUDA driver", "CUDA toolkit", "TensorRT", "pycuda")


@pytest.mark.parametrize(
    ("name", "devices", "lines"),
    [
        (
            "PC",
            ["cpu"],
            dict.fromkeys((*JETSON_LINES, *GPU_LINES), ("not on this board", ""))
            | dict.fromkeys(("numba", "OpenVINO", "GStreamer", "OpenCV"), ("ok", "")),
        ),
        (
            "PC without nvcc",
            ["cpu"],
            dict.fromkeys(JETSON_LINES, ("not on this board", "Jetson"))
            | {
                "CUDA driver": ("ok", "CUDA 12.4, NVIDIA GeForce RTX 3060 (sm_86)"),
                "CUDA toolkit": ("missing", "`sudo apt install nvidia-cuda-toolkit`"),
                "TensorRT": ("ok", "10.9.0.34"),
            },
        ),
        (
            "Orin Nano",
            ["cpu", "cuda"],
            {
                "JetPack": ("ok", "6.2 (L4T 36.4.3)"),
                "CUDA driver": ("ok", "CUDA 12.6, Orin (sm_87)"),
                "CUDA toolkit": ("ok", "/nvcc 12.6"),
                "TensorRT": ("ok", "10.3.0"),
                "NVDEC": ("ok", "nvv4l2decoder"),
                "NVENC": ("not on this board", "by the CPU"),
                "H.264 encoding": ("ok", "x264enc"),
                "DLA": ("not on this board", ""),
                # mode 0 is the slowest but one there
                "power mode": ("note", "15W, which limits cores and clocks; MAXN_SUPER is the "),
                "clocks": ("note", "`sudo jetson_clocks`"),
                "free memory": ("ok", "5.5 of 7.4 GB"),
            },
        ),
        (
            "AGX Orin",
            ["cpu", "cuda"],
            {
                "JetPack": ("ok", "6.2.1 (L4T 36.4.7)"),
                "NVENC": ("ok", ""),
                "H.264 encoding": ("ok", "nvv4l2h264enc"),
                "DLA": ("ok", ""),
                "power mode": ("ok", "MAXN"),
                "clocks": ("ok", "fixed"),
            },
        ),
        (
            "Thor",
            ["cpu", "cuda"],
            {
                "JetPack": ("ok", "7 (L4T 38.2.0)"),
                "CUDA driver": ("ok", "sm_110"),
                "TensorRT": ("ok", "10.13.3.9"),
                "NVENC": ("ok", ""),
                "DLA": ("not on this board", ""),
            },
        ),
        (
            "Nano",
            [],
            {
                "JetPack": ("ok", "4 (L4T 32.7.1)"),
                "Python": ("note", "3.6"),
                "GStreamer": ("missing", "container"),
                "TensorRT": ("not on this board", "JetPack 4"),
                "power mode": ("note", "`sudo nvpmodel -m 0`"),
                "free memory": ("note", "1.2 of 3.9 GB; building an engine needs about 2 GB"),
                "DLA": ("not on this board", ""),
            },
        ),
        (
            "Xavier NX",
            [],
            {
                "JetPack": ("ok", "5 (L4T 35.3.1)"),
                "TensorRT": ("not on this board", "JetPack 5 is for Python 3.8"),
                "DLA": ("ok", ""),
            },
        ),
        (
            "thin support package",
            ["cpu"],
            {
                "TensorRT": ("missing", "install nvidia-l4t-dla-compiler`"),
                "DLA": ("ok", ""),  # an Orin NX, whatever its carrier board is called
                "NVENC": ("ok", ""),
            },
        ),
        (
            "old container",
            ["cpu"],
            {
                "JetPack": ("note", "6 (L4T 36.4.3) in this container, on a board with JetPack 7"),
                "TensorRT": (
                    "missing",
                    "for an earlier release; use one for JetPack 7.2",
                ),
                "DLA": ("note", "does not show /proc/device-tree"),
                "power mode": ("note", "outside of this container"),
                "CSI cameras": ("missing", "--runtime nvidia"),
            },
        ),
    ],
)
def test_recorded_boards_give_the_expected_checks(
    name: str, devices: list[str], lines: dict[str, tuple[str, str]]
) -> None:
    checks = checked(MACHINES[name])
    for line, (status, says) in lines.items():
        assert checks[line].status == status, checks[line]
        assert says in checks[line].text
    assert usable_devices(checks.values()) == devices


@pytest.mark.parametrize("name", MACHINES)
def test_every_missing_part_has_a_one_line_remedy(name: str) -> None:
    checks = run_checks(MACHINES[name])
    assert checks
    for check in checks:
        assert "\n" not in check.text
        assert check.status != "missing" or check.remedy, check
        assert check.status != "ok" or not check.remedy, check


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (PC, "PC, Debian GNU/Linux 12 (bookworm), x86_64, Python 3.11.2"),
        (AGX_ORIN, "NVIDIA Jetson AGX Orin Developer Kit, Ubuntu 22.04.5 LTS, aarch64"),
        (OLD_CONTAINER, "NVIDIA Jetson, Ubuntu 22.04.5 LTS, aarch64, Python 3.10.12, in a contain"),
    ],
)
def test_the_first_line_describes_the_machine(machine: Machine, says: str) -> None:
    assert describe(machine).startswith(says)


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (ORIN_NANO, "devices: cpu and cuda can run a bundle"),
        (PC, "cpu can run a bundle; cuda cannot on this board (CUDA driver: there is no NVIDIA G"),
        (PC_WITHOUT_NVCC, "cpu can run a bundle; cuda cannot yet, first CUDA toolkit: `sudo apt i"),
        (THIN, "cuda cannot yet, first TensorRT: `sudo apt update && sudo apt install nvidia-l4t-"),
        (OLD_CONTAINER, "cuda cannot yet, first TensorRT: JetPack 7 has no such library"),
        (
            without(ORIN_NANO, openvino=ABSENT),
            "devices: cuda can run a bundle; cpu cannot yet, first OpenVINO: `pip install openvin",
        ),
    ],
)
def test_the_last_line_names_the_first_remedy(machine: Machine, says: str) -> None:
    assert says in summarise(run_checks(machine))


@pytest.mark.parametrize(
    ("modes", "now", "status", "says"),
    [
        ("0:15W 1:25W 2:MAXN_SUPER 3:7W", "25W", "note", "`sudo nvpmodel -m 2`"),
        ("0:15W 1:25W 2:MAXN_SUPER 3:7W", "MAXN_SUPER", "ok", "MAXN_SUPER"),
        ("0:15W 1:7W", "15W", "ok", "15W"),  # an Orin Nano before 6.2: there is no MAXN
        ("0:15W 1:7W", "7W", "note", "`sudo nvpmodel -m 0`"),
        ("0:MAXN 1:MODE_15W 2:MODE_30W", "MODE_30W", "note", "`sudo nvpmodel -m 0`"),
        ("", "MODE_30W", "note", "`sudo nvpmodel -m 0`"),  # no list of modes
    ],
)
def test_the_fastest_power_mode_is_found_by_name(
    modes: str, now: str, status: str, says: str
) -> None:
    listed = "".join(
        f"< POWER_MODEL ID={number} NAME={name} >\n"
        for number, name in (mode.split(":") for mode in modes.split())
    )
    machine = replace(
        ORIN_NANO,
        files=dict(ORIN_NANO.files) | {"/etc/nvpmodel.conf": listed},
        commands={"nvpmodel -q": Answer(0, f"NV Fan Mode:quiet\nNV Power Mode: {now}\n0\n")},
    )
    check = checked(machine)["power mode"]
    assert check.status == status
    assert says in check.text


@pytest.mark.slow
def test_look_at_machine_collects_what_the_checks_read() -> None:
    machine = look_at_machine()
    assert re.fullmatch(r"3\.\d+\.\d+\S*", machine.python)
    assert machine.imports["numba"].code == 0
    assert machine.imports["cv2"].out.strip()
    assert "videoconvert" in machine.elements
    assert 0 < machine.free_memory_bytes < machine.memory_bytes
    assert machine.read("/nowhere") == ""


@pytest.mark.slow
def test_doctor_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # narrow: a line stays a line all the same
    done: subprocess.CompletedProcess[str] = twostream("doctor")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, *lines, last = done.stdout.splitlines()
    assert "Python 3." in first
    assert len(lines) == len(run_checks(PC))
    assert "\x1b" not in done.stdout
    statuses = re.compile(r"(ok|missing|note|not on this board) +\S")
    assert all(statuses.match(line) for line in lines)
    assert re.search(r"^ok +OpenVINO ", done.stdout, re.MULTILINE)
    assert last.startswith("devices: cpu ")


def test_a_machine_that_can_run_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "look_at_machine", lambda: NANO)
    assert report.doctor() == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(report.CHECKS) + 2
    assert lines[0].startswith("NVIDIA Jetson Nano Developer Kit, Ubuntu 18.04.6 LTS")
