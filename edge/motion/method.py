"""The motion methods. Each is one module and one line in METHODS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import PlainValidator, SerializeAsAny, ValidationError

from edge.motion.codec import CodecMotion, CodecSpec
from edge.motion.ofa import OFAMotion, OFASpec
from edge.motion.published import PublishedSpec, refuse
from edge.motion.quantise import FlowBytes
from edge.motion.spec import TVL1Spec
from edge.motion.tvl1 import TVL1Motion
from edge.spec import Spec, first_fault
from edge.video.frames import Frame


class Motion(Protocol):
    """Computes the flow from one frame to the next. It keeps no state of a source, so sources may
    share it within one thread."""

    def warm_up(self) -> None:
        """Compile what would be compiled on first use."""

    def __call__(self, previous: Frame, current: Frame) -> FlowBytes:
        """The flow from `previous` to `current`, both at the model's size: (2, H, W) uint8, in px
        per the spec's interval_s (see edge.motion.quantise). Raises ValueError if times do not
        rise."""


@dataclass(frozen=True, slots=True)
class Method:
    """spec: the method's section in a manifest, with `method`, `interval_s`, `bound_px` and
    `work(height, width)`, the pixel iterations of one flow. open: (spec, size_hw) -> Motion.
    needs_vectors: it uses the motion vectors of frames, which sources read only if told to. live:
    whether it can be measured on frames; else it comes with a data set."""

    spec: type[Spec]
    open: Callable[[Any, tuple[int, int]], Motion]
    needs_vectors: bool = False
    live: bool = True


METHODS: dict[str, Method] = {
    "tvl1": Method(TVL1Spec, TVL1Motion),
    "codec": Method(CodecSpec, CodecMotion, needs_vectors=True),
    "ofa": Method(OFASpec, OFAMotion),
    "published": Method(PublishedSpec, refuse, live=False),
}


def parse_motion(value: Any) -> Spec:
    """Parse the section of a motion method in a manifest. Raises ValueError if the method is
    unknown or a value is invalid."""
    if isinstance(value, Spec) and type(value) in {method.spec for method in METHODS.values()}:
        return value
    name = value.get("method") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method is {name!r}; this twostream knows {', '.join(METHODS)}")
    try:
        return METHODS[name].spec.model_validate(value)
    except ValidationError as error:
        raise ValueError(first_fault(error, name)) from None


# A union, discriminated by the name of the method.
MotionSpec = Annotated[SerializeAsAny[Spec], PlainValidator(parse_motion)]


def open_motion(spec: Any, size_hw: tuple[int, int]) -> Motion:
    """Open the motion method of a spec for frames of `size_hw`."""
    return METHODS[spec.method].open(spec, size_hw)


def is_live(spec: Any) -> bool:
    """Whether the motion method of a spec can be measured on frames."""
    return METHODS[spec.method].live


def need_vectors(specs: Iterable[Any]) -> bool:
    """Whether a motion method of these specs uses the motion vectors of frames."""
    return any(METHODS[spec.method].needs_vectors for spec in specs)
