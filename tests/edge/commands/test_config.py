"""`run --config`: options in a file, read again at SIGHUP."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.commands.run.config import read_config
from edge.errors import ConfigError
from tests.support.command import Running, assert_refused, growing, twostream
from tests.support.waiting import BOUND_S

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
        ("evry = 2", "evry is not an option"),
        ("config = 'x'", "config is not an option"),
        ("ignore = 'Swing'", "list of strings"),
        ("sources = 3", r"table: \[sources\]"),
        ("[sources]\n'my cam' = 'x'", "letters, digits"),
        ("web = [1]", "one value"),
    ],
)
def test_invalid_options_are_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, text)
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "nowhere", OPTIONS, REPEATED)


def test_a_source_with_a_region_and_a_mask(tmp_path: Path) -> None:
    text = """
    [sources]
    gate = "/dev/video0"
    [sources.yard]
    address = "rtsp://host/1?rotate=90"
    region = [0.25, 0, 0.5, 1]
    mask = [[[0, 0], [0.5, 0], [0, 0.125]], [[1, 1], [1, 0.5], [0.5, 1.0]]]
    [sources.roof]
    address = "test://"
    """
    yard = "rtsp://host/1?rotate=90&region=0.25,0,0.5,1&mask=0,0,0.5,0,0,0.125;1,1,1,0.5,0.5,1"
    assert read(tmp_path, text) == {"source": ["gate=/dev/video0", f"yard={yard}", "roof=test://"]}
    # as a service writes it
    assert read(tmp_path, f'source = ["yard={yard}"]') == {"source": [f"yard={yard}"]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("region = [0, 0, 640, 480]", "region must be x, y, width, height, each from 0 to 1"),
        ("region = 0.5", "region must be four numbers"),
        ("region = '0,0,1,1'", "region must be "),
        ("region = [[0, 0], [1, 1]]", "region must be "),
        ("mask = [[0, 0], [1, 0], [1, 1]]", "mask must be polygons, each a list of corners"),
        ("mask = [[[0, 0], [1, 1]]]", "mask must be polygons of 3 to 256 corners"),
        ("mask = [[[0, 0], [1, 0], [1, 'x']]]", "mask must be polygons, each a list"),
        ("mask = []", "mask must be 1 to 64 polygons"),
        ("polygon = 1", 'give address = "...", and if you like region and mask'),
        ("address = 3", "not TOML"),
    ],
)
def test_a_wrong_view_is_named_with_file_source_and_field(
    row: str, words: str, tmp_path: Path
) -> None:
    text = f"[sources.yard]\naddress = 'test://'\n{row}\n"
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'run.toml'}: ")
    if "TOML" not in words:
        assert ": sources.yard: " in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60))
def test_any_file_is_parsed_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(data)
    with suppress(ConfigError):
        assert set(read_config(file, OPTIONS, REPEATED)) <= set(OPTIONS)


@pytest.mark.slow
def test_the_command_line_takes_precedence(tmp_path: Path, light_bundle: Path) -> None:
    (tmp_path / "run.toml").write_text(
        f"bundle = '{light_bundle}'\nmax-frames = 30\njson = 'o.jsonl'\n"
        "[sources]\nyard = 'test://?live=1'\n"
    )
    done = twostream("run", "--config", tmp_path / "run.toml", "--max-frames", 12)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert sum("frame" in line for line in lines) == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("every = 'often'", "every: Input should be a valid integer"),
        ("log_level = 'loud'", "log-level: 'loud' is not one of"),
        ("log-level = 3", "log-level: "),
        ("retries = -1", "retries: Input should be greater than or equal to 0"),
        ("wait_for_cameras = 'perhaps'", "wait-for-cameras: "),
        ("keep_gb = inf", "keep-gb: "),
        ("keep_days = 3", "keep-days: deletes old segments and events; it needs --segment"),
        ("segment = 1", "segment: splits files"),
        ("web = 'x'", "web: x: give a port"),
        ("mqtt = 'http://host'", "mqtt: not a broker's address"),
        ("webhook = 'ftp://host'", "webhook: give an address"),
        ("[threshold]\nDiving = -2", "threshold: Diving=-2: give ACTION=SCORE"),
        ("device = 'gpu'", "device: 'gpu' is not one of"),
        ("[sources]\nyard = 'nowhere.mp4'", "source: nowhere.mp4: No such file"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(
    text: str, reason: str, tmp_path: Path, light_bundle: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    words = ("run", light_bundle, *([] if "[sources]" in text else ["test://?frames=3"]))
    assert_refused(twostream(*words, "--config", file), f"{file}: {reason}")


@pytest.mark.slow
def test_a_wrong_value_on_the_command_line_is_not_blamed_on_the_file(
    tmp_path: Path, light_bundle: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text("every = 2\nweb = '8080'")
    words = ("run", light_bundle, "test://?frames=3", "--config", file)
    for option, value in (("--web", "x"), ("--every", "often"), ("--retries", -1)):
        done = twostream(*words, option, value)
        assert_refused(done, option)
        assert str(file) not in done.stderr


@pytest.mark.slow
def test_a_reload_during_the_start_is_done_once_the_run_is_ready(
    tmp_path: Path, light_bundle: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"bundle = '{light_bundle}'\nweb = '0'\n[sources]\nyard = 'test://?live=1'\n")
    with Running("run", "--config", file) as run:
        run.said("live page")  # before the networks are loaded
        run.process.send_signal(signal.SIGHUP)
        run.said("reloaded: 1 camera$")
        run.stop()


@pytest.mark.slow
def test_sighup_reloads_the_file(tmp_path: Path, light_bundle: Path) -> None:
    file, out = tmp_path / "run.toml", tmp_path / "o.jsonl"
    head = f"bundle = '{light_bundle}'\njson = '{out}'\nweb = '0'\n"

    def sources(*names: str) -> str:
        return "[sources]\n" + "".join(f"{n} = 'test://?live=1&pattern=ball'\n" for n in names)

    file.write_text(head + sources("yard", "gate"))
    with Running("run", "--config", file) as run:
        page = run.said(r"live page: (\S+)")[1]

        def get(path: str) -> bytes:
            return urllib.request.urlopen(page + path, timeout=BOUND_S).read()

        def is_healthy() -> bool:
            with suppress(urllib.error.HTTPError):
                return get("readyz") == b"ok\n"
            return False

        for name in ("gate", "yard"):
            run.wait_until(lambda name=name: growing(out).count(f'"source":"{name}","frame"') >= 2)
        file.write_text(head + "ignore = ['Golf']\n" + sources("yard"))  # no such action
        run.process.send_signal(signal.SIGHUP)
        run.said(
            "not reloaded, the run continues unchanged: 'Golf' is not an action of this bundle"
        )
        file.write_text(head + "every = 2\n" + sources("yard", "roof"))
        run.process.send_signal(signal.SIGHUP)
        run.said("reloaded: 2 cameras")
        before = growing(out).count('"source":"yard","frame"')
        run.wait_until(lambda: growing(out).count('"source":"roof","frame"') >= 3)
        run.wait_until(lambda: growing(out).count('"source":"yard","frame"') >= before + 2)
        # one that is gone is neither shown nor missed
        shown = json.loads(get("state.json"))
        assert [source["name"] for source in shown["sources"]] == ["yard", "roof"]
        run.wait_until(is_healthy)
        run.stop()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    ended = {row["summary"]["source"]: row["summary"] for row in lines if "summary" in row}
    assert next(iter(ended)) == "gate"
    assert set(ended) == {"yard", "gate", "roof"}
    counts = Counter(row["source"] for row in lines if "frame" in row)
    looked_at = {name: row["frames"] - row["skipped"] for name, row in ended.items()}
    assert counts["gate"] == looked_at["gate"]  # before
    assert counts["roof"] == (looked_at["roof"] + 1) // 2  # after
    assert looked_at["yard"] / 2 < counts["yard"] < looked_at["yard"]  # before and after
