"""Training in several processes started by torchrun, on one machine or many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# The first process of a machine may compute the flow of its clips for hours while the others wait.
TIMEOUT = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the processes of a run. rank: its number, of `world`; local: its number
    among those on this machine; device: that it computes on.
    """

    rank: int
    world: int
    local: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process logs and writes files."""
        return self.rank == 0

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a scalar tensor over all processes."""
        if self.world > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
            value /= self.world
        return value

    def from_leader(self, value: T) -> T:
        """The leading process's value, in all processes. It must be picklable."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks. They must be picklable."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    @contextmanager
    def one_a_machine_first(self) -> Iterator[None]:
        """Run the body in the first process of each machine, and then in its other processes."""
        if self.world > 1 and self.local > 0:
            dist.barrier()
        yield
        if self.world > 1 and self.local == 0:
            dist.barrier()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """The processes that torchrun started, or this one alone; leaves their group at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(0, 1, 0, device)
        return
    # gloo beside nccl: object collectives and barriers then need no GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(rank, world, local, device)
    finally:
        dist.destroy_process_group()
