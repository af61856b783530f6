"""CUDA graphs: what was enqueued once is launched again and again by one call.

`RepeatedWork` decides. Its work is enqueued call by call the first time, for TensorRT wants to have
run a network once before it is captured; the second time it is captured, and from then on launched.
Where that fails, one line says so, and everything is enqueued call by call.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from edge.devices.cuda.event import Event
from edge.devices.cuda.libcuda import GPUError, call, library
from edge.devices.tensorrt.version import without_collection
from edge.errors import DeviceError

if TYPE_CHECKING:
    from edge.devices.cuda.driver import Driver, Stream

logger = logging.getLogger(__name__)

_THREAD_LOCAL = 1  # other threads may do with the GPU what they like
# How an event is recorded that the host reads.
Record = Callable[[Event, "Stream"], None]
Work = Callable[[Record], None]  # enqueues it


class Graph:
    """A captured piece of work, ready to be launched."""

    def __init__(self, work: Work, stream: Stream) -> None:
        """work: enqueues on `stream`, and on streams that wait for it and that it waits for in the
        end. Raises GPUError or what `work` raises; nothing is enqueued either way."""
        self._executable, graph = ctypes.c_void_p(), ctypes.c_void_p()
        call("cuStreamBeginCapture_v2", stream.pointer, _THREAD_LOCAL)
        try:
            with without_collection():  # memory must not be freed now
                work(Event.record_in_graph)
        except BaseException:
            library().cuStreamEndCapture(stream.pointer, ctypes.byref(graph))
            if graph:
                library().cuGraphDestroy(graph)
            raise
        call("cuStreamEndCapture", stream.pointer, ctypes.byref(graph))
        try:
            flags = ctypes.c_uint64(0)
            call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, flags)
        finally:
            library().cuGraphDestroy(graph)

    def launch(self, stream: Stream) -> None:
        call("cuGraphLaunch", self._executable, stream.pointer)

    def release(self) -> None:
        library().cuGraphExecDestroy(self._executable)


class RepeatedWork:
    """Work that is mostly the same each time. At most one graph is kept of it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._key: Hashable = None
        self._graph: Graph | None = None

    def run(self, key: Hashable, work: Work, stream: Stream) -> None:
        """Enqueue it on a stream. key: the same key means the same work. The work of the last call
        must have ended."""
        if key != self._key:
            self.release()
            self._key = key
            work(Event.record)
        elif self._graph is not None:
            self._graph.launch(stream)
        elif not (self._driver.graphs and self._begin(work, stream)):
            work(Event.record)

    def release(self) -> None:
        if self._graph is not None:
            self._graph.release()
        self._graph = self._key = None

    def _begin(self, work: Work, stream: Stream) -> bool:
        """Capture the work and launch it. False, and no graphs from now on, if that cannot be."""
        try:
            self._graph = self._driver.capture(work, stream)
            self._graph.launch(stream)
        except DeviceError as error:
            self._driver.graphs = False
            why = error.reason if isinstance(error, GPUError) else error
            logger.warning("kernels are launched one by one, without CUDA graphs: %s", why)
            if self._graph is not None:
                self._graph.release()
                self._graph = None
            return False
        return True
