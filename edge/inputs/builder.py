"""The kinds of network inputs. Each kind is one module and one line in INPUTS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, SerializeAsAny, ValidationError

from edge.inputs.clip import FlowClipBuilder, FlowClipInput, RGBClipBuilder, RGBClipInput
from edge.inputs.flow_stack import FlowInput, FlowStackBuilder
from edge.inputs.luma_stack import LumaStackBuilder, LumaStackInput
from edge.inputs.rgb import RGBBuilder, RGBInput
from edge.inputs.rgb_online import RGBOnlineInput
from edge.motion.preprocessor import Step
from edge.motion.stack import normalise_bytes, scale_and_shift
from edge.spec import Spec, first_fault
from edge.video.frames import Normalisation


class InputBuilder(Protocol):
    """Builds one network's input from the steps of one camera or clip, in order.

    shape: (channels, H, W) of the input, (channels, T, H, W) of a clip.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ready(self) -> bool:
        """Whether there were enough steps for an input."""

    def push(self, step: Step) -> None:
        """Add the next step; the builder keeps what it needs of it."""

    def fill(self, out: NDArray[Any]) -> None:
        """Write the input, `shape` of `input_dtype`. Call only if `ready`."""

    def clear(self) -> None:
        """Forget all steps, after a gap."""


@dataclass(frozen=True, slots=True)
class InputKind:
    """spec: its entry in a manifest, with `kind`, `channels`, `means` (number of means in its
    normalisation), `history` (frames that it needs before the newest), `interval_s` (between frames
    in training) and `motion` (a spec, or None). open: (spec, size_hw, normalisation) ->
    InputBuilder. as_bytes: its builder writes bytes, a quarter of the memory, and they are
    normalised, by one mean, where the network is computed; else it writes normalised float32."""

    spec: type[Spec]
    open: Callable[[Any, tuple[int, int], Normalisation], InputBuilder]
    as_bytes: bool = False


INPUTS: dict[str, InputKind] = {
    "rgb": InputKind(RGBInput, RGBBuilder),
    "rgb_online": InputKind(RGBOnlineInput, RGBBuilder),
    "flow": InputKind(FlowInput, FlowStackBuilder, as_bytes=True),
    "rgb_clip": InputKind(RGBClipInput, RGBClipBuilder),
    "flow_clip": InputKind(FlowClipInput, FlowClipBuilder, as_bytes=True),
    "luma_stack": InputKind(LumaStackInput, LumaStackBuilder, as_bytes=True),
}

CLIPS = (RGBClipInput, FlowClipInput)


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


def input_shape(spec: Any, size_hw: tuple[int, int]) -> tuple[int, ...]:
    """The shape of an input without its batch: (channels, H, W), of a clip (channels, T, H, W)."""
    if isinstance(spec, CLIPS):
        return (spec.channels, spec.frames, *size_hw)
    return (spec.channels, *size_hw)


def state_of(spec: Any) -> Mapping[str, tuple[int, ...]]:
    """The shapes of the state of a network with this input, by name; most have none."""
    return spec.state if isinstance(spec, RGBOnlineInput) else {}


def step_interval_s(spec: Any) -> float:
    """The time between steps of that state; 0.0 without one."""
    return spec.step_interval_s if isinstance(spec, RGBOnlineInput) else 0.0


def open_input(spec: Any, size_hw: tuple[int, int], normalisation: Normalisation) -> InputBuilder:
    """The builder of the input that `spec` describes, at `size_hw`."""
    return INPUTS[spec.kind].open(spec, size_hw, normalisation)


def input_dtype(spec: Any) -> type[np.uint8 | np.float32]:
    """What the builder of an input writes: bytes, or normalised floats."""
    return np.uint8 if INPUTS[spec.kind].as_bytes else np.float32


def levels_of(spec: Any, normalisation: Normalisation) -> tuple[float, float] | None:
    """(scale, shift): the network is to see byte * scale + shift of what the builder writes. None:
    it writes what the network is to see."""
    return scale_and_shift(normalisation) if INPUTS[spec.kind].as_bytes else None


def normalised(
    spec: Any, normalisation: Normalisation, filled: NDArray[Any]
) -> NDArray[np.float32]:
    """What the network sees of what the builder of its input has written, of the same shape."""
    return normalise_bytes(filled, normalisation) if INPUTS[spec.kind].as_bytes else filled


def build_input(
    spec: Any, size_hw: tuple[int, int], normalisation: Normalisation, steps: Iterable[Step]
) -> NDArray[np.float32]:
    """The normalised input (channels, H, W) after `steps`, in order: `spec.history` + 1 of them, or
    for flow `spec.history` that have flow. Raises ValueError if there are too few."""
    return normalised(spec, normalisation, fill_input(spec, size_hw, normalisation, steps))


def fill_input(
    spec: Any, size_hw: tuple[int, int], normalisation: Normalisation, steps: Iterable[Step]
) -> NDArray[Any]:
    """Like `build_input`, but as the builder writes it, of `input_dtype`."""
    builder = open_input(spec, size_hw, normalisation)
    for step in steps:
        builder.push(step)
    if not builder.ready:
        raise ValueError(f"too few frames for an input of kind {spec.kind}")
    out = np.empty(builder.shape, input_dtype(spec))
    builder.fill(out)
    return out


def motions_of(specs: Iterable[Any]) -> tuple[Spec, ...]:
    """The motion methods that these inputs need, each once, in order."""
    return tuple(dict.fromkeys(spec.motion for spec in specs if spec.motion is not None))
