"""The bundle: networks, and everything the runtime needs to build their inputs and use their
outputs.

It is a folder, or a .zip of its files:

    bundle.json      the manifest, defined below; it lists the sha256 of every other file
    spatial.onnx     Q/DQ INT8, (1, 3, H, W) -> (1, C) logits; each stream has a file of any name
    temporal.onnx    Q/DQ INT8, (1, 2L, H, W) -> (1, C) logits
    fusion.onnx      float, of a recurrent fusion alone: logits of all streams -> (1, C) logits
    parity.npz       a run of frames, and the flow and logits that must follow (see parity.py)
    report.json      results measured at the export

A bundle is untrusted input. Only files that the manifest lists are read, without unpacking; their
size is limited and their sha256 checked on every read; nothing is unpickled. The manifest's values
are limited too, and its texts are safe to print. Engines in a bundle are ignored (see
edge/devices/tensorrt/cache.py).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    PlainValidator,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    model_validator,
)

from edge.bundle.tensor_names import INPUT, OUTPUT, next_state
from edge.bundle.upgrade import upgrade_manifest
from edge.errors import BundleError
from edge.files import write_atomic
from edge.inputs.builder import InputSpec, input_shape, motions_of, state_of
from edge.inputs.state import StateName, StateShape, check_state_size
from edge.motion.method import is_live
from edge.names import ClassName, ShortText, Text
from edge.spec import Spec, first_fault, parse_json
from edge.text import printable, same_name
from edge.video.frames import Geometry, Normalisation

SCHEMA = 4
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30
MAX_FILES = 16
MAX_CLASSES = 10_000
MAX_STREAMS = 8
MAX_INPUT_BYTES = 1 << 27  # of one network's input, float32
# Pixel iterations per frame: pixels of all scales, times warps, times iterations. "accurate" needs
# 10 million at 224 x 224, and a core computes about 1000 million per second.
MAX_FLOW_WORK = 400_000_000
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

# What Python raises for a damaged, encrypted or unsupported .zip.
UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,  # encrypted; its subclass NotImplementedError is an unknown compression
    ValueError,  # names not in the declared encoding, offsets before the start of the file
    OverflowError,
    MemoryError,
    struct.error,
)

# The names of a frame's timed stages. Networks are stages too, with the names of their streams.
STAGES = frozenset(
    {"decode", "queue", "host", "resize", "flow", "stack", "scores"}
    | {"wait", "fusion", "output", "latency"}
)

FileName = Annotated[str, StringConstraints(pattern=FILE_NAME)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
StreamName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
# Logits are divided by it before the softmax.
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]


def _check_tensor_names(state: Collection[str]) -> None:
    names = [INPUT, OUTPUT, *state, *map(next_state, state)]
    if len(set(names)) != len(names):
        raise ValueError(f"two tensors of the network have one name: {', '.join(names)}")


class StreamSpec(Spec):
    """One network, its input, and the weight of its scores in the fusion."""

    file: FileName
    backbone: ShortText
    input: InputSpec
    normalisation: Normalisation
    temperature: Temperature
    weight: float = Field(ge=0, le=1e3)

    @model_validator(mode="after")
    def _input_fits(self) -> StreamSpec:
        count, needed = len(self.normalisation.mean), self.input.means
        if count != needed:
            raise ValueError(f"normalisation has {count} means, this input needs {needed}")
        _check_tensor_names(state_of(self.input))
        return self


class _Fusion(Spec):
    """How the logits of all streams become the confidence that is shown.

    temperature: calibrates the fused score (Guo et al., 2017).
    """

    temperature: Temperature


class MeanScores(_Fusion):
    """The weighted mean of scores. kind: see KINDS in edge/decision/fusion.py."""

    kind: Literal["arithmetic", "rectified"]


class MeanLogits(_Fusion):
    """The softmax of the weighted mean of logits. kind: as above. offsets: of each class, added to
    that mean before the temperature."""

    kind: Literal["geometric", "standardised"]
    offsets: tuple[Annotated[float, Field(ge=-1e3, le=1e3)], ...] = Field(
        strict=False, max_length=MAX_CLASSES
    )


class RecurrentLogits(_Fusion):
    """The softmax of what a network with state makes of the logits over time.

    file: its ONNX file, in float. Its input is (1, S C), the logits of `inputs` side by side, as
    the networks give them, without their temperatures. state: shapes of its state's tensors, by
    name; each has an input and an output (see edge/bundle/tensor_names.py), and is zero at first
    and after a gap. interval_s: time between the snippets that it was trained on, at which the
    state moves on.
    """

    kind: Literal["recurrent"]
    file: FileName
    inputs: tuple[StreamName, ...] = Field(strict=False, min_length=1, max_length=MAX_STREAMS)
    state: dict[StateName, StateShape] = Field(min_length=1, max_length=8)
    interval_s: float = Field(ge=1e-3, le=60)

    @model_validator(mode="after")
    def _state_fits(self) -> RecurrentLogits:
        _check_tensor_names(self.state)
        check_state_size(self.state)
        return self


MeanKind = Literal["arithmetic", "geometric", "rectified", "standardised"]
FusionKind = Literal[MeanKind, "recurrent"]
MeanSpec = MeanScores | MeanLogits
FusionSpec = MeanScores | MeanLogits | RecurrentLogits


def _parse_fusion(value: Any) -> FusionSpec:
    """The spec of its kind; faults have the keys that the manifest has, without the kind's name."""
    if isinstance(value, FusionSpec):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    for spec in get_args(FusionSpec):
        if kind in get_args(spec.model_fields["kind"].annotation):
            return spec.model_validate(value)  # type: ignore[no-any-return]
    known = ", ".join(get_args(FusionKind))
    raise ValueError(f"kind is {kind!r:.60}; this twostream knows {known}")


