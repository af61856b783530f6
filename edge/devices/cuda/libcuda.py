"""Functions of NVIDIA's driver that pycuda does not have. They are called beside it, in its context
and on its streams."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from edge.errors import DeviceError


class GPUError(DeviceError):
    """A call of the driver that failed. reason: which, and the driver's words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"device cuda: {reason}; stop other programs that use the GPU, and see: twostream "
            "doctor"
        )


@cache
def library() -> ctypes.CDLL:
    """Raises OSError where there is none."""
    return ctypes.CDLL("libcuda.so.1")


def call(name: str, *arguments: Any) -> None:
    """Raises GPUError if the driver does not have the function, or it fails."""
    try:
        function = getattr(library(), name)
    except AttributeError:
        raise GPUError(f"this driver has no {name}") from None
    if fault := function(*arguments):
        words = ctypes.c_char_p()
        library().cuGetErrorString(fault, ctypes.byref(words))
        told = f"CUDA error {fault}" if words.value is None else words.value.decode()
        raise GPUError(f"{name.partition('_v')[0]} failed: {told}")
