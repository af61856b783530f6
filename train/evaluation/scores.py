"""Saved scores: the scores and features of all streams for each snippet of each clip, in one .npz.

names, labels, parts    (clips,) text; a part is train, validation or test
groups                  (clips,) text; clips of one group are cut from one recording
times_s                 (clips, samples) float32, stream time of each snippet's last frame
STREAM_scores           (clips, samples, C) float32, softmax
STREAM_logits           (clips, samples, C) float32, what they are the softmax of
STREAM_features         (clips, samples, F) float32, inputs of the classifier
header                  JSON: classes, split, samples, crops, checkpoints and their SHA-256
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.decision.fusion import Scores
from edge.errors import DataError
from edge.files import write_atomic

PARTS = ("train", "validation", "test")
FORMAT = 3
# what numpy, zipfile and json raise for a file that is damaged or something else
INVALID = (
    *(OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class SavedScores:
    """The content of such a file. times_s: (clips, samples). scores and logits (clips, samples, C),
    features (clips, samples, F): by stream.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    groups: tuple[str, ...]
    header: dict[str, Any]
    times_s: NDArray[np.float32]
    scores: dict[str, Scores]
    logits: dict[str, NDArray[np.float32]]
    features: dict[str, NDArray[np.float32]]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the scores."""
        return tuple(self.header["classes"])

    @property
    def truth(self) -> NDArray[np.int64]:
        """The index of each clip's class, (clips,)."""
        numbers = {label: index for index, label in enumerate(self.classes)}
        return np.array([numbers[label] for label in self.labels], np.int64)

    def part(self, name: str) -> SavedScores:
        """The clips of one part: "train", "validation" or "test"."""
        rows = [index for index, part in enumerate(self.parts) if part == name]
        return SavedScores(
            tuple(self.names[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            tuple(self.parts[row] for row in rows),
            tuple(self.groups[row] for row in rows),
            self.header,
            self.times_s[rows],
            {stream: values[rows] for stream, values in self.scores.items()},
            {stream: values[rows] for stream, values in self.logits.items()},
            {stream: values[rows] for stream, values in self.features.items()},
        )


def write_scores(path: Path, saved: SavedScores) -> None:
    """Write saved scores. Raises DataError if the file cannot be written."""
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(saved.names, str),
        "labels": np.array(saved.labels, str),
        "parts": np.array(saved.parts, str),
        "groups": np.array(saved.groups, str),
        "times_s": saved.times_s,
        "header": np.array(json.dumps(saved.header | {"format": FORMAT})),
    }
    arrays |= {f"{stream}_scores": values for stream, values in saved.scores.items()}
    arrays |= {f"{stream}_logits": values for stream, values in saved.logits.items()}
    arrays |= {f"{stream}_features": values for stream, values in saved.features.items()}
    with write_atomic(path, DataError) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_scores(path: Path) -> SavedScores:
    """Load saved scores. Raises DataError if the file is missing, damaged or invalid."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}, expected {FORMAT}; evaluate again")
        text = {
            key: tuple(map(str, arrays.pop(key))) for key in ("names", "labels", "parts", "groups")
        }
        saved = SavedScores(
            **text,
            header=header,
            times_s=arrays.pop("times_s"),
            scores=_of_kind(arrays, "_scores"),
            logits=_of_kind(arrays, "_logits"),
            features=_of_kind(arrays, "_features"),
        )
        _check(saved)
    except INVALID as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise DataError(
            f"{path}: not a scores file of `twostream evaluate --scores` ({reason})"
        ) from None
    return saved


def _of_kind(arrays: dict[str, NDArray[Any]], ending: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names have this ending, by stream."""
    names = (name.removesuffix(ending) for name in arrays if name.endswith(ending))
    return {stream: arrays[f"{stream}{ending}"] for stream in names}


def _check(saved: SavedScores) -> None:
    """Raises ValueError, KeyError or TypeError if the parts do not fit together."""
    clips, classes = len(saved.names), len(saved.classes)
    samples = int(saved.header["samples"])
    if not saved.scores:
        raise ValueError("no stream's scores")
    if not set(saved.features) == set(saved.logits) == set(saved.scores):
        raise ValueError("scores, logits and features are of different streams")
    if not len(saved.labels) == len(saved.parts) == len(saved.groups) == clips:
        raise ValueError("names, labels, parts and groups differ in length")
    if set(saved.labels) - set(saved.classes) or set(saved.parts) - set(PARTS):
        raise ValueError("an unknown label or part")
    if saved.times_s.shape != (clips, samples) or saved.times_s.dtype != np.float32:
        raise ValueError(f"times_s is {saved.times_s.dtype} of shape {saved.times_s.shape}")
    if not np.isfinite(saved.times_s).all():
        raise ValueError("times_s is not finite")
    tables = {"scores": saved.scores, "logits": saved.logits, "features": saved.features}
    for kind, table in tables.items():
        for stream, values in table.items():
            fits = kind == "features" or values.shape[-1:] == (classes,)
            if values.ndim != 3 or values.shape[:2] != (clips, samples) or not fits:
                raise ValueError(f"{stream}_{kind} has shape {values.shape}")
            if values.dtype != np.float32 or not np.isfinite(values).all():
                raise ValueError(f"{stream}_{kind} holds something other than finite float32")