class Rate(Spec):
    """A share of moments, 0..1, and its 95 % interval, for which a clip counts as one observation.
    moments, clips: how many it was measured on."""

    share: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    moments: int = Field(ge=0)
    clips: int = Field(ge=0)


class Reached(Spec):
    """What a decision did on clips, frame by frame. right: moments of the bundle's actions that
    show the right label; wrong: that show another one. other: moments of other actions that show a
    label."""

    right: Rate
    wrong: Rate
    other: Rate


class Footage(Spec):
    """Video that shows none of the actions, and the actions that were reported in it."""

    videos: int = Field(ge=0)
    seconds: float = Field(ge=0)
    events: int = Field(ge=0)


DecisionKind = Literal["confidence", "margin", "best"]


class DecisionSpec(Spec):
    """Whether a label is shown, or "unknown".

    kind: of the score that decides, see edge/decision/open_set.py; "best" shows the best class
    always, never "unknown". window_s: what decides and what is shown are means over the last
    window_s seconds. threshold: the least score that shows a label. class_thresholds: of kind
    margin, that of each class, at least `threshold`; None: all have the same. hold: a label that is
    shown stays while its score is at least this share of the threshold. false_alarm_rate: the share
    of moments of other actions with a label that was asked for at the export. Of kind "best"
    threshold and false_alarm_rate are None, and hold is 1. validation, test: what was reached;
    footage: what was reached on video without any of the actions. None: not measured.
    """

    kind: DecisionKind
    window_s: float = Field(ge=0, le=60)
    threshold: Annotated[float, Field(ge=0, le=1e6)] | None
    class_thresholds: tuple[Annotated[float, Field(le=1e6)], ...] | None = Field(
        default=None, strict=False
    )
    hold: float = Field(gt=0, le=1)
    false_alarm_rate: Annotated[float, Field(ge=0, le=1)] | None
    validation: Reached | None
    test: Reached | None
    footage: Footage | None

    @model_validator(mode="after")
    def _threshold_fits(self) -> DecisionSpec:
        for name in ("threshold", "false_alarm_rate"):
            if (getattr(self, name) is None) != (self.kind == "best"):
                raise ValueError(f"{name} must be null of kind best, and a number of other kinds")
        if self.kind == "best" and self.hold != 1:
            raise ValueError("hold must be 1 of kind best, which has no threshold")
        if self.threshold is not None:
            if self.kind == "margin" and self.threshold < 1e-6:
                raise ValueError("threshold of a margin must be above 0")
            if self.kind == "confidence" and self.threshold > 1:
                raise ValueError("threshold of a confidence must be at most 1")
        if self.class_thresholds is not None:
            if self.kind != "margin":
                raise ValueError("class_thresholds must be null of other kinds than margin")
            if any(each < (self.threshold or 0) for each in self.class_thresholds):
                raise ValueError("class_thresholds must be at least threshold")
        return self


