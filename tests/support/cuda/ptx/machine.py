"""Runs a kernel's PTX with NumPy, for all threads of some blocks at once, and checks what it does.

Threads that are at the same place of the text go on together, those that are furthest behind
first. Each access to memory is checked (memory.py); a barrier that some threads of a block do not
reach, or reach elsewhere, is a fault, and so is a register that nothing has set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.support.cuda.ptx.memory import UNWRITTEN, Access, AccessError, Groups, Memory
from tests.support.cuda.ptx.operations import DTYPES, Values
from tests.support.cuda.ptx.parser import Address, Instruction
from tests.support.cuda.ptx.program import SHARED_BASE, Program, sources

LANES = 8192  # threads that run at once, but whole blocks: few enough for the processor's cache
Lanes = NDArray[np.intp]


class KernelFault(Exception):
    """What a kernel did that it must not, with the block, the thread and the line."""


@dataclass(frozen=True)
class Launch:
    """grid: in blocks (x, y); block: in threads (x, y)."""

    program: Program
    grid: tuple[int, int]
    block: tuple[int, int]
    parameters: bytes


class Machine:
    """Runs kernels on one global memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._first_group = 1

    def run(self, launch: Launch) -> None:
        """Raises KernelFault."""
        count = launch.grid[0] * launch.grid[1]
        first, self._first_group = self._first_group, self._first_group + count + 1
        at_once = max(LANES // (launch.block[0] * launch.block[1]), 1)
        with np.errstate(all="ignore"):
            for start in range(0, count, at_once):
                numbers = np.arange(start, min(start + at_once, count))
                tags = np.repeat(first + numbers, launch.block[0] * launch.block[1])
                groups = Groups(tags.astype(np.int32), first, first + count, "another block")
                _Run(launch, numbers, self._memory, groups).run()


class _Run:
    """Some blocks of a launch, by their numbers. groups: in global memory."""

    def __init__(
        self, launch: Launch, numbers: NDArray[np.intp], memory: Memory, groups: Groups
    ) -> None:
        self._launch, self._program = launch, launch.program
        self._threads = launch.block[0] * launch.block[1]
        self._count = len(numbers) * self._threads
        self._thread = np.tile(np.arange(self._threads), len(numbers))  # (lanes,)
        self._block = np.repeat(numbers, self._threads)
        self._accesses = _Accesses(launch, memory, groups, self._thread)
        self._registers = self._special_registers()

    def _special_registers(self) -> dict[str, Values]:
        (block_w, block_h), (grid_w, grid_h) = self._launch.block, self._launch.grid
        values = {
            "%tid.x": self._thread % block_w,
            "%tid.y": self._thread // block_w,
            "%ctaid.x": self._block % grid_w,
            "%ctaid.y": self._block // grid_w,
            "%ntid.x": np.uint32(block_w),
            "%ntid.y": np.uint32(block_h),
            "%nctaid.x": np.uint32(grid_w),
            "%nctaid.y": np.uint32(grid_h),
        }
        return {name: value.astype(np.uint32) for name, value in values.items()}

    def run(self) -> None:
        """Raises KernelFault."""
        pending = {0: [np.arange(self._count)]}  # by basic block
        waiting: dict[int, list[Lanes]] = {}
        while pending or waiting:
            if not pending:
                self._pass_barrier(waiting)
                pending, waiting = waiting, {}
            number = min(pending)
            parts = pending.pop(number)
            lanes = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
            last = self._program.blocks[number].last
            then = waiting if last is not None and last.opcode == "bar.sync" else pending
            for following, part in self._run_block(number, lanes):
                then.setdefault(following, []).append(part)

    def _pass_barrier(self, waiting: dict[int, list[Lanes]]) -> None:
        """waiting: by the basic block after their barrier."""
        for following, parts in waiting.items():
            lanes = np.concatenate(parts)
            place = lanes // self._threads
            here = np.bincount(place)
            some = (here > 0) & (here < self._threads)
            if some.any():
                lane = lanes[place == some.argmax()][0]
                barrier = self._program.blocks[following - 1].last
                why = f"{here[some][0]} of {self._threads} threads reach this barrier"
                raise self._fault(int(lane), barrier, why)
        self._accesses.pass_barrier()

    def _run_block(self, number: int, lanes: Lanes) -> list[tuple[int, Lanes]]:
        """Which lanes go on with which block; those that have ended are left out."""
        block, accesses = self._program.blocks[number], self._accesses
        everyone = len(lanes) == self._count
        accesses.begin(lanes)

        def get(name: str) -> Values:
            value = self._registers[name]
            return value if everyone or value.ndim == 0 else value[lanes]

        try:
            condition, values = block.run(accesses, get)
        except AccessError as error:
            lane = int(lanes[error.lane])
            raise self._fault(lane, accesses.instruction, str(error)) from None
        except KeyError as error:
            (name,) = error.args
            reader = next(each for each in block.instructions if name in sources(each))
            why = f"it reads {name}, which nothing has set"
            raise self._fault(int(lanes[0]), reader, why) from None
        for name, value in zip(block.outputs, values, strict=True):
            self._registers[name] = value if everyone else self._merge(name, value, lanes)
        return self._following(number, lanes, condition)

    def _merge(self, name: str, value: Values, lanes: Lanes) -> Values:
        """A register whose value changes in some lanes alone."""
        old = self._registers.get(name)
        whole = np.zeros(self._count, value.dtype)
        if old is not None:
            whole[:] = old.view(value.dtype)
        whole[lanes] = value
        return whole

    def _following(self, number: int, lanes: Lanes, condition: Values) -> list[tuple[int, Lanes]]:
        last = self._program.blocks[number].last
        if last is not None and last.opcode == "ret":
            return []
        if last is None or last.opcode == "bar.sync":
            return [(number + 1, lanes)]
        target = self._program.kernel.labels[str(last.operands[0])]
        if condition is None:
            return [(target, lanes)]
        goes = np.broadcast_to(condition ^ last.negated, lanes.shape)
        ways = [(target, lanes[goes]), (number + 1, lanes[~goes])]
        return [(following, part) for following, part in ways if len(part)]

    def _fault(self, lane: int, instruction: Instruction | None, why: str) -> KernelFault:
        assert instruction is not None
        block_w, grid_w = self._launch.block[0], self._launch.grid[0]
        block, thread = int(self._block[lane]), int(self._thread[lane])
        return KernelFault(
            f"kernel {self._program.kernel.name}, block ({block % grid_w}, {block // grid_w}), "
            f"thread ({thread % block_w}, {thread // block_w}): {why}; "
            f"line {instruction.line}: {instruction.text}"
        )


class _Accesses:
    """Of some blocks of a launch, to all memory. instruction: the newest that made one."""

    def __init__(
        self, launch: Launch, memory: Memory, groups: Groups, thread: NDArray[np.intp]
    ) -> None:
        """thread: the number of each lane in its block."""
        self.instruction: Instruction | None = None
        self._launch, self._thread = launch, thread
        self._threads = launch.block[0] * launch.block[1]
        self._shared_bytes = launch.program.kernel.shared_bytes
        self._groups = {"global": groups}
        self._memories = {"global": memory, "shared": self._shared_memory()}
        self._phase = 0  # from barrier to barrier
        self.pass_barrier()

    def _shared_memory(self) -> Memory:
        states = np.zeros((len(self._thread) // self._threads, self._shared_bytes), np.uint8)
        for start, length in self._launch.program.kernel.shared.values():
            states[:, start : start + length] = UNWRITTEN
        return Memory(SHARED_BASE, np.zeros(states.size, np.uint8), states.reshape(-1))

    def pass_barrier(self) -> None:
        """What threads did in shared memory before is no race any more."""
        first = 1 + self._phase * (self._threads + 1)
        tags, several = (first + self._thread).astype(np.int32), first + self._threads
        another = "another thread, without a barrier between"
        self._groups["shared"] = Groups(tags, first, several, another)
        self._phase += 1

    def begin(self, lanes: Lanes) -> None:
        """The accesses that follow are made by these."""
        self._lanes = lanes
        self._now: dict[str, Groups] = {}  # the groups of `lanes`, by space

    def parameter(self, offset: int, dtype: np.dtype) -> list[Values]:
        return [np.frombuffer(self._launch.parameters, dtype, 1, offset)[0]]

    def load(self, instruction: Instruction, base: Values) -> list[Values]:
        """base: the address, but for the instruction's offset. Raises AccessError."""
        targets, source = instruction.operands
        assert isinstance(source, Address)
        count = len(targets) if isinstance(targets, tuple) else 1
        access, addresses, groups = self._begin(instruction, base, source.offset, count)
        return access.read(addresses, groups)

    def store(self, instruction: Instruction, base: Values, values: tuple[Values, ...]) -> None:
        """values: the neighbours. Raises AccessError."""
        target = instruction.operands[0]
        assert isinstance(target, Address)
        access, addresses, groups = self._begin(instruction, base, target.offset, len(values))
        access.write(addresses, values, groups)

    def _begin(
        self, instruction: Instruction, base: Values, offset: int, count: int
    ) -> tuple[Access, NDArray[np.int64], Groups]:
        self.instruction = instruction
        _, space, *_, kind = instruction.opcode.split(".")
        memory, grain = self._memories[space], self._launch.program.grains[space]
        addresses = base.astype(np.int64) + np.int64(offset)
        if addresses.ndim == 0:
            addresses = np.full(len(self._lanes), addresses)
        if space == "shared":
            inside = (addresses - SHARED_BASE).view(np.uint64)
            if inside.max() >= self._shared_bytes:
                raise AccessError(int(inside.argmax()), "it leaves the block's shared memory")
            addresses += self._lanes // self._threads * self._shared_bytes
        if space not in self._now:
            self._now[space] = self._groups[space].of(self._lanes)
        return memory.access(DTYPES[kind], count, grain), addresses, self._now[space]
