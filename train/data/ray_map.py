"""Processes clips on several machines with Ray, an optional extra.

Every machine needs twostream-edge with the extras `train` and `cluster`, and the same paths for
data and outputs. If a worker dies, Ray gives its clip to another one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from edge.errors import DataError

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 5  # of a clip whose worker died
TASKS_PER_CORE = 4  # in flight: enough to keep a core busy, few enough to hold in memory


def map_on_cluster(
    work: Callable[[T], R], items: Sequence[T], address: str
) -> Iterator[tuple[T, R]]:
    """Each item with its result of `work`, in the order in which they finish.

    address: "local" starts a cluster on this machine; "auto" or HOST:PORT joins a running one.
    Raises DataError if there is none, or the workers of an item die repeatedly.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise DataError(f"Ray cluster {address!r} cannot be joined ({reason})") from None
    try:
        yield from _run(work, items)
    except ray.exceptions.WorkerCrashedError:
        raise DataError(
            f"a worker of the Ray cluster died {RETRIES + 1} times at one clip; "
            "earlier results are kept"
        ) from None
    finally:
        ray.shutdown()


def _run(work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
    import ray

    def task(item: T) -> R:  # Ray accepts plain functions only, not partials
        return work(item)

    remote = ray.remote(max_retries=RETRIES)(task)
    waiting = list(reversed(items))
    running: dict[object, T] = {}
    limit = TASKS_PER_CORE * max(int(ray.cluster_resources().get("CPU", 1)), 1)
    while waiting or running:
        while waiting and len(running) < limit:
            item = waiting.pop()
            running[remote.remote(item)] = item
        finished, _ = ray.wait(list(running), num_returns=1)
        for reference in finished:
            yield running.pop(reference), ray.get(reference)