class ParitySpec(Spec):
    """The parity samples. size_hw: of their frames, before resizing. tolerance: how much a device's
    softmax scores may differ from theirs."""

    file: FileName
    size_hw: tuple[int, int] = Field(strict=False)
    tolerance: float = Field(gt=0, le=1)


class Manifest(Spec):
    """The content of bundle.json. No field has a default: a missing or unknown key is an error.

    accepted_loss: the accuracy lost by INT8, if it exceeded the limit but was accepted at the
    export, else None.
    """

    schema_version: Literal[4]
    name: ShortText
    classes: tuple[ClassName, ...] = Field(strict=False, min_length=2, max_length=MAX_CLASSES)
    geometry: Geometry
    streams: dict[StreamName, StreamSpec] = Field(min_length=1, max_length=MAX_STREAMS)
    fusion: Annotated[SerializeAsAny[FusionSpec], PlainValidator(_parse_fusion)]
    decision: DecisionSpec
    parity: ParitySpec
    accepted_loss: Text | None
    files: dict[FileName, Sha256] = Field(max_length=MAX_FILES)

    @property
    def motions(self) -> tuple[Spec, ...]:
        """The motion methods of all streams, without duplicates."""
        return motions_of(stream.input for stream in self.streams.values())

    @property
    def history(self) -> int:
        """How many frames before the newest one the networks need."""
        return max(stream.input.history for stream in self.streams.values())

    @property
    def interval_s(self) -> float:
        """The time between frames in training, the same for all streams."""
        return float(next(iter(self.streams.values())).input.interval_s)

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        if len(set(map(same_name, self.classes))) != len(self.classes):
            raise ValueError("a class is listed twice")
        thresholds = self.decision.class_thresholds
        if thresholds is not None and len(thresholds) != len(self.classes):
            raise ValueError("decision.class_thresholds needs one for each class")
        used = [*(stream.file for stream in self.streams.values()), self.parity.file]
        if isinstance(self.fusion, RecurrentLogits):
            used.append(self.fusion.file)
        if lost := [motion for motion in self.motions if not is_live(motion)]:
            raise ValueError(
                f"motion {lost[0].method} comes with a data set, no camera has it; "  # type: ignore[attr-defined]
                "export it with --live-motion"
            )
        for name in used:
            if name not in self.files:
                raise ValueError(f"{name} is used, but `files` has no sha256 for it")
        if sum(stream.weight for stream in self.streams.values()) < 1e-3:
            raise ValueError("the weights of all streams are zero")
        if any(side % 2 or not 32 <= side <= 4096 for side in self.parity.size_hw):
            raise ValueError("parity.size_hw needs two even numbers from 32 to 4096")
        if isinstance(self.fusion, MeanLogits) and len(self.fusion.offsets) != len(self.classes):
            raise ValueError(
                f"fusion has {len(self.fusion.offsets)} offsets for {len(self.classes)} classes"
            )
        if isinstance(self.fusion, RecurrentLogits):
            inputs = self.fusion.inputs
            if sorted(inputs) != sorted(self.streams):
                raise ValueError(
                    f"fusion.inputs are {', '.join(inputs)}, not each of the streams once "
                    f"({', '.join(self.streams)})"
                )
        if reserved := STAGES & set(self.streams):
            raise ValueError(
                f"a stream may not be called {sorted(reserved)[0]!r}, the name of a stage"
            )
        intervals = {float(stream.input.interval_s) for stream in self.streams.values()}
        if len(intervals) > 1:
            raise ValueError(f"streams differ in interval_s: {sorted(intervals)}")
        return self

    @model_validator(mode="after")
    def _is_affordable(self) -> Manifest:
        height, width = self.geometry.size_hw
        work = sum(motion.work(height, width) for motion in self.motions)  # type: ignore[attr-defined]
        if work > MAX_FLOW_WORK:
            raise ValueError(
                f"the flow of one frame would take {work / 1e6:.0f} million pixel iterations, "
                f"{MAX_FLOW_WORK / 1e6:.0f} million are allowed; fewer warps or iterations"
            )
        for name, stream in self.streams.items():
            size = 4 * math.prod(input_shape(stream.input, (height, width)))
            if size > MAX_INPUT_BYTES:
                raise ValueError(
                    f"one input of {name} would take {size >> 20} MiB, {MAX_INPUT_BYTES >> 20} are "
                    "allowed; fewer channels, or a smaller picture"
                )
        return self


