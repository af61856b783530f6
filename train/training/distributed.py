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

# The first process of a machine may take hours over the flow of its clips, while the others wait.
PATIENCE = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of this process among `world` processes. local: its rank on this machine."""

    rank: int
    world: int
    local: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process logs and writes files."""
        return self.rank == 0

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a number over all processes."""
        if self.world > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
            value /= self.world
        return value

    def from_leader(self, value: T) -> T:
        """The leading process's value, in all processes."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        found: list[T | None] = [None] * self.world
        dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    @contextmanager
    def one_a_machine_first(self) -> Iterator[None]:
        """The first process of each machine runs the body alone; then the others do."""
        if self.world > 1 and self.local > 0:
            dist.barrier()
        yield
        if self.world > 1 and self.local == 0:
            dist.barrier()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started, or run alone."""
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
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(rank, world, local, device)
    finally:
        dist.destroy_process_group()
