"""A run as a service: its unit, and what it tells the service manager."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from edge.service import unit_text
from tests.command import TWOSTREAM, assert_refused, twostream
from tests.rtsp import RtspServer


def test_a_unit_is_written_for_oneself(
    demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    url = "rtsp://bob:p%40ss$1@host/cam;1"
    done = twostream("service", "yard", demo_bundle, url, "--wait", "--web", 8080)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "systemd" / "user" / "twostream-yard.service"
    assert str(file) in done.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (line,) = (x for x in file.read_text().splitlines() if x.startswith("ExecStart="))
    assert line == (
        f"ExecStart={TWOSTREAM} run {demo_bundle} 'rtsp://bob:p%%40ss$$1@host/cam;1' "
        "--wait --web 8080"
    )
    if analyse := shutil.which("systemd-analyze"):
        words = [analyse, "verify", "--user", str(file)]
        checked = subprocess.run(words, capture_output=True, text=True, check=False)
        assert file.name not in checked.stderr, checked.stderr


def test_names_and_arguments_are_checked(demo_bundle: Path) -> None:
    assert_refused(twostream("service", "../x", demo_bundle, "test://"), "letters, digits")
    assert_refused(twostream("service", "yard", demo_bundle), "there is no source")
    assert_refused(twostream("service", "yard", demo_bundle, "test://", "--wob"), "--wob")
    assert "Type=notify" in unit_text("yard", ["b", "s"])
    assert "ExecReload" not in unit_text("yard", ["b", "s"])
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in unit_text("yard", ["--config", "c.toml"])


def test_the_manager_is_told_what_happens(demo_bundle: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, RtspServer(25) as server:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        words = [str(TWOSTREAM), "run", str(demo_bundle), server.url]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        assert manager.recv(4096) == b"READY=1"
        assert manager.recv(4096) == b"WATCHDOG=1\nSTATUS=running"
        server.process.kill()
        while b"camera lost" not in (text := manager.recv(4096)):
            assert text.startswith(b"WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        while manager.recv(4096) != b"STOPPING=1":
            pass
        assert process.wait(10) == 0
        assert time.monotonic() - asked < 2


def test_to_wait_for_a_camera_is_to_be_up(demo_bundle: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        words = [str(TWOSTREAM), "run", str(demo_bundle), "rtsp://127.0.0.1:9/none", "--wait"]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        assert manager.recv(4096) == b"READY=1"
        assert b"camera lost" in manager.recv(4096)
        process.kill()
        process.wait(10)
