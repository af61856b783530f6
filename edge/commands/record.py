"""`twostream actions record`: takes of actions from a camera, into a folder for each action.

    CLIPS/Wave/take-001.mp4, ...          one for each take
    CLIPS/background/take-001.mp4, ...    what the camera saw while nobody had to act

Takes of the actions alternate, so that what changes in the course of a sitting (daylight, a shadow,
where somebody stands) comes with all of them and teaches none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.progress import BarColumn, TextColumn

from edge.errors import OutputError, SourceError
from edge.files import why
from edge.names import ClassName
from edge.outputs.overlay import bgr_picture, picture_size
from edge.outputs.video_writer import VideoWriter
from edge.sources.source import Source, open_source
from edge.spec import first_fault
from edge.terminal import progress_bar, stderr_console
from edge.text import BACKGROUND, counted, same_name
from edge.video.frames import Frame

logger = logging.getLogger(__name__)

# People begin and end late: what is seen so soon after each change belongs to neither side of it.
REACTION_S = 0.7
_RATE = 25.0  # nominal, of a camera that states none; takes keep the times of their frames


@dataclass(frozen=True, slots=True)
class Sitting:
    """What to record. actions: names. takes: of each. take_s, pause_s: recorded seconds of a take,
    and of the pause before it, which becomes a take of the background.
    """

    actions: tuple[str, ...]
    takes: int
    take_s: float
    pause_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a sitting. label: the folder it is for. seconds: recorded, after REACTION_S that
    are not. title: what whoever acts is told."""

    label: str
    seconds: float
    title: str


def parts(sitting: Sitting) -> Iterator[Part]:
    """The parts of a sitting in their order: a pause before each take."""
    for number in range(1, sitting.takes + 1):
        for action in sitting.actions:
            name = f"{action}, take {number} of {sitting.takes}"
            yield Part(BACKGROUND, sitting.pause_s, f"get ready for {name}")
            yield Part(action, sitting.take_s, f"now: {name}")


def record(folder: Path, sitting: Sitting, uri: str) -> None:
    """Record a sitting from a source. Takes that are there already are kept.

    Raises OutputError if an action cannot be a folder's name or a take cannot be written, and
    SourceError if the source cannot be opened or ends before the sitting; takes that were finished
    before stay.
    """
    _check_names(sitting.actions)
    _make_folders(folder, (*sitting.actions, BACKGROUND))
    done = 0
    with open_source(uri) as source, _Prompt(sitting) as prompt:
        frames = iter(source)
        for part in parts(sitting):
            prompt.begin(part)
            try:
                _record_part(folder, part, source, frames, prompt)
            except SourceError as error:
                raise SourceError(f"{error}; {_so_far(done, sitting)}") from None
            done += part.label != BACKGROUND
    logger.info("%s: %s", folder, _so_far(done, sitting))


def _so_far(done: int, sitting: Sitting) -> str:
    count = counted(sitting.takes * len(sitting.actions), "take")
    return f"{done} of {count} recorded"


def _check_names(actions: Sequence[str]) -> None:
    for name in actions:
        try:
            TypeAdapter(ClassName).validate_python(name)
        except ValidationError as error:
            fault = first_fault(error, f"action {name[:80]!r}").removesuffix("; rename it")
            raise OutputError(f"{fault}; rename it") from None
        if "/" in name or name.startswith((".", "-")):
            raise OutputError(f"action {name!r}: cannot be the name of a folder; rename it")
    if len({same_name(name).casefold() for name in actions}) < len(actions):
        raise OutputError(f"{', '.join(actions)}: an action is named twice")


def _make_folders(folder: Path, labels: Sequence[str]) -> None:
    for label in labels:
        try:
            (folder / label).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder / label}: cannot be written ({why(error)})") from None


def _record_part(
    folder: Path, part: Part, source: Source, frames: Iterator[Frame], prompt: _Prompt
) -> None:
    """Record one part into a new file. Raises SourceError if the source ends first."""
    with ExitStack() as stack:
        writer: VideoWriter | None = None
        began_s, file = None, _next_take(folder / part.label)
        stack.callback(_discard, file)
        for frame in frames:
            began_s = frame.time_s if began_s is None else began_s
            since_s = frame.time_s - began_s - REACTION_S
            prompt.show(part, since_s)
            if since_s >= part.seconds:
                break
            if since_s < 0:
                continue
            if writer is None:
                first_s = frame.time_s
                size = picture_size(frame.size_hw, frame.pixel_aspect)
                writer = stack.enter_context(VideoWriter(file, size, source.frame_rate or _RATE))
            writer.write(bgr_picture(frame), frame.time_s - first_s)
        else:
            raise SourceError(f"the source ended in the middle of {part.title!r}")
        if writer is not None:
            writer.finish()


def _next_take(folder: Path) -> Path:
    """The name of a new take, one above the highest number there is."""
    names = (re.fullmatch(r"take-(\d+)\.mp4", file.name) for file in folder.iterdir())
    numbers = [int(match[1]) for match in names if match]
    return folder / f"take-{max(numbers, default=0) + 1:03}.mp4"


def _discard(file: Path) -> None:
    """Delete what there is of a take that was not finished: half an action would be learnt, too."""
    with suppress(OSError):
        file.with_name(f"{file.name}.part").unlink()


class _Prompt:
    """Tells whoever acts what to do: a line with a countdown, and the terminal's bell at each
    change. Where stderr is no terminal, a line for each part."""

    def __init__(self, sitting: Sitting) -> None:
        self._bar = progress_bar(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}")
        )
        self._task = self._bar.add_task("", total=1.0, left="")

    def __enter__(self) -> _Prompt:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, part: Part) -> None:
        if stderr_console().is_terminal:
            stderr_console().bell()
        else:
            logger.info("%s", part.title)

    def show(self, part: Part, since_s: float) -> None:
        """since_s: seconds of the part that are recorded, negative before."""
        total_s, left_s = part.seconds + REACTION_S, part.seconds - since_s
        self._bar.update(
            self._task,
            description=part.title,
            total=total_s,
            completed=total_s - left_s,
            left=f"{max(left_s, 0.0):.0f} s",
        )
