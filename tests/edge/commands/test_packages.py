"""Commands of other packages: listed without an import, imported when they are called."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from edge.commands.packages import listed_command, load_command
from edge.errors import ConfigError

ENTRIES = list(entry_points(group="twostream.commands"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, for modules."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def entry(module: str) -> EntryPoint:
    return EntryPoint("greet", f"{module}:greet", "twostream.commands")


@pytest.mark.slow
def test_the_help_of_our_own_is_what_they_say() -> None:
    assert len(ENTRIES) >= 10
    for each in ENTRIES:
        said = inspect.getdoc(each.load())
        assert said
        assert listed_command(each).__doc__ == said


def test_a_command_is_listed_without_its_import(package: Path) -> None:
    source = 'raise SystemExit("imported")\n\n\ndef greet() -> None:\n    """Greet somebody."""\n'
    (package / "never_imported.py").write_text(source)
    assert listed_command(entry("never_imported")).__doc__ == "Greet somebody."
    assert "never_imported" not in sys.modules


@pytest.mark.parametrize(
    "source",
    [
        'def made():\n    """Greet somebody."""\n\n\ngreet = made\n',
        'def greet():\n    pass\n\n\ngreet.__doc__ = "Greet somebody."\n',
    ],
)
def test_help_that_the_source_does_not_show_is_imported(source: str, package: Path) -> None:
    name = f"shows_nothing_{abs(hash(source))}"
    (package / f"{name}.py").write_text(source)
    assert listed_command(entry(name)).__doc__ == "Greet somebody."


def test_a_package_that_is_gone_is_listed_so_and_says_so(package: Path) -> None:
    said = listed_command(entry("no_such_module")).__doc__
    assert said is not None
    assert said.startswith("Not available: no_such_module:greet cannot be imported (")
    with pytest.raises(ConfigError, match="reinstall or remove its package"):
        load_command(entry("no_such_module"))()


def test_one_whose_import_fails_says_so_when_it_is_called(package: Path) -> None:
    source = 'import no_such_library\n\n\ndef greet():\n    """Greet somebody."""\n'
    (package / "lacks_a_library.py").write_text(source)
    assert listed_command(entry("lacks_a_library")).__doc__ == "Greet somebody."
    with pytest.raises(ConfigError, match="no_such_library"):
        load_command(entry("lacks_a_library"))()


def test_one_whose_source_is_broken_does_not_end_the_help_of_the_others(package: Path) -> None:
    (package / "broken_source.py").write_text("def greet(:\n")
    said = listed_command(entry("broken_source")).__doc__
    assert said is not None
    assert said.startswith("Not available: broken_source:greet cannot be imported (SyntaxError")
