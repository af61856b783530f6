"""A run as a service: its unit, and what it tells the service manager."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.commands.service import check_name, quote_path, quote_program, quote_word, unit_text
from edge.errors import OutputError
from edge.outputs.systemd import SystemdNotifier
from edge.sources.reconnect import SourceState
from tests.support.command import TWOSTREAM, assert_refused, twostream
from tests.support.paths import REPOSITORY
from tests.support.rtsp import RtspServer
from tests.support.waiting import BOUND_S, wait_until

pytestmark = pytest.mark.slow

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


SYSTEMD = Path("/usr/lib/systemd/systemd")
HARMLESS = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)
HOSTILE = [
    r"a\tb", r"\x41\101\u0041", "end\\", "'", '"', "a b", " a ", "", "%h%%n", "$HOME", "${HOME}",
    "$$", ";", "\\;", "#", "@-+!:", "\u00e9\u4e2d", "--option=a,b", "~", "*", "|", "a\u00a0b",
]  # fmt: skip


def service(folder: Path, *arguments: object) -> tuple[str, Path, Path]:
    """What `twostream service` says, and its unit and configuration."""
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder)}
    words = [str(TWOSTREAM), "service", "yard", *map(str, arguments)]
    done = subprocess.run(
        words, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    unit = folder / "systemd" / "user" / "twostream-yard.service"
    return done.stdout + done.stderr, unit, folder / "twostream" / "yard.toml"


def read_words(line: str) -> list[str]:
    """The words of ExecStart= as systemd.syntax and systemd.service have them, after specifiers and
    variables: written from the documentation, for what stands in double quotes alone."""
    words = []
    for word in re.findall(r'"((?:[^"\\]|\\.)*)"(?: |$)', line):
        assert not re.search(r"(?<!%)(%%)*%(?!%)", word)
        assert set(re.findall(r"\\(.)", word)) <= {"\\", '"'}, "another escape is another character"
        plain = re.sub(r"\\(.)", r"\1", word)
        words.append(plain.replace("%%", "%").replace("$$", "$") if words else plain)
    return words


def test_options_are_in_a_private_file_and_not_on_the_command_line(
    demo_bundle: Path, tmp_path: Path
) -> None:
    secrets = ("p%40ss$1", "hunter2", "t0ken-0123456789", "br0ker", "h00k")
    said, unit, config = service(
        tmp_path, demo_bundle.relative_to(REPOSITORY), f"gate=rtsp://bob:{secrets[0]}@host/c;1",
        "--pipeline", f"rtspsrc location=rtsp://h/ user-id=a user-pw={secrets[1]} ! decodebin",
        "--web", "0.0.0.0:8080", "--token", secrets[2], "--wait-for-cameras",
        "--threshold", "Diving=0.9",
        "--mqtt", f"mqtt://me:{secrets[3]}@host/t", "--webhook", f"https://host/{secrets[4]}",
        "--json", "out.jsonl", "--every", 2, "--ignore", "Swing",
    )  # fmt: skip
    assert str(unit) in said
    assert str(config) in said
    assert not any(secret in text for secret in secrets for text in (said, unit.read_text()))
    assert all(secret in config.read_text() for secret in secrets)
    for file in (unit, config):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = tomllib.loads(config.read_text())
    assert found["bundle"] == str(demo_bundle)
    assert found["json"] == str(REPOSITORY / "out.jsonl")
    assert found["source"] == [f"gate=rtsp://bob:{secrets[0]}@host/c;1"]
    assert (found["wait_for_cameras"], found["every"], found["threshold"]) == (
        True,
        2,
        {"Diving": "0.9"},
    )
    (line,) = (x for x in unit.read_text().splitlines() if x.startswith("ExecStart="))
    assert read_words(line.removeprefix("ExecStart=")) == [
        str(TWOSTREAM), "run", "--config", str(config)
    ]  # fmt: skip


@pytest.mark.slow
def test_the_service_command_runs(light_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    _, _, config = service(
        tmp_path, light_bundle, "test://?live=1&pattern=ball", "--json", out, "--max-frames", 12,
        "--threshold", "Diving=0.9",
    )  # fmt: skip
    done = twostream("run", "--config", config)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    # processors whose INT8 is wrong are told of
    assert [line for line in warnings if "the networks run as " not in line] == []
    assert out.is_file()


@pytest.mark.slow
def test_a_config_given_alone_is_used_and_other_files_are_kept(
    light_bundle: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(f"bundle = '{light_bundle}'\nsource = ['rtsp://a:hunter2@h/']\n")
    mine.chmod(0o644)
    said, unit, config = service(tmp_path, "--config", mine)
    assert f'"run" "--config" "{mine}"' in unit.read_text()
    assert not config.exists()
    assert f"others can read it; run: chmod 600 {mine}" in said
    said, unit, config = service(tmp_path, "--config", mine, "--every", 3)
    assert tomllib.loads(config.read_text()) == {
        "bundle": str(light_bundle), "source": ["rtsp://a:hunter2@h/"], "every": 3
    }  # fmt: skip
    service(tmp_path, "--config", mine, "--every", 4)  # what it wrote itself it may write again
    config.write_text("# mine\n")
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    words = [str(TWOSTREAM), "service", "yard", "--config", str(mine), "--every", "5"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert_refused(done, config, "was not written by twostream")
    assert config.read_text() == "# mine\n"


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_a_configuration_that_is_no_plain_file_is_refused(
    make: Callable[[Path], None], light_bundle: Path, tmp_path: Path
) -> None:
    config = tmp_path / "twostream" / "yard.toml"
    config.parent.mkdir()
    make(config)
    words = [str(TWOSTREAM), "service", "yard", str(light_bundle), "test://"]
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert_refused(done, config, "cannot be read (it is not a plain file")


@pytest.mark.parametrize("name", ["-x", "--help-me", "_x", "", "a.b", "x" * 65])
def test_a_service_s_name_begins_with_a_letter_or_digit(name: str, tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    words = [str(TWOSTREAM), "service", name, "bundle", "test://"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert_refused(done, "a service name is up to 64")
    assert list(tmp_path.iterdir()) == []


def test_a_full_notify_socket_does_not_block_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    other.sendto(b"full", str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        notifier = SystemdNotifier().__enter__()
        with suppress(BlockingIOError):
            while True:
                assert manager.recv(100) == b"full"
        notifier.on_source_state(SourceState("yard", "running"))
        assert manager.recv(1000) == b"READY=1\nWATCHDOG=1\nSTATUS=running"


@pytest.mark.slow
def test_a_run_warns_of_secrets_that_others_can_read(light_bundle: Path, tmp_path: Path) -> None:
    run = ("run", light_bundle, "test://?frames=12", "--web", "0")
    done = twostream(*run, "--token", "t0ken-0123456789")
    assert "can read the command line, and a secret in it (--token); put it" in done.stderr
    config = tmp_path / "c.toml"
    config.write_text("token = 't0ken'\n")
    for mode, warned in ((0o600, False), (0o644, True), (0o640, True)):
        config.chmod(mode)
        done = twostream(*run, "--config", config)
        assert done.returncode == 0, done.stderr
        assert (f"others can read it; run: chmod 600 {config}" in done.stderr) == warned
        assert "command line" not in done.stderr
        assert "t0ken-0123456789" not in done.stdout + done.stderr


@given(st.lists(HARMLESS | st.sampled_from(HOSTILE), min_size=1, max_size=6))
def test_quoted_arguments_round_trip(words: list[str]) -> None:
    line = " ".join(['"/x"', *map(quote_word, words)])
    assert len(line.splitlines()) == 1
    assert read_words(line) == ["/x", *words]


@given(
    st.text(max_size=20), st.sampled_from("\n\r\0\t\x1b\x7f\x85\u2028\udc80"), st.text(max_size=20)
)
def test_control_characters_are_refused(head: str, control: str, tail: str) -> None:
    for quote in (quote_word, quote_path):
        with pytest.raises(OutputError, match="control characters"):
            quote(head + control + tail)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_systemd_parses_quoted_arguments_unchanged(open_folder: Path) -> None:
    """In its test mode the manager shows the units that it has read."""
    if not SYSTEMD.exists():
        pytest.skip("systemd is not installed")
    folder = open_folder / "x\\t %h$y"
    for name in (folder, open_folder / "home"):
        name.mkdir()
    (open_folder / "u.service").write_text(
        f"[Service]\nWorkingDirectory={quote_path(str(folder))}\n"
        f"ExecStart={quote_program('/bin/e$ ch')} {' '.join(map(quote_word, HOSTILE))}\n"
    )
    user = []
    if os.geteuid() == 0:  # it does no tests for root
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        (open_folder / "home").chmod(0o777)
    home = str(open_folder / "home")
    done = subprocess.run(
        [*user, str(SYSTEMD), "--test", "--user", "--unit=u.service"],
        env={"PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home,
             "SYSTEMD_UNIT_PATH": f"{open_folder}:", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=False, timeout=BOUND_S,
    )  # fmt: skip
    if "Unit u.service" not in done.stdout:
        pytest.skip(f"systemd shows no units here: {(done.stderr or done.stdout)[-300:]}")
    shown = done.stdout.partition("Unit u.service:")[2]
    assert re.search(r"\n\s*WorkingDirectory: (.*)", shown)[1] == str(folder)  # type: ignore[index]
    line = re.search(r"-> ExecStart:\n\s*Command Line: (.*)", shown)[1]  # type: ignore[index]
    # shown as for a shell, where a $ is escaped; a $$ is left for when it is started
    program, *words = (word.replace(r"\$", "$") for word in shlex.split(line))
    assert [word.replace("$$", "$") for word in words] == HOSTILE
    assert program == "/bin/e$ ch"


def test_systemd_verifies_the_unit(
    light_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path / "a b\\t%h"
    folder.mkdir()
    _, unit, config = service(folder, light_bundle, "test://", "--wait-for-cameras")
    monkeypatch.chdir(folder)
    unit.write_text(unit_text("yard", config))
    words = [analyse, "verify", "--user", str(unit)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert unit.name not in checked.stderr, checked.stderr


@pytest.mark.slow
def test_names_and_arguments_are_checked(light_bundle: Path, tmp_path: Path) -> None:
    for name in ("../x", "", "caf\u00e9", "\u0663", "a b", "a@b", "a\n", "x" * 65):
        with pytest.raises(OutputError, match="up to 64 ASCII letters"):
            check_name(name)
    check_name("x" * 64)
    assert_refused(twostream("service", "../x", light_bundle, "test://"), "ASCII letters")
    assert_refused(twostream("service", "yard", light_bundle), "no source")
    assert_refused(twostream("service", "yard", light_bundle, "test://", "--wob"), "--wob")


def test_a_folder_name_cannot_add_unit_directives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, says in (
        ("a\nExecStartPre=/bin/x", "control"),
        ("a\\", "does not accept this folder name"),
        ("a ", "does not accept this folder name"),
    ):
        (tmp_path / name).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        with pytest.raises(OutputError, match=says):
            unit_text("yard", Path("/c.toml"))


@pytest.mark.slow
def test_systemd_gets_ready_watchdog_and_status(light_bundle: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, RtspServer(25) as server:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(BOUND_S)
        words = [str(TWOSTREAM), "run", str(light_bundle), server.url]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        assert manager.recv(4096) == b"READY=1"
        assert manager.recv(4096) == b"WATCHDOG=1\nSTATUS=running"
        server.process.kill()
        wait_until(lambda: b"cam lost" in manager.recv(4096))
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: manager.recv(4096) == b"STOPPING=1")
        assert process.wait(BOUND_S) == 0


@pytest.mark.slow
def test_a_run_that_waits_for_a_camera_is_ready(light_bundle: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(BOUND_S)
        words = [
            str(TWOSTREAM),
            "run",
            str(light_bundle),
            "rtsp://127.0.0.1:9/none",
            "--wait-for-cameras",
        ]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        assert manager.recv(4096) == b"READY=1"
        assert b"none lost" in manager.recv(4096)
        process.kill()
        process.wait()
