"""The methods of motion. Each method is one module and one line in METHODS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import PlainValidator, SerializeAsAny, ValidationError

from edge.motion.quantise import FlowBytes
from edge.motion.spec import TVL1Spec
from edge.motion.tvl1 import TVL1Motion
from edge.spec import Spec, first_fault
from edge.video.frames import Frame


class Motion(Protocol):
    """Computes the flow from one frame to the next. Several cameras may share its workspace if
    their frames come from one thread."""

    def warm_up(self) -> None:
        """Compile everything that is compiled on first use."""

    def __call__(self, previous: Frame, current: Frame) -> FlowBytes:
        """The flow from `previous` to `current`, both at the model's size, as bytes in px per the
        method's interval_s, (2, H, W). Times must rise."""


@dataclass(frozen=True, slots=True)
class Method:
    """spec: its entry in a manifest, with `method`, `interval_s`, `bound_px` and
    `work(height, width)`, the pixel iterations of one flow. open: (spec, size_hw) -> Motion."""

    spec: type[Spec]
    open: Callable[[Any, tuple[int, int]], Motion]


METHODS: dict[str, Method] = {"tvl1": Method(TVL1Spec, TVL1Motion)}


def parse_motion(value: Any) -> Spec:
    """The spec of a method in a manifest. Raises ValueError if it is invalid or unknown."""
    if isinstance(value, Spec) and type(value) in {method.spec for method in METHODS.values()}:
        return value
    name = value.get("method") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method is {name!r}; this twostream knows {', '.join(METHODS)}")
    try:
        return METHODS[name].spec.model_validate(value)
    except ValidationError as error:
        raise ValueError(first_fault(error, name)) from None


# A union by the name of its method.
MotionSpec = Annotated[SerializeAsAny[Spec], PlainValidator(parse_motion)]


def open_motion(spec: Any, size_hw: tuple[int, int]) -> Motion:
    """The motion method that `spec` describes, for frames of `size_hw`."""
    return METHODS[spec.method].open(spec, size_hw)
