"""The clips that `twostream evaluate` scores: training, validation and test, of the classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge.bundle.network import NetworkSpec
from edge.errors import DataError

if TYPE_CHECKING:
    from train.data.clips import Clip, Split
    from train.evaluation.held_out import Seen

logger = logging.getLogger(__name__)

Part = Literal["test", "validation", "train"]


def evaluated_parts(
    split: Split,
    classes: tuple[str, ...],
    seen: dict[str, Seen],
    scored: tuple[Part, ...],
    cache: Path,
) -> tuple[dict[Part, list[Clip]], dict[str, str]]:
    """The clips of the parts to be scored, and the hashes of clips by name.

    Validation clips are those that all networks held out, training clips those that none did.
    """
    from train.evaluation.held_out import hash_contents, validation_parts

    test = _of_classes("test", split.test, classes) if "test" in scored else []
    train = _of_classes("training", split.train, classes) if set(scored) - {"test"} else []
    by_content = any(network.by_content for network in seen.values())
    contents = hash_contents([*train, *test], cache) if by_content else {}
    trained, validation, mixed = validation_parts(train, list(seen.values()), contents)
    if mixed:
        logger.warning(
            "validation: %d clips that all networks held out; %d that only some held out, such as "
            "%s, are left out",
            len(validation),
            len(mixed),
            mixed[0].name,
        )
    parts: dict[Part, list[Clip]] = {"test": test, "validation": validation, "train": trained}
    return {name: parts[name] for name in scored}, contents


def _of_classes(which: str, clips: Sequence[Clip], classes: tuple[str, ...]) -> list[Clip]:
    of_classes = [clip for clip in clips if clip.label in classes]
    left_out = len(clips) - len(of_classes)
    logger.info("%s list: %d clips; %d of other classes left out", which, len(of_classes), left_out)
    return of_classes


def why_empty(part: Part, specs: dict[str, NetworkSpec]) -> str:
    """Why no clips are left of a part, and what to do."""
    if part != "validation":
        return f"has no {part} clips of {', '.join(next(iter(specs.values())).classes)}"
    without = [stream for stream, spec in specs.items() if not spec.validation_clips]
    if without:
        return (
            f"no clips were held out of the training of {', '.join(without)}; train with "
            "--set validation.fraction=0.15, or evaluate --part test"
        )
    return (
        f"has no clip that was held out of the training of {' and '.join(specs)}; train all with "
        "the same --classes, --split and validation.fraction, or evaluate --part test"
    )


def refuse_trained_on(clips: list[Clip], seen: dict[str, Seen], contents: dict[str, str]) -> None:
    """Raises DataError if a network was trained on one of these test clips."""
    for stream, network in seen.items():
        trained_on = [clip.name for clip in clips if network.trained_on(clip, contents)]
        if trained_on:
            raise DataError(
                f"the {stream} network was trained on {len(trained_on)} of the test clips, such as "
                f"{trained_on[0]}, so that the accuracy would mean nothing; --other-split allows it"
            )
