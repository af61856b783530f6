"""What a user may type by mistake, or a file may hold: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from edge.errors import DataError
from tests.support.command import TWOSTREAM, assert_refused, twostream
from tests.support.manifests import with_network
from tests.support.paths import REPOSITORY
from train.commands.arguments import class_list

pytestmark = pytest.mark.slow  # each test starts a process, or a device

CONFIGS = {
    "size": ('video = "o.mp4"\nsegment = 1\nkeep_gb = 1e300', "keep-gb: 1e+300 is out of range"),
    "depth": ("every = " + "[" * 5000, "is not TOML (nested too deeply)"),
    "digits": ("every = " + "9" * 5000, "is not TOML"),
    "frames": ("max_frames = " + "9" * 4000, "max-frames: 99999999999999999999 is out of range"),
    "user": ('video = "~nosuchuser/o.mp4"', "no such user"),
    "nul": ('json = "a\\u0000b"', "has a NUL in it"),
    "nul in a list": ('ignore = ["a\\u0000b"]', "has a NUL in it"),
    "name": (f'video = "{"n" * 256}.mp4"', "File name too long"),
    "loop": ('json = "loop/o.jsonl"', "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("command", ["run", "service"])
@pytest.mark.parametrize("case", CONFIGS)
def test_a_file_that_no_run_can_use(
    case: str, command: str, light_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service is refused what its run would be."""
    text, says = CONFIGS[case]
    (tmp_path / "loop").symlink_to("loop")
    config = tmp_path / "run.toml"
    config.write_text(f'bundle = "{light_bundle}"\nsource = ["test://?frames=3"]\n{text}\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    words = ("service", "r1") if command == "service" else ("run", "--device", "cpu")
    before = sorted(tmp_path.rglob("*"))
    assert_refused(twostream(*words, "--config", config), says)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("length", [250, 252, 256, 300])
@pytest.mark.parametrize("option", ["--video", "--json"])
def test_a_name_that_is_too_long_with_what_is_added(
    option: str, length: int, light_bundle: Path, tmp_path: Path
) -> None:
    """The end of a name is for .part, and with --segment for a time."""
    name = tmp_path / ("n" * (length - 4) + ".mp4")
    words = ("--device", "cpu", light_bundle, "test://?frames=20", option, name, "--segment", 1)
    assert_refused(twostream("run", *words, "--log-level", "error"), "File name too long")
    if length > 250:
        words = ("--device", "cpu", "--log-level", "error", *words[2:6])
        assert_refused(twostream("run", *words), "File name too long")


def test_a_path_that_can_be_none(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for bundle, says in (("b" * 300, "File name too long"), (loop, "Too many levels of symbolic")):
        for words in (("run", bundle, "test://"), ("verify", bundle), ("bench", bundle)):
            assert_refused(twostream(*words), says)


def test_an_output_that_is_a_link_to_itself(light_bundle: Path, tmp_path: Path) -> None:
    for option, name in (("--video", "o.mp4"), ("--json", "o.jsonl")):
        (tmp_path / name).symlink_to(name)
        done = twostream("run", "--device", "cpu", light_bundle, "test://", option, tmp_path / name)
        assert_refused(done, "Too many levels of symbolic links")


def ascii_only(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(TWOSTREAM), *map(str, arguments)],
        env=os.environ | environment | {"PYTHONIOENCODING": "ascii"},
        cwd=REPOSITORY,
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_a_standard_output_that_is_not_utf_8(light_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d\u00fc\u65e5"
    done = ascii_only("service", "r1", light_bundle, "test://", XDG_CONFIG_HOME=str(folder))
    assert done.returncode == 0, done.stderr
    assert rb"d\xfc\u65e5" in done.stdout


def test_lines_of_json_stay_json_where_it_is_not_utf_8(light_bundle: Path, tmp_path: Path) -> None:
    bundle = with_network(
        light_bundle, tmp_path / "b", (light_bundle / "spatial.onnx").read_bytes()
    )
    content = json.loads((bundle / "bundle.json").read_text())
    content["classes"] = [f"{name} \u00f3\u65e5" for name in content["classes"]]
    (bundle / "bundle.json").write_text(json.dumps(content))
    words = ("--device", "cpu", bundle, "test://?frames=20", "--json", "-")
    done = ascii_only("run", *words)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
    assert {top[0][-2:] for each in records for top in each.get("top", ())} == {"\u00f3\u65e5"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unknown", "where no class is sure"),
        ("a\u200bb", "does not print"),
        ("\udcff", "class"),
        ("x" * 65, "at most 64 characters"),
        (" wave", "begins or ends with a space"),
        ("jum\u200dp", "look alike"),
    ],
)
def test_a_folder_whose_name_no_bundle_can_have(name: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        class_list("", {"jump", "run", name})
    assert "\n" not in str(caught.value)


def test_one_class_is_none() -> None:
    with pytest.raises(DataError, match="two or more classes"):
        class_list("", {"jump"})


@pytest.mark.parametrize(
    ("elements", "fault"),
    [
        ("nosuchelement", 'no element "nosuchelement"'),
        ("videotestsrc ! nosuch ! videoconvert", 'no element "nosuch"'),
        ("videotestsrc pace=3", 'no property "pace" in element "videotestsrc"'),
        ("videotestsrc ! ! videoconvert", "syntax error"),
    ],
)
def test_a_pipeline_that_cannot_be_built(elements: str, fault: str, light_bundle: Path) -> None:
    """GStreamer itself is there: its packages are not the remedy."""
    done = twostream("run", "--device", "cpu", light_bundle, "--pipeline", elements)
    assert_refused(done, fault, "gst-inspect-1.0")
    assert "apt install" not in done.stderr
