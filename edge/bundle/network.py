"""The specification of one network, stored in checkpoints, ONNX files and bundles."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from edge.bundle.manifest import StreamName
from edge.bundle.upgrade import upgrade_network
from edge.inputs.builder import InputSpec
from edge.spec import Spec, first_fault, parse_json
from edge.text import ClassName, ShortText
from edge.video.frames import Geometry, Normalisation

Precision = Literal["int8", "fp16", "fp32"]  # of a network as it runs on a device
METADATA_KEY = "twostream"  # in a safetensors header and among an ONNX file's metadata
INPUT, OUTPUT = "input", "logits"


class NetworkSpec(Spec):
    """Everything needed to build a network's input as in training, and the clips it was trained on.

    stream: its name in the bundle.
    train_clips, validation_clips: paths below the data set's video folder. Calibration may use the
        first, thresholds are chosen on the second; all other clips are for reporting only.
    """

    stream: StreamName
    backbone: ShortText
    classes: tuple[ClassName, ...] = Field(strict=False, min_length=2, max_length=10_000)
    geometry: Geometry
    input: InputSpec
    normalisation: Normalisation
    split: int
    train_clips: tuple[str, ...] = Field(strict=False, min_length=1)
    validation_clips: tuple[str, ...] = Field(strict=False)

    @property
    def channels(self) -> int:
        return int(self.input.channels)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True)


def parse_network(text: str) -> NetworkSpec:
    """Parse the specification in a checkpoint or an ONNX file, also of schema 2. Raises ValueError
    with a readable message if it is invalid."""
    raw: Any = parse_json(text)
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    try:
        raw = upgrade_network(raw)
    except (KeyError, TypeError) as error:
        raise ValueError(f"lacks {error}") from None
    try:
        return NetworkSpec.model_validate(raw)
    except ValidationError as error:
        raise ValueError(first_fault(error, METADATA_KEY)) from None
