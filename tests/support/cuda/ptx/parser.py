"""PTX text to kernels: their parameters, shared memory and instructions in basic blocks.

Reads what NVIDIA's compilers make of this project's kernels; whatever else comes is refused with
its line. The language: NVIDIA, "Parallel Thread Execution ISA".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np

SIZES = {"pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2}
SIZES |= {"b32": 4, "u32": 4, "s32": 4, "f32": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8}
# Free bytes before and after each variable in shared memory, so that leaving one is seen.
SHARED_GAP = 256

_ENTRY = re.compile(
    r"\.visible \.entry (\w+)\s*\((.*?)\)(.*?)^\{(.*?)^\}", re.DOTALL | re.MULTILINE
)
_TARGET = re.compile(r"^\.target sm_(\d+)", re.MULTILINE)
_PARAMETER = re.compile(r"\.param \.(\w+) (?:\.ptr )?(?:\.align \d+ )?(\w+)$")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(%\w+)<\d+>;$")
_SHARED = re.compile(r"\.shared \.align (\d+) \.(\w+) (\w+)\[(\d+)\];$")
_INSTRUCTION = re.compile(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.]*)\s*(.*?);$")
_ADDRESS = re.compile(r"\[\s*([%\w]+)\s*(?:\+\s*(-?\d+))?\s*\]$")
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")
_IGNORED = (".pragma ", ".loc ")


class PtxError(Exception):
    """A line that the interpreter does not know."""


@dataclass(frozen=True, slots=True)
class Address:
    """base: a register or the name of a variable; offset: bytes."""

    base: str
    offset: int


Operand = str | Address | tuple[str, ...] | int | np.float32  # str: a register, variable or label


@dataclass(frozen=True, slots=True)
class Instruction:
    """predicate: the register that has to be true, or false where `negated`; None: always."""

    line: int
    text: str
    opcode: str
    operands: tuple[Operand, ...]
    predicate: str | None
    negated: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    offset: int
    type: str


@dataclass
class Kernel:
    """blocks: basic blocks, in the order of the text; a branch or a barrier ends one. labels: the
    block that begins there. widths: bytes of registers, by their name without its number. shared:
    the first byte and the size of each variable in shared memory."""

    name: str
    parameters: dict[str, Parameter]
    parameter_bytes: int
    widths: dict[str, int] = field(default_factory=dict)
    shared: dict[str, tuple[int, int]] = field(default_factory=dict)
    shared_bytes: int = 0
    blocks: list[list[Instruction]] = field(default_factory=lambda: [[]])
    labels: dict[str, int] = field(default_factory=dict)

    def register_bytes(self, register: str) -> int:
        return self.widths[register.rstrip("0123456789")]


@dataclass(frozen=True)
class Module:
    """capability: of the oldest chip that it is for, 87 for sm_87."""

    capability: int
    kernels: dict[str, Kernel]


def parse(text: str) -> Module:
    """Raises PtxError with the line that is not known."""
    target = _TARGET.search(text)
    if target is None:
        raise PtxError("the text has no .target")
    kernels = {}
    for match in _ENTRY.finditer(text):
        name, parameters, _, body = match.groups()
        kernel = Kernel(name, *_parameters(parameters))
        first_line = text.count("\n", 0, match.start(4)) + 1
        for number, line in enumerate(body.splitlines(), first_line):
            _read_line(kernel, number, re.sub(r"//.*", "", line).strip())
        kernels[name] = kernel
    return Module(int(target[1]), kernels)


def _parameters(text: str) -> tuple[dict[str, Parameter], int]:
    """A kernel's parameters and their bytes: each is at a multiple of its own size."""
    found, at = {}, 0
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PARAMETER.match(part)
        if match is None:
            raise PtxError(f"unknown parameter: {part}")
        size = SIZES[match[1]]
        at = -(-at // size) * size
        found[match[2]] = Parameter(at, match[1])
        at += size
    return found, at


def _read_line(kernel: Kernel, number: int, line: str) -> None:
    if not line or line.startswith(_IGNORED):
        return
    if line.endswith(":"):
        if kernel.blocks[-1]:
            kernel.blocks.append([])
        kernel.labels[line[:-1]] = len(kernel.blocks) - 1
    elif match := _REGISTERS.match(line):
        kernel.widths[match[2]] = SIZES[match[1]]
    elif match := _SHARED.match(line):
        start = -(-(kernel.shared_bytes + SHARED_GAP) // int(match[1])) * int(match[1])
        kernel.shared[match[3]] = start, int(match[4]) * SIZES[match[2]]
        kernel.shared_bytes = -(-sum(kernel.shared[match[3]]) // 16) * 16 + SHARED_GAP
    elif match := _INSTRUCTION.match(line):
        negated, predicate, opcode, operands = match.groups()
        parts = tuple(_operand(part) for part in _OPERAND.findall(operands))
        kernel.blocks[-1].append(
            Instruction(number, line, opcode, parts, predicate, negated == "!")
        )
        if opcode.split(".")[0] in ("bra", "ret", "bar"):
            kernel.blocks.append([])
    else:
        raise PtxError(f"line {number} is not known: {line}")


def _operand(text: str) -> Operand:
    if text.startswith("{"):
        return tuple(part.strip() for part in text[1:-1].split(","))
    if match := _ADDRESS.match(text):
        return Address(match[1], int(match[2] or 0))
    if text.startswith("0f"):
        return np.float32(struct.unpack(">f", bytes.fromhex(text[2:]))[0])
    return int(text) if re.match(r"-?\d+$", text) else text
