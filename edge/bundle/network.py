"""The specification of one network, stored in its checkpoint and its ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from edge.bundle.manifest import StreamName
from edge.bundle.upgrade import upgrade_network
from edge.inputs.builder import InputSpec, input_shape, state_of
from edge.names import ClassName, ShortText
from edge.spec import Spec, first_fault, parse_json
from edge.video.frames import Geometry, Normalisation

Precision = Literal["int8", "fp16", "fp32"]  # in which a device runs a network
METADATA_KEY = "twostream"  # in the metadata of safetensors and ONNX files
FUSION_KEY = "twostream-fusion"  # in that of the network of a fusion: its kind


class NetworkSpec(Spec):
    """What is needed to build a network's input as in training, and the clips of its training.

    stream: its name in the bundle. split: number of the data set's split. train_clips,
    validation_clips: paths in the data set's video folder. Calibration uses training clips,
    thresholds are chosen on validation clips; all others are only for reporting results.
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
        """Of the input."""
        return int(self.input.channels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, with a batch of 1: (1, channels, H, W), or (1, channels, T, H, W)."""
        return (1, *input_shape(self.input, self.geometry.size_hw))

    @property
    def state(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of its state, by name; most networks have none."""
        return state_of(self.input)

    def to_json(self) -> str:
        """As `parse_network` reads it."""
        return self.model_dump_json(by_alias=True)


def parse_network(text: str) -> NetworkSpec:
    """Parse the specification in a checkpoint or an ONNX file; schema 2 is upgraded. Raises
    ValueError, with a message for the user, if it is invalid."""
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
