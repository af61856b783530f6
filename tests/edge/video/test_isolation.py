"""A process that dies takes its item along and nothing else."""

from __future__ import annotations

import os
import signal
import time

import pytest

from edge.errors import DataError
from edge.video.isolation import Death, map_apart


def square(number: int) -> int:
    """Of 3 and 4 the process dies, as of a crash and of the kernel when memory is short."""
    if number in (3, 4):
        os.kill(os.getpid(), signal.SIGSEGV if number == 3 else signal.SIGKILL)
    if number == 7:
        os._exit(5)
    return number * number


def refuse(number: int) -> int:
    raise DataError(f"{number} is refused")


def process_of(number: int) -> int:
    time.sleep(0.05 * (number % 2))  # so that later items are done before earlier ones
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_only_what_killed_it_is_lost(workers: int) -> None:
    results = list(map_apart(square, range(10), workers))
    assert [r for r in results if not isinstance(r, Death)] == [0, 1, 4, 25, 36, 64, 81]
    for index, words in ((3, "SIGSEGV"), (4, "killed"), (7, "exit code 5")):
        death = results[index]
        assert isinstance(death, Death)
        assert words in death.reason


@pytest.mark.slow
def test_workers_are_used_again_and_share_the_work() -> None:
    processes = [p for p in map_apart(process_of, range(12), 2) if isinstance(p, int)]
    assert len(processes) == 12
    assert len(set(processes)) == 2
    assert os.getpid() not in processes


@pytest.mark.slow
def test_what_the_work_raises_is_raised_here() -> None:
    with pytest.raises(DataError, match="5 is refused"):
        list(map_apart(refuse, [5, 6]))


@pytest.mark.slow
def test_a_caller_who_stops_leaves_no_process() -> None:
    results = map_apart(process_of, range(100))
    process = next(results)
    assert isinstance(process, int)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_nothing_to_do_starts_nothing() -> None:
    assert list(map_apart(square, [])) == []
