"""A kernel's basic blocks as Python functions: a line is an instruction, for all threads."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.cuda.ptx.operations import DTYPES, OPERATIONS, Operation, Values
from tests.support.cuda.ptx.parser import Address, Instruction, Kernel, Operand, PtxError

SHARED_BASE = 1 << 12  # so that no variable is at address 0


@dataclass(frozen=True)
class Block:
    """run: (access, get) -> the branch's condition, and the values of `outputs`. access: has `load`
    and `store`, see machine.py; get: a register's value by its name. outputs: the registers that
    other blocks, or the next round of this one, may read. last: what ends it."""

    instructions: list[Instruction]
    outputs: tuple[str, ...]
    run: Callable[..., tuple[Values, tuple[Values, ...]]]
    last: Instruction | None


class Program:
    """A kernel, made ready to run. grains: bytes of the narrowest access, by space. Raises PtxError
    for an instruction that is not known."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        for block in kernel.blocks:
            for instruction in block:
                _check(instruction, kernel)
        inputs = set().union(*(_exposed(block) for block in kernel.blocks))
        self.blocks = [self._block(block, inputs) for block in kernel.blocks]
        self.grains = {space: self._grain(space) for space in ("global", "shared")}

    def _block(self, instructions: list[Instruction], inputs: set[str]) -> Block:
        written = {name for each in instructions for name in _targets(each)}
        outputs = tuple(sorted(written & inputs))
        writer = _Writer(self.kernel)
        for instruction in instructions:
            writer.add(instruction)
        last = instructions[-1] if instructions and _ends(instructions[-1]) else None
        condition = None if last is None else last.predicate
        return Block(instructions, outputs, writer.compile(condition, outputs), last)

    def _grain(self, space: str) -> int:
        accesses = (f"ld.{space}.", f"st.{space}.")
        widths = [
            _dtype(each).itemsize
            for block in self.kernel.blocks
            for each in block
            if each.opcode.startswith(accesses)
        ]
        return min(widths, default=1)


def _ends(instruction: Instruction) -> bool:
    return instruction.opcode.split(".")[0] in ("bra", "ret", "bar")


def _dtype(instruction: Instruction) -> np.dtype:
    return DTYPES[instruction.opcode.rpartition(".")[2]]


_ACCESS = re.compile(r"(ld\.(param|global|shared)|st\.(global|shared))(\.v[24])?\.[busf]\d+$")


def _check(instruction: Instruction, kernel: Kernel) -> None:
    opcode, operands = instruction.opcode, instruction.operands
    operation = OPERATIONS.get(opcode)
    if operation is not None:
        known = len(operands) == len(operation.operands) + 1
    elif opcode in ("bra", "bra.uni"):
        known = operands[0] in kernel.labels
    elif opcode == "bar.sync":
        known = operands == (0,)
    else:
        known = opcode == "ret" or bool(_ACCESS.match(opcode))
    if not known or (instruction.predicate and not opcode.startswith("bra")):
        raise PtxError(f"line {instruction.line} is not known: {instruction.text}")


def _registers(operand: Operand) -> tuple[str, ...]:
    if isinstance(operand, Address):
        operand = operand.base
    names = operand if isinstance(operand, tuple) else (operand,)
    return tuple(name for name in names if isinstance(name, str) and name.startswith("%"))


def _targets(instruction: Instruction) -> tuple[str, ...]:
    writes = instruction.opcode in OPERATIONS or instruction.opcode.startswith("ld.")
    return _registers(instruction.operands[0]) if writes else ()


def sources(instruction: Instruction) -> set[str]:
    """The registers that an instruction reads."""
    operands = instruction.operands[1 if _targets(instruction) else 0 :]
    read = {name for operand in operands for name in _registers(operand)}
    return read | ({instruction.predicate} if instruction.predicate else set())


def _exposed(instructions: list[Instruction]) -> set[str]:
    """The registers that a block reads before it sets them."""
    exposed: set[str] = set()
    known: set[str] = set()
    for instruction in instructions:
        exposed |= sources(instruction) - known
        known.update(_targets(instruction))
    return exposed


def _as(value: Values, dtype: np.dtype) -> Values:
    """The bits of a register as a type of its width."""
    return value if value.dtype == dtype else value.view(dtype)


def _variable(register: str) -> str:
    return re.sub(r"\W", "_", register)


