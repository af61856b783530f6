"""What is logged: as records for a program that embeds the packages, as lines for the commands."""

from __future__ import annotations

import ast
import json
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

from edge.bundle.manifest import load_bundle
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer, RunConfig, label_video
from edge.devices import open_device
from edge.log import read_line
from edge.sources.source import open_source
from tests.support.clips import write_clip
from tests.support.command import TWOSTREAM, assert_refused, twostream
from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S

pytestmark = pytest.mark.slow  # each test starts a process, or a device

EMBEDDED = """
import logging, sys
from edge.bundle.manifest import load_bundle
from edge.devices import open_device
from edge.decision.recognizer import Recognizer, RunConfig, label_video
from edge.sources.source import open_source
bundle = load_bundle(sys.argv[1])
device = open_device("cpu", bundle)
labels = []
with open_source(sys.argv[2]) as source:
    recognizer = Recognizer(bundle.manifest, device.open_context(), RunConfig(), "clip")
    label_video(source, recognizer, labels.append)
device.close()
loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
assert not any(each.handlers for each in loggers if each.name.startswith(("root", "edge")))
assert labels
"""


@pytest.fixture(scope="module")
def broken_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose container announces more frames than there are, all of them whole."""
    whole = write_clip(tmp_path_factory.mktemp("clips") / "whole.avi", frames=60)
    with av.open(str(whole)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    broken = whole.with_name("broken.avi")
    broken.write_bytes(whole.read_bytes()[: positions[40] - 8])  # before the head of its chunk
    return broken


def warnings_of(records: list[logging.LogRecord]) -> list[tuple[str, str]]:
    return [(r.name, r.getMessage()) for r in records if r.levelno == logging.WARNING]


def test_a_program_with_a_handler_of_its_own_gets_records(
    light_bundle: Path, broken_clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle, labels = load_bundle(light_bundle), list[Label]()
    device = open_device("cpu", bundle)
    with open_source(str(broken_clip)) as source:
        recognizer = Recognizer(bundle.manifest, device.open_context(), RunConfig(), "clip")
        label_video(source, recognizer, labels.append)
    device.close()
    assert labels
    ((name, text),) = warnings_of(caplog.records)
    assert name == "edge.video.video_file"
    assert "its container announces 2.4 s" in text
    assert not text.startswith("warning")


def test_a_program_that_sets_nothing_up_is_left_as_it_is(
    light_bundle: Path, broken_clip: Path
) -> None:
    """Python itself then shows warnings, and nothing else, on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED, light_bundle, broken_clip],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "its container announces 2.4 s" in line


def run_words(light_bundle: Path, clip: Path, *more: str) -> list[str]:
    return [str(TWOSTREAM), "run", str(light_bundle), str(clip), "--device", "cpu", *more]


@pytest.mark.parametrize(
    ("level", "informs", "warns"),
    [("info", True, True), ("warning", False, True), ("error", False, False)],
)
def test_levels(
    level: str, informs: bool, warns: bool, light_bundle: Path, broken_clip: Path
) -> None:
    words = run_words(light_bundle, broken_clip, "--json", "-", "--log-level", level)
    done = twostream(*words[1:])
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()][-1]["summary"]["warnings"]
    lines = done.stderr.splitlines()
    assert any(line.startswith("whole clip: ") for line in lines) == informs
    assert sum(line.startswith("warning: ") for line in lines) == warns
    if level == "error":
        assert lines == []


def test_debug_tells_time_and_logger_and_comes_from_the_configuration_file(
    light_bundle: Path, broken_clip: Path, tmp_path: Path
) -> None:
    config = tmp_path / "run.toml"
    config.write_text('log-level = "debug"\ndevice = "cpu"\n')
    done = twostream("run", light_bundle, broken_clip, "--config", config)
    assert done.returncode == 0, done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warning.split()[2] == "edge.video.video_file:"
    config.write_text('log_level = "warning"\n')
    done = twostream("run", light_bundle, broken_clip, "--config", config)
    assert "whole clip" not in done.stderr
    config.write_text('log_level = "loud"\n')
    assert_refused(twostream("run", light_bundle, broken_clip, "--config", config), "loud", "debug")


def test_in_the_journal_each_line_has_its_priority(
    light_bundle: Path, broken_clip: Path, tmp_path: Path
) -> None:
    """A file in the place of the journal's socket: systemd names its device and inode."""
    log = tmp_path / "journal"
    with log.open("wb") as file:
        status = os.fstat(file.fileno())
        there = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        words = run_words(light_bundle, broken_clip, "--max-frames", "9")
        subprocess.run(words, stderr=file, env=os.environ | there, timeout=BOUND_S, check=True)
        code = "import edge.log, logging; edge.log.configure('debug'); "
        code += "logging.getLogger('edge.x').warning('one\\n<0>two')"
        subprocess.run(
            [sys.executable, "-c", code], stderr=file, env=os.environ | there, check=True
        )
        words = [str(TWOSTREAM), "run", str(tmp_path), "test://"]
        subprocess.run(words, stderr=file, env=os.environ | there, timeout=BOUND_S, check=False)
    lines = log.read_text().splitlines()
    assert any(line.startswith("<6>9 frames") for line in lines)
    assert all(re.match(r"<[3-7]>", line) for line in lines), lines
    assert lines[-2] == r"<4>one\n<0>two"
    assert lines[-1].startswith("<3>twostream: ")
    # inherited by a process whose stderr is something else, it means nothing
    other = os.environ | {"JOURNAL_STREAM": "1:1"}
    done = subprocess.run(words, capture_output=True, text=True, env=other, check=False)
    assert_refused(done)


def test_on_a_terminal_a_warning_is_yellow(light_bundle: Path, broken_clip: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "300"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        run_words(light_bundle, broken_clip), stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 1 << 16):
                shown += data
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[33mwarning: " in shown
    assert b"whole clip: " in shown


@pytest.mark.parametrize("level", ["debug", "error"])
def test_a_user_error_is_one_line_at_every_level(level: str, tmp_path: Path) -> None:
    assert_refused(twostream("verify", tmp_path, "--log-level", level), str(tmp_path))


def test_every_command_has_the_option() -> None:
    for command in ("run", "verify", "build", "bench", "doctor", "train", "export", "calibrate"):
        assert "--log-level" in twostream(command, "--help").stdout, command


def test_a_service_takes_the_level_of_its_run(
    light_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    done = twostream("service", "yard", light_bundle, "test://", "--log-level", "warning")
    assert done.returncode == 0, done.stderr
    (config,) = tmp_path.rglob("yard.toml")
    assert 'log_level = "warning"' in config.read_text()


def test_a_line_of_another_process_keeps_its_level() -> None:
    assert read_line("warning: it is warm") == (logging.WARNING, "it is warm")
    assert read_line("built in 3 s") == (logging.INFO, "built in 3 s")


@pytest.mark.parametrize("package", ["edge", "train", "calibration", "export"])
def test_nothing_is_handed_a_way_to_speak(package: str) -> None:
    files = list((REPOSITORY / package).rglob("*.py"))
    assert files
    for file in files:
        nodes = ast.walk(ast.parse(file.read_text()))
        names = {node.arg for node in nodes if isinstance(node, ast.arg)}
        assert not names & {"say", "console"}, file
