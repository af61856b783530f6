"""The README is true: its commands parse, its links and files exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache

import pytest

from tests.support.command import twostream
from tests.support.paths import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip().startswith(("twostream ", "make "))
]


def test_there_are_commands_to_check() -> None:
    assert ["make", "demo"] in COMMANDS
    assert ["make", "test"] in COMMANDS
    assert {words[1] for words in COMMANDS if words[0] == "twostream"} >= {
        "run",
        "train",
        "evaluate",
        "calibrate",
        "export",
    }


@pytest.mark.parametrize("command", sorted({words[1] for words in COMMANDS if words[0] == "make"}))
def test_every_make_target_exists(command: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@cache
def help_of(command: str) -> str:
    return twostream(command, "--help").stdout


@pytest.mark.parametrize(
    "words", [w for w in COMMANDS if w[0] == "twostream"], ids=lambda words: " ".join(words[1:4])
)
def test_every_option_in_the_readme_exists(words: list[str]) -> None:
    text = help_of("run" if words[1] == "service" else words[1])  # which takes those of run
    assert text
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert option in text, f"{option} is not an option of twostream {words[1]}"


def test_every_relative_link_resolves() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    for link in links:
        assert (REPOSITORY / link).exists(), link
