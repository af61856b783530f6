"""Options that several commands of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from edge.errors import DataError
from edge.motion.spec import PRESETS, FlowSpec
from edge.spec import first_fault
from edge.text import ClassName, same_name

Data = Annotated[Path, typer.Argument(help="UCF101, its frames, folders of your own, or a CSV.")]
Cache = Annotated[Path, typer.Option(help="Where resized frames and flow are kept.")]
Classes = Annotated[str, typer.Option(help="Class names, separated by commas; all by default.")]
RecipeName = Annotated[
    str, typer.Option(help="Name of a recipe that comes with twostream, or a .toml file.")
]


Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe; repeatable."
    ),
]


Flow = Annotated[str, typer.Option(help="TV-L1 preset: fast or accurate.")]


def flow_preset(name: str) -> FlowSpec:
    """Raises DataError where there is none of that name."""
    if name not in PRESETS:
        raise DataError(f"flow preset {name!r} does not exist; presets: {', '.join(PRESETS)}")
    return PRESETS[name]


def class_list(text: str, known: set[str]) -> tuple[str, ...]:
    """The classes asked for, by name; no text: all that are known. Raises DataError where there is
    none of that name, fewer than two, and for names that no bundle can have."""
    if not text:
        return _checked(tuple(sorted(known)))
    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"no training clips of {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    return _checked(names)


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) < 2:
        raise DataError("two classes or more are needed")
    seen: dict[str, str] = {}
    for name in names:
        try:
            TypeAdapter(ClassName).validate_python(name)
        except ValidationError as error:
            raise DataError(f"{first_fault(error, f'class {name[:80]!r}')}; rename it") from None
        other = seen.setdefault(same_name(name), name)
        if other != name:
            raise DataError(f"classes {other!r} and {name!r} look alike; rename one")
    return names
