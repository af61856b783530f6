"""README, CHANGELOG and docs/ are true: commands parse; options, links and keys exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from edge.bundle.manifest import load_bundle
from edge.decision.decide import Decision
from edge.decision.events import Event
from edge.decision.label import RUNNING, Label
from edge.outputs.health import OutputState
from edge.outputs.records import event_record, label_record, output_record, state_record
from edge.sources.reconnect import SourceState
from edge.video.frames import Frame
from tests.support.paths import REPOSITORY

PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text()
    for path in (
        REPOSITORY / "README.md",
        REPOSITORY / "CHANGELOG.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
        *sorted((REPOSITORY / "tests" / "benchmarks").rglob("*.md")),
    )
}
RECORDS = "docs/cameras-and-outputs.md"
OF_OTHERS = {"--help", "--user", "--runtime", "--system-site-packages"}  # systemctl, docker, venv


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The words of every `twostream` and `make` in a page's shell blocks."""
    found = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for program in ("twostream", "make"):
                if program in words:
                    found.append(words[words.index(program) :])
                    break
    return found


COMMANDS = [words for page in PAGES for words in commands(page)]
CALLS = [words[1:] for words in COMMANDS if words[0] == "twostream"]

# Each call through the parser of its command, without doing it; the options of all commands.
_PARSE = """
import json, sys
import typer
from edge.cli import add_commands, app
add_commands()
commands = {}
for name, command in typer.main.get_command(app).commands.items():
    of_group = getattr(command, "commands", {})
    commands |= {f"{name} {n}": c for n, c in of_group.items()} if of_group else {name: command}
faults = {}
for number, words in enumerate(json.load(sys.stdin)):
    length = 1 if words[0] in commands else 2
    name, rest = " ".join(words[:length]), list(words[length:])
    if name == "service":  # NAME, then the words of run
        name, rest = "run", rest[1:]
    if name not in commands:
        faults[number] = f"there is no twostream {name}"
        continue
    # a configuration file of an example is not there, and has the bundle in it
    if "--config" in rest:
        place = rest.index("--config")
        rest = ["BUNDLE", *rest[:place], *rest[place + 2 :]]
    try:
        commands[name].make_context(name, rest)
    except Exception as error:
        faults[number] = getattr(error, "format_message", lambda: repr(error))()
options = {n: sorted({o for p in c.params for o in p.opts}) for n, c in commands.items()}
print(json.dumps({"faults": faults, "options": options}))
"""


@cache
def parsed() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PARSE],
        input=json.dumps(CALLS),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_there_are_commands_to_check() -> None:
    readme = commands("README.md")
    assert readme[:2] == [["make", "demo"], ["make", "test"]]
    assert len(CALLS) > 30
    called = {*(words[0] for words in CALLS), *(" ".join(words[:2]) for words in CALLS)}
    assert called >= set(parsed()["options"])


@pytest.mark.parametrize("target", sorted({words[1] for words in COMMANDS if words[0] == "make"}))
def test_every_make_target_exists(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CALLS)), ids=lambda n: " ".join(CALLS[n])[:50])
def test_every_command_parses(number: int) -> None:
    assert parsed()["faults"].get(str(number)) is None


@pytest.mark.parametrize("page", sorted(set(PAGES) - {"CHANGELOG.md"}))  # which has old names
def test_every_option_in_the_prose_exists(page: str) -> None:
    known = OF_OTHERS.union(*parsed()["options"].values())
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span):
            assert option in known, f"{option} in {page}"


def anchors(text: str) -> set[str]:
    """As GitHub names headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_resolves(page: str) -> None:
    folder = (REPOSITORY / page).parent
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        name, _, anchor = link.partition("#")
        file = (folder / name).resolve() if name else REPOSITORY / page
        assert file.exists(), link
        assert file.is_relative_to(REPOSITORY), link
        if anchor:
            assert anchor in anchors(file.read_text()), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", PAGES["README.md"]))
    assert linked == {page for page in PAGES if page.startswith("docs/")}


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].split()) <= 900  # three minutes at 300 words each


@pytest.mark.parametrize("page", PAGES)
def test_tables_have_as_many_cells_in_every_row(page: str) -> None:
    for table in re.findall(r"(?:^ *\|.*\n)+", PAGES[page], re.MULTILINE):
        cells = {row.replace("\\|", "").count("|") for row in table.splitlines()}
        assert len(cells) == 1, table


def records() -> list[dict[str, Any]]:
    """One of each kind, as a run writes them."""
    manifest = load_bundle(REPOSITORY / "edge" / "bundles" / "ucf101-mini").manifest
    scores = np.full(len(manifest.classes), 0.125, np.float32)
    decision = Decision("Diving", 1, scores, scores, 1.0)
    plane = np.zeros((2, 2), np.uint8)
    frame = Frame(plane, plane, plane, 1.0, 41)
    streams = dict.fromkeys(manifest.streams, scores)
    label = Label("clip.mp4", frame, RUNNING, decision, streams, None, 12.1)
    return [
        label_record(label, manifest),
        event_record(Event("yard", "start", "Diving", 1.2, 1.5, 0.93)),
        state_record(SourceState("yard", "lost", "no frame for 2 s", 1)),
        output_record(OutputState("video", "failing", "no space", 12, "frames not recorded")),
    ]


def test_json_lines_have_the_keys_of_the_examples() -> None:
    examples = [json.loads(block) for block in blocks(RECORDS, "json")]
    for example, record in zip(examples, records(), strict=True):
        assert list(example) == list(record)
    assert list(examples[0]["streams"]) == list(records()[0]["streams"])


def test_the_configuration_file_has_keys_that_are_options() -> None:
    (block,) = blocks(RECORDS, "toml")
    known = {option.removeprefix("--") for option in parsed()["options"]["run"]}
    assert set(tomllib.loads(block)) - {"bundle", "sources"} <= known
