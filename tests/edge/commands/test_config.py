"""`run --config`: options in a file, read again at SIGHUP."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.commands.run.config import read_config
from edge.errors import ConfigError
from tests.support.command import TWOSTREAM, assert_refused, twostream

OPTIONS = ["bundle", "source", "video", "json", "every", "ignore", "threshold", "web"]
REPEATED = ["source", "ignore", "threshold"]


def read(folder: Path, text: str) -> dict[str, object]:
    file = folder / "run.toml"
    file.write_text(text)
    return read_config(file, OPTIONS, REPEATED)


def test_values_by_option(tmp_path: Path) -> None:
    text = """
    bundle = "b"
    json = "-"
    every = 2
    ignore = ["Swing"]
    [sources]
    yard = "rtsp://host/1"
    [threshold]
    Diving = 0.9
    """
    assert read(tmp_path, text) == {
        "bundle": str(tmp_path / "b"),
        "json": "-",
        "every": 2,
        "ignore": ["Swing"],
        "source": ["yard=rtsp://host/1"],
        "threshold": ["Diving=0.9"],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("every = ", "is not TOML"),
        ("evry = 2", "evry is no option"),
        ("config = 'x'", "config is no option"),
        ("ignore = 'Swing'", "list of texts"),
        ("sources = 3", r"table: \[sources\]"),
        ("[sources]\n'my cam' = 'x'", "letters, digits"),
        ("web = [1]", "one value"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, text)
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "nowhere", OPTIONS, REPEATED)


@given(st.binary(max_size=60))
def test_any_file_is_options_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(data)
    with suppress(ConfigError):
        assert set(read_config(file, OPTIONS, REPEATED)) <= set(OPTIONS)


@pytest.mark.slow
def test_the_command_line_counts_more_than_the_file(tmp_path: Path, demo_bundle: Path) -> None:
    (tmp_path / "run.toml").write_text(
        f"bundle = '{demo_bundle}'\nmax-frames = 30\njson = 'o.jsonl'\n"
        "[sources]\nyard = 'test://?live=1'\n"
    )
    done = twostream("run", "--config", tmp_path / "run.toml", "--max-frames", 12)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert sum("frame" in line for line in lines) == 12
    (tmp_path / "run.toml").write_text("every = 'often'\n[sources]\nyard = 'test://?live=1'\n")
    assert_refused(twostream("run", demo_bundle, "--config", tmp_path / "run.toml"), "--every")


@pytest.mark.slow
def test_a_hang_up_reads_it_again(tmp_path: Path, demo_bundle: Path) -> None:
    file, out = tmp_path / "run.toml", tmp_path / "o.jsonl"
    head = f"bundle = '{demo_bundle}'\njson = '{out}'\n"

    def sources(*names: str) -> str:
        return "[sources]\n" + "".join(f"{n} = 'test://?live=1&pattern=ball'\n" for n in names)

    def wait_for(text: str) -> None:
        deadline_s = time.monotonic() + 20
        part = out.with_name("o.jsonl.part")
        while not part.exists() or text not in part.read_text():
            assert time.monotonic() < deadline_s, process.stderr
            time.sleep(0.1)

    head += "web = '0'\n"
    file.write_text(head + sources("yard", "gate"))
    process = subprocess.Popen(
        [TWOSTREAM, "run", "--config", file], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    page = next(line for line in process.stderr if "live page" in line).split()[-1]
    wait_for('"source":"gate","frame"')
    file.write_text(head + "ignore = ['Golf']\n" + sources("yard"))  # no such action
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    file.write_text(head + "every = 2\n" + sources("yard", "roof"))
    process.send_signal(signal.SIGHUP)
    wait_for('"source":"roof","frame"')
    time.sleep(6)  # one that is gone would be stale by now
    shown = json.loads(urllib.request.urlopen(page + "state.json", timeout=10).read())
    assert [source["name"] for source in shown["sources"]] == ["yard", "roof"]
    assert urllib.request.urlopen(page + "healthz", timeout=10).status == 200
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "not reloaded, all goes on as before: 'Golf' is no action of this bundle" in errors
    assert "reloaded: 2 cameras" in errors
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    ended = [line["summary"]["source"] for line in lines if "summary" in line]
    assert ended[0] == "gate"
    assert set(ended) == {"yard", "gate", "roof"}
    yard = [line["frame"] for line in lines if line.get("source") == "yard" and "frame" in line]
    steps = {b - a for a, b in itertools.pairwise(yard)}
    assert 1 in steps  # before
    assert yard[-1] - yard[-2] == 2  # after
