"""Events by the driver's own calls: pycuda's cannot be recorded in a graph."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from edge.devices.cuda.libcuda import call, library

if TYPE_CHECKING:
    from edge.devices.cuda.driver import Stream

_BLOCKING_SYNC = 1
_IN_GRAPH = 1  # CU_EVENT_RECORD_EXTERNAL


class Event:
    """A CUDA event. A thread that waits for it sleeps instead of spinning."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        call("cuEventCreate", ctypes.byref(self.handle), _BLOCKING_SYNC)

    def record(self, stream: Stream) -> None:
        """In a capture, only what is captured can wait for it."""
        call("cuEventRecord", self.handle, stream.pointer)

    def record_in_graph(self, stream: Stream) -> None:
        """In a capture: have it recorded at each launch of the graph, for the host to read."""
        call("cuEventRecordWithFlags", self.handle, stream.pointer, _IN_GRAPH)

    def synchronize(self) -> None:
        call("cuEventSynchronize", self.handle)

    def time_since(self, earlier: Event) -> float:
        """Milliseconds on the GPU."""
        elapsed = ctypes.c_float()
        call("cuEventElapsedTime", ctypes.byref(elapsed), earlier.handle, self.handle)
        return elapsed.value

    def release(self) -> None:
        library().cuEventDestroy_v2(self.handle)