def sha256(data: bytes) -> str:
    """The SHA-256 of data, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class Bundle:
    """A manifest and the files that it lists."""

    def __init__(
        self, path: Path, manifest: Manifest, written: bytes = b"", schema: int = SCHEMA
    ) -> None:
        """path: of the folder or .zip. written: bundle.json as it was read. schema: the version of
        bundle.json before it was upgraded."""
        self.path = path
        self.manifest = manifest
        self.schema = schema
        self._written = written

    def read(self, name: str) -> bytes:
        """Read a file that the manifest lists.

        Raises BundleError if it is missing, too large, or its sha256 differs from the manifest's.
        """
        data = _read_member(self.path, name, MAX_FILE_BYTES)
        expected, actual = self.manifest.files[name], sha256(data)
        if actual != expected:
            raise BundleError(
                f"{self.path}: {name} is not the file that the manifest lists "
                f"(sha256 {actual[:12]}, expected {expected[:12]}); export or copy the bundle again"
            )
        return data

    def manifest_bytes(self) -> bytes:
        """bundle.json as it was when the bundle was opened, even if the file has changed since."""
        return self._written


def load_bundle(path: str | Path) -> Bundle:
    """Open a bundle folder or .zip and check its manifest. Schemas 2 and 3 are upgraded in memory.
    A path that is a link is followed once, here: its files stay those of one bundle, wherever the
    link leads later.

    Raises BundleError if it cannot be read or is invalid, with the file, key and expected value.
    """
    path = Path(path)
    if not path.exists():
        raise BundleError(f"{path}: no such bundle; give a bundle folder or .zip")
    if path.is_symlink():
        path = path.resolve()
    data = _read_member(path, MANIFEST, MAX_MANIFEST_BYTES)
    try:
        raw = parse_json(data)
    except ValueError as error:
        raise BundleError(f"{path}: {MANIFEST} is not valid JSON ({error})") from None
    schema = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(schema) is int and schema in (2, 3):
        try:
            raw = upgrade_manifest(raw)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{path}: {MANIFEST} is of schema {schema} and lacks a part "
                f"({printable(str(error))})"
            ) from None
    elif type(schema) is not int or schema != SCHEMA:  # 3.0 and True are not versions
        raise BundleError(
            f"{path}: {MANIFEST} has schema_version {printable(repr(schema))[:40]}, this twostream "
            f"reads {SCHEMA}; export the bundle with a matching version"
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{path}: {MANIFEST}: {first_fault(error, 'manifest')}") from None
    return Bundle(path, manifest, data, schema)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write bundle.json, always the same bytes for the same manifest."""
    text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=2)
    with write_atomic(folder / MANIFEST, BundleError) as file:
        file.write((text + "\n").encode())


def _read_member(path: Path, name: str, limit: int) -> bytes:
    if not re.fullmatch(FILE_NAME, name):
        raise BundleError(f"{path}: {name!r} is not a file name that a bundle may use")
    if path.is_dir():
        return _read_file(path, name, limit)
    return _read_zip(path, name, limit)


def _read_file(folder: Path, name: str, limit: int) -> bytes:
    file = folder / name
    not_a_bundle = BundleError(f"{folder}: not a bundle, {name} is missing or not a plain file")
    if file.is_symlink() or not file.is_file():
        raise not_a_bundle
    try:
        # checked again after opening: it may have been replaced by a link or a pipe
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise not_a_bundle
            _check_size(folder, name, status.st_size, limit)
            data = stream.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror})") from None
    _check_size(folder, name, len(data), limit)
    return data


def _read_zip(path: Path, name: str, limit: int) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            _check_size(path, name, archive.getinfo(name).file_size, limit)
            data = stream.read(limit + 1)  # the size in the header may be wrong
    except KeyError:
        raise BundleError(
            f"{path}: not a bundle, {name} is missing at its top level; zip the files, not the "
            "folder that holds them"
        ) from None
    except UNREADABLE_ZIP as error:
        raise BundleError(f"{path}: not a readable bundle folder or .zip ({error})") from None
    _check_size(path, name, len(data), limit)
    return data


def _check_size(path: Path, name: str, size: int, limit: int) -> None:
    if size > limit:
        raise BundleError(
            f"{path}: {name} has {size / (1 << 20):.1f} MiB, more than the {limit >> 20} MiB that "
            "a bundle may use"
        )
