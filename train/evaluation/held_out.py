"""Which clips networks have been trained on, and which were held out from all of them.

A clip is known by its content where the checkpoint has hashes of its clips, so that a renamed or
copied one is still the same; else by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.network import NetworkSpec
from edge.errors import SourceError
from train.data.clips import Clip
from train.data.content import ContentHashes
from train.models.checkpoint import read_contents, read_metadata


@dataclass(frozen=True, slots=True)
class Seen:
    """The clips of a network's training, and those held out of it: their names and, if
    `by_content`, their hashes. unhashed: the names of those without one: clips of other classes
    that are held out are not read in training."""

    trained: frozenset[str]
    validation: frozenset[str]
    by_content: bool
    unhashed: frozenset[str] = frozenset()

    def trained_on(self, clip: Clip, contents: Mapping[str, str]) -> bool:
        """contents: hashes of clips by name; one that is not in it is known by its name."""
        return self._key(clip, contents) in self.trained

    def held_out(self, clip: Clip, contents: Mapping[str, str]) -> bool:
        """Whether the network was validated on a clip and not trained on it. contents: as for
        `trained_on`."""
        key = self._key(clip, contents)
        return key in self.validation and key not in self.trained

    def _key(self, clip: Clip, contents: Mapping[str, str]) -> str:
        by_name = not self.by_content or clip.name in self.unhashed
        return clip.name if by_name else contents.get(clip.name, clip.name)


def seen_by(checkpoint: Path, spec: NetworkSpec) -> Seen:
    """What the network of a checkpoint has seen. Raises CheckpointError as `read_contents` does."""
    contents = read_contents(checkpoint, read_metadata(checkpoint))

    def keys(names: tuple[str, ...]) -> frozenset[str]:
        return frozenset(names) | {contents[name] for name in names if name in contents}

    unhashed = frozenset({*spec.train_clips, *spec.validation_clips}.difference(contents))
    return Seen(keys(spec.train_clips), keys(spec.validation_clips), bool(contents), unhashed)


@dataclass(frozen=True, slots=True)
class ClipLists:
    """The names of the clips of a network's training, by part, and the hashes of what is in them,
    by name; {} in checkpoints of earlier versions."""

    parts: Mapping[str, tuple[str, ...]]
    contents: Mapping[str, str]


def clip_lists(checkpoint: Path, spec: NetworkSpec) -> ClipLists:
    """The lists of a checkpoint. Raises CheckpointError as `read_contents` does."""
    contents = read_contents(checkpoint, read_metadata(checkpoint))
    return ClipLists({"training": spec.train_clips, "validation": spec.validation_clips}, contents)


def differing_part(first: ClipLists, second: ClipLists) -> str | None:
    """The part, "training" or "validation", whose clips differ between two networks; None if none
    does. Clips are known by what is in them if both checkpoints say so, else by their names."""
    by_content = bool(first.contents and second.contents)

    def keys(lists: ClipLists, part: str) -> set[str]:
        contents = lists.contents if by_content else {}
        return {contents.get(name, name) for name in lists.parts[part]}

    differing = (part for part in first.parts if keys(first, part) != keys(second, part))
    return next(differing, None)


def hash_contents(clips: Iterable[Clip], cache: Path) -> dict[str, str]:
    """The hashes of the clips by name, without those whose files cannot be read. cache: as
    `ClipCache` has it. Raises DataError if it cannot be written."""
    hashes, found = ContentHashes(cache), {}
    for clip in clips:
        try:
            found[clip.name] = hashes.of(clip.path)
        except (OSError, SourceError):
            continue  # whoever decodes it says why
    return found


def validation_parts(
    clips: Sequence[Clip], networks: Sequence[Seen], contents: Mapping[str, str]
) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """The clips of a training list: (in no network's validation, in all networks', the rest).

    The rest was held out of some networks and may have been trained on by the others.
    """
    parts: tuple[list[Clip], list[Clip], list[Clip]] = ([], [], [])
    for clip in clips:
        count = sum(network.held_out(clip, contents) for network in networks)
        parts[0 if not count else 1 if count == len(networks) else 2].append(clip)
    return parts
