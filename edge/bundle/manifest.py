"""The bundle: two networks and everything that the runtime must know to feed them and read them.

A folder, or a .zip of it:

    bundle.json      the manifest, below; it names the sha256 of every other file
    spatial.onnx     Q/DQ INT8, (1, 3, H, W) -> (1, C) logits
    temporal.onnx    Q/DQ INT8, (1, 2L, H, W) -> (1, C) logits
    parity.npz       a few inputs and the scores they must give (see edge/bundle/parity.py)
    report.json      what was measured when the bundle was made

A bundle is untrusted input: files are read, never unpacked, only by the names that the manifest
lists; sizes are bounded and hashes checked on every read; nothing is unpickled. What the manifest
may ask for is bounded, too, and its texts print as they are. Engines that somebody has put beside
these files are not used (see edge/devices/tensorrt/cache.py).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from edge.errors import BundleError
from edge.files import write_atomic
from edge.motion.spec import FlowSpec
from edge.motion.stack import Layout
from edge.spec import Spec, first_fault, parse_json
from edge.text import ClassName, ShortText, Text, printable, same_name
from edge.video.frames import Geometry, Normalisation

SCHEMA = 2
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30
MAX_FILES = 16
MAX_CLASSES = 10_000
MAX_STACK_BYTES = 1 << 27  # of one input of the temporal network, float32
# Of one flow: pixels of all scales, times warps, times iterations. "accurate" asks for 10 million
# at 224 x 224, and a core does some 1000 million a second.
MAX_FLOW_WORK = 400_000_000
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

# What a damaged, encrypted or strangely compressed .zip makes Python raise.
UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,  # encrypted; and its NotImplementedError, an unknown compression
    ValueError,  # names that are not what their flag says, places before the file's beginning
    OverflowError,
    MemoryError,
    struct.error,
)

FileName = Annotated[str, StringConstraints(pattern=FILE_NAME)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# logits are divided by it before the softmax
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]


class SpatialSpec(Spec):
    """The network that sees one RGB frame."""

    file: FileName
    backbone: ShortText
    normalisation: Normalisation
    temperature: Temperature


class TemporalSpec(SpatialSpec):
    """The network that sees a stack of L flows."""

    stack: int = Field(ge=1, le=64)  # L
    layout: Layout


class FusionSpec(Spec):
    """How two score vectors become one decision.

    temperature: makes the mean of both as sure as it is right. window_s: scores are averaged over
    this long. threshold: below it the label is "unknown"; it was chosen so that of the moments of
    other actions a share of at most false_alarm_rate shows a label.
    """

    spatial_weight: float = Field(ge=0, le=1e3)
    temporal_weight: float = Field(ge=0, le=1e3)
    temperature: Temperature
    window_s: float = Field(ge=0, le=60)
    threshold: float = Field(ge=0, le=1)
    false_alarm_rate: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _weights_are_usable(self) -> FusionSpec:
        if self.spatial_weight + self.temporal_weight < 1e-3:
            raise ValueError("spatial_weight and temporal_weight are both zero")
        return self


class ParitySpec(Spec):
    """The inputs that prove a device right, and how far its scores may be off."""

    file: FileName
    tolerance: float = Field(gt=0, le=1)  # of a softmax score, absolute


class Manifest(Spec):
    """Everything in bundle.json. No field has a default: a runtime reads all of it or refuses.

    accepted_loss: what INT8 loses where that was too much and somebody accepted it, else None.
    """

    schema_version: Literal[2]
    name: ShortText
    classes: tuple[ClassName, ...] = Field(strict=False, min_length=2, max_length=MAX_CLASSES)
    geometry: Geometry
    flow: FlowSpec
    spatial: SpatialSpec
    temporal: TemporalSpec
    fusion: FusionSpec
    parity: ParitySpec
    accepted_loss: Text | None
    files: dict[FileName, Sha256] = Field(max_length=MAX_FILES)

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        if len(set(map(same_name, self.classes))) != len(self.classes):
            raise ValueError("a class is listed twice")
        for name in (self.spatial.file, self.temporal.file, self.parity.file):
            if name not in self.files:
                raise ValueError(f"{name} is used, but `files` has no sha256 for it")
        if len(self.spatial.normalisation.mean) != 3:
            raise ValueError("spatial.normalisation needs three means, one a colour")
        if len(self.temporal.normalisation.mean) != 1:
            raise ValueError("temporal.normalisation needs one mean for all channels")
        return self

    @model_validator(mode="after")
    def _is_affordable(self) -> Manifest:
        height, width = self.geometry.size_hw
        work = self.flow.work(height, width)
        if work > MAX_FLOW_WORK:
            raise ValueError(
                f"one flow would take {work / 1e6:.0f} million pixel iterations, "
                f"{MAX_FLOW_WORK / 1e6:.0f} million are allowed; fewer warps or iterations"
            )
        stack = 4 * 2 * self.temporal.stack * height * width
        if stack > MAX_STACK_BYTES:
            raise ValueError(
                f"one stack of flows would take {stack >> 20} MiB, {MAX_STACK_BYTES >> 20} are "
                "allowed; a shorter stack, or a smaller picture"
            )
        return self


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Bundle:
    """A manifest and the checked files beside it. written: bundle.json as it was read."""

    def __init__(self, path: Path, manifest: Manifest, written: bytes = b"") -> None:
        self.path = path
        self.manifest = manifest
        self._written = written

    def read(self, name: str) -> bytes:
        """The bytes of a file that the manifest lists, its sha256 checked.

        Raises BundleError when the file is missing, too large or not the one that was packed.
        """
        data = _read_member(self.path, name, MAX_FILE_BYTES)
        expected, found = self.manifest.files[name], sha256(data)
        if found != expected:
            raise BundleError(
                f"{self.path}: {name} is not the file that the manifest lists "
                f"(sha256 {found[:12]}, expected {expected[:12]}); export or copy the bundle again"
            )
        return data

    def manifest_bytes(self) -> bytes:
        """bundle.json as it was when it was read and checked, whatever lies there by now."""
        return self._written


def load_bundle(path: str | Path) -> Bundle:
    """Open a bundle folder or .zip and check its manifest.

    Raises BundleError with the file, the key and what was expected.
    """
    path = Path(path)
    if not path.exists():
        raise BundleError(f"{path}: no such bundle; give a bundle folder or .zip")
    data = _read_member(path, MANIFEST, MAX_MANIFEST_BYTES)
    try:
        raw = parse_json(data)
    except ValueError as error:
        raise BundleError(f"{path}: {MANIFEST} is not valid JSON ({error})") from None
    found = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(found) is not int or found != SCHEMA:  # 2.0 is another version's idea of it
        raise BundleError(
            f"{path}: {MANIFEST} has schema_version {printable(repr(found))[:40]}, this twostream "
            f"reads {SCHEMA}; export the bundle with a matching version"
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{path}: {MANIFEST}: {first_fault(error, 'manifest')}") from None
    return Bundle(path, manifest, data)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write bundle.json; the same manifest always gives the same bytes."""
    text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=2, sort_keys=True)
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
    plain = BundleError(f"{folder}: not a bundle, {name} is missing or not a plain file")
    if file.is_symlink() or not file.is_file():
        raise plain
    try:
        # asked again of what was opened: it may have become a link or a pipe meanwhile
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise plain
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
            data = stream.read(limit + 1)  # bounded whatever size the header claims
    except KeyError:
        raise BundleError(f"{path}: not a bundle, {name} is missing at its top level") from None
    except UNREADABLE_ZIP as error:
        raise BundleError(f"{path}: not a readable bundle folder or .zip ({error})") from None
    _check_size(path, name, len(data), limit)
    return data


def _check_size(path: Path, name: str, size: int, limit: int) -> None:
    if size > limit:
        raise BundleError(
            f"{path}: {name} has {size / (1 << 20):.1f} MiB, larger than the {limit >> 20} MiB a "
            "bundle may use"
        )
