"""Options that several commands of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from edge.bundle.manifest import StreamName
from edge.errors import DataError
from edge.motion.spec import PRESETS, TVL1Spec
from edge.spec import first_fault
from edge.text import ClassName, same_name
from train.streams import FUSED, STREAMS

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


Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="NAME=CHECKPOINT", help="A checkpoint, or folder of a run; repeatable."
    ),
]


def networks_by_name(given: list[str] | None) -> dict[str, Path]:
    """The checkpoints of --network, by stream. Raises DataError for a name that no bundle can have,
    one that is given twice or that reports need."""
    found: dict[str, Path] = {}
    for text in given or ():
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise DataError(f"--network {text}: give NAME=CHECKPOINT, such as spatial=work/RUN")
        try:
            TypeAdapter(StreamName).validate_python(name)
        except ValidationError as error:
            raise DataError(f"--network {text}: {first_fault(error, 'the name')}") from None
        if name in found or name == FUSED:
            raise DataError(f"--network {text}: the name is taken; give another")
        found[name] = Path(path)
    return found


def named_as_trained(file: Path, stream: str, name: str) -> None:
    """Raises DataError where a network is called what the other kind is known by: a network of a
    name of its own may be of any stream."""
    if name in STREAMS and stream != name:
        raise DataError(f"{file}: is a {stream} checkpoint, not a {name} one")


def flow_preset(name: str) -> TVL1Spec:
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
