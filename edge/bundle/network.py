"""What one network says of itself, from the checkpoint through every ONNX file to the bundle."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edge.motion.spec import FlowSpec
from edge.motion.stack import Layout
from edge.spec import Spec
from edge.text import ClassName, ShortText
from edge.video.frames import Geometry, Normalisation

Stream = Literal["spatial", "temporal"]
Precision = Literal["int8", "fp16", "fp32"]  # of a network as it runs on a device
STREAMS: tuple[Stream, Stream] = ("spatial", "temporal")
METADATA_KEY = "twostream"  # in a safetensors header and among an ONNX file's metadata
INPUT, OUTPUT = "input", "logits"


class NetworkSpec(Spec):
    """All that is needed to feed a network as it was fed in training, and the clips it has seen.

    stack, layout: flows in a stack and their channel order; None for the spatial stream.
    train_clips, validation_clips: paths below the data set's video folder. Calibration may use the
        first, thresholds are chosen on the second; everything else is for reporting only.
    """

    stream: Stream
    backbone: ShortText
    classes: tuple[ClassName, ...] = Field(strict=False, min_length=2, max_length=10_000)
    geometry: Geometry
    flow: FlowSpec
    normalisation: Normalisation
    stack: int | None = Field(ge=1, le=64)
    layout: Layout | None
    split: int
    train_clips: tuple[str, ...] = Field(strict=False, min_length=1)
    validation_clips: tuple[str, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _stack_belongs_to_temporal(self) -> NetworkSpec:
        given = self.stack is not None and self.layout is not None
        if given != (self.stream == "temporal"):
            raise ValueError("stack and layout belong to the temporal stream, and it needs both")
        return self

    @property
    def channels(self) -> int:
        return 3 if self.stack is None else 2 * self.stack

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True)
