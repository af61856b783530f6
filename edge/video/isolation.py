"""Maps a function over files in other processes: a file that kills its process costs itself alone.

Decoders are C code that strangers feed: some files crash them, some make them take all memory. A
worker that dies is replaced, and its file is named.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from edge import log

T = TypeVar("T")
R = TypeVar("R")

_NOT_STARTED = "a process to read files in could not be started"
_AHEAD = 4  # results for each worker that may wait for an earlier one
# Started anew, not forked, since a copy of a process with threads (GStreamer, say) may hang; and
# not by `multiprocessing`, which runs the user's own program again to start one.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve({descriptor})"


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a process before it had its result. reason: for a person; process: its id."""

    reason: str
    process: int


def map_apart(work: Callable[[T], R], items: Iterable[T], workers: int = 1) -> Generator[R | Death]:
    """`work` of each item, in the order of `items`, by `workers` processes.

    work, items and results must be picklable. What `work` raises is raised here.
    """
    pool: list[_Worker[T, R]] = []
    waiting = deque(enumerate(items))
    results: dict[int, R | Death] = {}
    try:
        for index in range(len(waiting)):
            until = index + _AHEAD * workers
            _hand_out(work, pool, waiting, workers, until)
            while index not in results:
                _collect(pool, results)
                _hand_out(work, pool, waiting, workers, until)
            yield results.pop(index)
    finally:
        for worker in pool:
            worker.stop()


def _hand_out(
    work: Callable[[T], R],
    pool: list[_Worker[T, R]],
    waiting: deque[tuple[int, T]],
    workers: int,
    before: int,
) -> None:
    """Give every idle worker an item, of those before number `before`."""
    while waiting and waiting[0][0] < before:
        worker = next((each for each in pool if each.index is None), None)
        if worker is None:
            if len(pool) == workers:
                return
            worker = _Worker(work)
            pool.append(worker)
        if worker.give(*waiting[0]):
            waiting.popleft()
        else:
            pool.remove(worker)


def _collect(pool: list[_Worker[T, R]], results: dict[int, R | Death]) -> None:
    """Wait until at least one worker has started, has its result, or has died."""
    ready = wait([worker.connection for worker in pool if worker.index is not None])
    for worker in [each for each in pool if each.connection in ready]:
        if worker.starting:
            worker.confirm()
            continue
        index = worker.index
        assert index is not None
        results[index] = result = worker.take()
        if isinstance(result, Death):
            pool.remove(worker)


class _Worker(Generic[T, R]):
    """A process that takes one item at a time. index: the number of the item that it has.
    starting: it has not said yet that it can work."""

    def __init__(self, work: Callable[[T], R]) -> None:
        self.index: int | None = None
        self.starting = True
        self.connection, theirs = Pipe()
        program = _PROGRAM.format(path=sys.path, module=__name__, descriptor=theirs.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()  # so that its end is seen here
        self.connection.send((work, log.current_level()))

    def confirm(self) -> None:
        """Raises RuntimeError if it ended before it could take anything: no file is to blame."""
        try:
            self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise RuntimeError(_NOT_STARTED) from None
        self.starting = False

    def give(self, index: int, item: T) -> bool:
        """Whether it could take the item; it may have died meanwhile."""
        try:
            self.connection.send(item)
        except (BrokenPipeError, ConnectionResetError):
            self.stop()
            if self.starting:
                raise RuntimeError(_NOT_STARTED) from None
            return False
        self.index = index
        return True

    def take(self) -> R | Death:
        """Its result. Raises what its work has raised."""
        try:
            done, result = self.connection.recv()
        except (EOFError, ConnectionResetError):
            code = self._process.wait()
            self.stop()
            return Death(_cause(code), self._process.pid)
        self.index = None
        if not done:
            raise result
        return result  # type: ignore[no-any-return]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self.connection.close()


def serve(descriptor: int) -> None:
    """What a worker does until nobody asks any more. descriptor: its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks ends it
    connection = Connection(descriptor)
    work, level = connection.recv()
    log.configure(level)
    connection.send(None)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, object] = (True, work(item))
        except Exception as error:
            answer = (False, error)
        connection.send(answer)


def _cause(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the process that read it was killed, most likely since memory ran out"
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"it crashes the decoder ({ended}); convert it to another format"