class _Writer:
    """Writes a block's function. Registers are variables, whose types are known from where they are
    set; a register that comes from another block is got where it is first read."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._lines: list[str] = []
        self._names: dict[str, Any] = {"as_": _as}
        self._types: dict[str, np.dtype | None] = {}  # None: set by another block

    def add(self, instruction: Instruction) -> None:
        operation = OPERATIONS.get(instruction.opcode)
        if operation is not None:
            self._add_operation(operation, instruction.operands)
        elif instruction.opcode.startswith("ld."):
            self._add_load(instruction)
        elif instruction.opcode.startswith("st."):
            self._add_store(instruction)

    def compile(
        self, condition: str | None, outputs: tuple[str, ...]
    ) -> Callable[..., tuple[Values, tuple[Values, ...]]]:
        goes = "None" if condition is None else self._read(condition, DTYPES["pred"])
        kept = "".join(f"{_variable(name)}, " for name in outputs)
        lines = ["def block(access, get):", *self._lines, f"return {goes}, ({kept})"]
        exec("\n    ".join(lines), self._names)
        return self._names["block"]  # type: ignore[no-any-return]

    def _name(self, value: object) -> str:
        name = f"value_{len(self._names)}"
        self._names[name] = value
        return name

    def _read(self, operand: Operand, dtype: np.dtype) -> str:
        """An expression: the operand as a type."""
        if isinstance(operand, str) and operand in self._kernel.shared:
            return self._name(dtype.type(SHARED_BASE + self._kernel.shared[operand][0]))
        if isinstance(operand, int):
            return self._name(np.array(operand).astype(dtype)[()])  # -1: the largest unsigned one
        if not isinstance(operand, str):
            return self._name(operand)
        variable = _variable(operand)
        if operand not in self._types:
            self._lines.append(f"{variable} = get({operand!r})")
            self._types[operand] = None
        if self._types[operand] is None:
            self._lines.append(f"{variable} = as_({variable}, {self._name(dtype)})")
            self._types[operand] = dtype
        same = self._types[operand] == dtype
        return variable if same else f"{variable}.view({self._name(dtype)})"

    def _set(self, register: str, dtype: np.dtype, expression: str) -> None:
        self._lines.append(f"{_variable(register)} = {expression}")
        self._types[register] = dtype

    def _add_operation(self, operation: Operation, operands: tuple[Operand, ...]) -> None:
        read = [
            self._read(operand, dtype)
            for operand, dtype in zip(operands[1:], operation.operands, strict=True)
        ]
        compute = self._name(operation.compute)
        self._set(str(operands[0]), operation.result, f"{compute}({', '.join(read)})")

    def _address(self, address: Address) -> str:
        of_register = address.base.startswith("%")
        width = self._kernel.register_bytes(address.base) if of_register else 8
        return self._read(address.base, np.dtype(f"u{width}"))

    def _add_load(self, instruction: Instruction) -> None:
        targets, source = instruction.operands
        assert isinstance(source, Address)
        dtype, names = _dtype(instruction), targets if isinstance(targets, tuple) else (targets,)
        if instruction.opcode.startswith("ld.param."):
            offset = self._kernel.parameters[source.base].offset + source.offset
            load = f"access.parameter({offset}, {self._name(dtype)})"
        else:
            load = f"access.load({self._name(instruction)}, {self._address(source)})"
        self._lines.append(f"loaded = {load}")
        for k, name in enumerate(names):
            width = self._kernel.register_bytes(str(name))
            widened = np.dtype(f"{dtype.kind}{width}")
            wide = "" if widened == dtype else f".astype({self._name(widened)})"
            self._set(str(name), widened, f"loaded[{k}]{wide}")

    def _add_store(self, instruction: Instruction) -> None:
        target, operands = instruction.operands
        assert isinstance(target, Address)
        names = operands if isinstance(operands, tuple) else (operands,)
        values = "".join(f"{self._stored(name, _dtype(instruction))}, " for name in names)
        address = self._address(target)
        self._lines.append(f"access.store({self._name(instruction)}, {address}, ({values}))")

    def _stored(self, operand: Operand, dtype: np.dtype) -> str:
        """Of a register that is wider than what is stored, the lowest bytes."""
        if not _registers(operand):
            return self._read(operand, dtype)
        width = self._kernel.register_bytes(str(operand))
        if width == dtype.itemsize:
            return self._read(operand, dtype)
        return f"{self._read(operand, np.dtype(f'u{width}'))}.astype({self._name(dtype)})"
