"""The kinds of network inputs. Each kind is one module and one line in INPUTS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, SerializeAsAny, ValidationError

from edge.inputs.flow_stack import FlowInput, FlowStackBuilder
from edge.inputs.rgb import RGBBuilder, RGBInput
from edge.motion.preprocessor import Step
from edge.spec import Spec, first_fault
from edge.video.frames import Normalisation


class InputBuilder(Protocol):
    """Builds one network's input from the steps of one camera or clip, in order.

    shape: (channels, H, W) of the input.
    """

    shape: tuple[int, int, int]

    @property
    def ready(self) -> bool:
        """Whether there were enough steps for an input."""

    def push(self, step: Step) -> None:
        """Add the next step; the builder keeps what it needs of it."""

    def fill(self, out: NDArray[np.float32]) -> None:
        """Write the normalised input, `shape` float32. Call only if `ready`."""

    def clear(self) -> None:
        """Forget all steps, after a gap."""


@dataclass(frozen=True, slots=True)
class InputKind:
    """spec: its entry in a manifest, with `kind`, `channels`, `means` (number of means in its
    normalisation), `history` (frames that it needs before the newest), `interval_s` (between frames
    in training) and `motion` (a spec, or None). open: (spec, size_hw, normalisation) ->
    InputBuilder."""

    spec: type[Spec]
    open: Callable[[Any, tuple[int, int], Normalisation], InputBuilder]


INPUTS: dict[str, InputKind] = {
    "rgb": InputKind(RGBInput, RGBBuilder),
    "flow": InputKind(FlowInput, FlowStackBuilder),
}


def parse_input(value: Any) -> Any:
    """The spec of an input in a manifest. Raises ValueError if it is invalid or of unknown kind."""
    if isinstance(value, tuple(kind.spec for kind in INPUTS.values())):
        return value
    name = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in INPUTS:
        raise ValueError(f"kind is {name!r}; this twostream knows {', '.join(INPUTS)}")
    try:
        return INPUTS[name].spec.model_validate(value)
    except ValidationError as error:
        raise ValueError(first_fault(error, name)) from None


# A union by kind.
InputSpec = Annotated[SerializeAsAny[Any], PlainValidator(parse_input)]


def open_input(spec: Any, size_hw: tuple[int, int], normalisation: Normalisation) -> InputBuilder:
    """The builder of the input that `spec` describes, at `size_hw`."""
    return INPUTS[spec.kind].open(spec, size_hw, normalisation)


def build_input(
    spec: Any, size_hw: tuple[int, int], normalisation: Normalisation, steps: Iterable[Step]
) -> NDArray[np.float32]:
    """The input (channels, H, W) after `steps`, in order: `spec.history` + 1 of them, or for flow
    `spec.history` that have flow. Raises ValueError if there are too few."""
    builder = open_input(spec, size_hw, normalisation)
    for step in steps:
        builder.push(step)
    if not builder.ready:
        raise ValueError(f"too few frames for an input of kind {spec.kind}")
    out = np.empty(builder.shape, np.float32)
    builder.fill(out)
    return out


def motions_of(specs: Iterable[Any]) -> tuple[Spec, ...]:
    """The motion methods that these inputs need, each once, in order."""
    return tuple(dict.fromkeys(spec.motion for spec in specs if spec.motion is not None))
