"""Options that several training commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from edge.bundle.manifest import StreamName
from edge.errors import DataError
from edge.motion.codec import CODEC
from edge.motion.ofa import ofa_spec
from edge.motion.published import PUBLISHED
from edge.motion.spec import PRESETS
from edge.names import ClassName
from edge.spec import Spec, first_fault
from edge.text import same_name
from train.streams import FUSED, STREAMS, LearnedMotion

LEARNED = "network"  # --motion network=FILE
# What is measured on the frames of any video, by the names of --motion.
MEASURED: dict[str, Spec] = {
    **PRESETS,
    "codec": CODEC,
    "ofa-1": ofa_spec(1),
    "ofa-2": ofa_spec(2),
    "ofa-4": ofa_spec(4),
}

Data = Annotated[Path, typer.Argument(help="Data set: UCF101, its frames, class folders or a CSV.")]
Cache = Annotated[Path, typer.Option(help="Folder of cached frames and flow.")]
Classes = Annotated[str, typer.Option(help="Classes to learn, separated by commas; default: all.")]
RecipeName = Annotated[str, typer.Option(help="Built-in recipe or .toml file.")]


Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a recipe value; repeatable."),
]


Motion = Annotated[
    str,
    typer.Option(
        "--motion",
        "--flow",
        help="How motion is measured: quick, fast or accurate (TV-L1), codec (motion vectors of "
        "the video's codec), network=FILE (a network of twostream train-motion, within the "
        "temporal network), ofa-1, ofa-2 or ofa-4 (NVIDIA's hardware, by its grid in px), or "
        "published (tvl1_flow/ of the data set).",
    ),
]


Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network",
        metavar="NAME=CHECKPOINT",
        help="Stream name and its checkpoint or run folder; repeatable.",
    ),
]


def networks_by_name(arguments: list[str] | None) -> dict[str, Path]:
    """The checkpoints of --network, by stream name.

    Raises DataError for a name that is not valid in a bundle, is given twice, or is reserved for
    reports.
    """
    checkpoints: dict[str, Path] = {}
    for text in arguments or ():
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise DataError(f"--network {text}: give NAME=CHECKPOINT, such as spatial=work/RUN")
        try:
            TypeAdapter(StreamName).validate_python(name)
        except ValidationError as error:
            raise DataError(f"--network {text}: {first_fault(error, 'the name')}") from None
        if name in checkpoints or name == FUSED:
            raise DataError(f"--network {text}: the name is taken; choose another")
        checkpoints[name] = Path(path)
    return checkpoints


def named_as_trained(file: Path, stream: str, name: str) -> None:
    """Raises DataError if a network has the name of another stream than it was trained for, such as
    `spatial` for a temporal one. A name that is no stream of STREAMS may stand for any.

    file: of the network, for the message. stream: that it was trained for. name: that it is given.
    """
    if name in STREAMS and stream != name:
        raise DataError(f"{file}: is a {stream} checkpoint, not a {name} one")


def motion_spec(name: str) -> Spec:
    """The motion method of this name, or the LearnedMotion of network=FILE. Raises DataError if
    there is none, CheckpointError if the file is none of a network of motion."""
    methods: dict[str, Spec] = {**MEASURED, "published": PUBLISHED}
    kind, equals, file = name.partition("=")
    if kind == LEARNED and equals and file:
        return _learned_motion(Path(file))
    if name not in methods:
        known = ", ".join((*methods, f"{LEARNED}=FILE"))
        raise DataError(f"--motion {name}: does not exist; give {known}")
    return methods[name]


def measured_motion(name: str) -> Spec:
    """The motion method of this name, for what measures flow on frames. Raises DataError if there
    is none."""
    if name not in MEASURED:
        raise DataError(f"--motion {name}: measures no flow; give {', '.join(MEASURED)}")
    return MEASURED[name]


def _learned_motion(file: Path) -> LearnedMotion:
    from train.models.motion_checkpoint import read_motion_spec

    spec = read_motion_spec(file)
    return LearnedMotion(
        method="network",
        network=spec.network,
        checkpoint=str(file),
        frames=spec.input.frames,
        interval_s=spec.input.interval_s,
    )


def changes_for(stream: str, changes: tuple[str, ...], motion: Spec) -> tuple[str, ...]:
    """The changes of a stream's recipe: those that are given, after what its motion needs. Raises
    DataError if both contradict each other."""
    if not isinstance(motion, LearnedMotion):
        return changes
    flows = motion.frames - 1
    for change in changes:
        key, _, value = change.partition("=")
        if key.strip() == "sampling.stack" and value.strip() != str(flows):
            raise DataError(f"--set {change}: {motion.checkpoint} gives stacks of {flows} flows")
    needed = [f"sampling.stack={flows}"]  # of all streams, so that they see the same snippets
    if stream == "temporal":
        needed.append(f"motion.checkpoint={json.dumps(motion.checkpoint)}")
    return (*needed, *changes)


def class_list(text: str, known: set[str]) -> tuple[str, ...]:
    """The class names in `text`, sorted; all of `known` if it is empty.

    Raises DataError for an unknown class, fewer than two classes, and names that are not valid in a
    bundle.
    """
    if not text:
        return _checked(tuple(sorted(known)))
    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"no training clips of {', '.join(unknown)}; known classes: {', '.join(sorted(known))}"
        )
    return _checked(names)


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names themselves. Raises DataError if they are not valid as the classes of a bundle."""
    if len(names) < 2:
        raise DataError("two or more classes are needed")
    first_spelling: dict[str, str] = {}
    for name in names:
        try:
            TypeAdapter(ClassName).validate_python(name)
        except ValidationError as error:
            fault = first_fault(error, f"class {name[:80]!r}").removesuffix("; rename it")
            raise DataError(f"{fault}; rename it") from None
        earlier = first_spelling.setdefault(same_name(name), name)
        if earlier != name:
            raise DataError(f"classes {earlier!r} and {name!r} look alike; rename one")
    return names
