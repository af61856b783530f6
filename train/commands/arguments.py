"""Options that several commands of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.errors import DataError
from edge.motion.spec import PRESETS, FlowSpec

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
    if not text:
        return tuple(sorted(known))
    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"no training clips of {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    if len(names) < 2:
        raise DataError("two classes or more are needed")
    return names
