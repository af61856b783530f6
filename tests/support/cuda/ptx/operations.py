"""What each instruction computes, for all threads at once. Those of memory, branches and barriers
are in machine.py.

fma multiplies and adds in double precision, so once in some 2**29 times its last bit is not a
GPU's. The approximate rsqrt is computed exactly; a GPU's is off by up to two units in the last
place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Any  # an array (lanes,), or one scalar of NumPy for all of them

DTYPES: dict[str, np.dtype] = {"pred": np.dtype(bool)}
for _width in (8, 16, 32, 64):
    DTYPES[f"u{_width}"] = DTYPES[f"b{_width}"] = np.dtype(f"u{_width // 8}")
    DTYPES[f"s{_width}"] = np.dtype(f"i{_width // 8}")
DTYPES["f32"] = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Operation:
    """operands: their types; the result has the type `result`."""

    compute: Callable[..., Values]
    operands: tuple[np.dtype, ...]
    result: np.dtype


OPERATIONS: dict[str, Operation] = {}


def _add(name: str, types: str, result: str, compute: Callable[..., Values]) -> None:
    """types: of the operands, with blanks between."""
    operands = tuple(DTYPES[each] for each in types.split())
    OPERATIONS[name] = Operation(compute, operands, DTYPES[result])


def _wide(name: str) -> np.dtype:
    """Twice as wide as a type."""
    return DTYPES[f"{name[0]}{2 * int(name[1:])}"]


def _divide(a: Values, b: Values) -> Values:
    """Towards zero, as C does."""
    return (a - np.fmod(a, b)) // b


def _shift_left(a: Values, count: Values) -> Values:
    bits = a.dtype.itemsize * 8
    return np.where(count < bits, a << (count % bits).astype(a.dtype), a.dtype.type(0))


def _shift_right(a: Values, count: Values) -> Values:
    """Fills with the sign of a signed number, else with zeros."""
    bits = a.dtype.itemsize * 8
    if a.dtype.kind == "i":
        return a >> np.minimum(count, bits - 1).astype(a.dtype)
    return np.where(count < bits, a >> (count % bits).astype(a.dtype), a.dtype.type(0))


def _extract_bits(a: Values, first: Values, count: Values) -> Values:
    mask = _shift_left(np.ones_like(a), count) - a.dtype.type(1)
    return _shift_right(a, first) & mask


def _fma(a: Values, b: Values, c: Values) -> Values:
    return np.add(np.multiply(a, b, dtype=np.float64), c, dtype=np.float64).astype(np.float32)


def _rsqrt(a: Values) -> Values:
    return (1 / np.sqrt(a, dtype=np.float64)).astype(np.float32)


def _truncate(name: str) -> Callable[[Values], Values]:
    """To an integer, towards zero; what is too large becomes the largest, not-a-number 0."""
    limits = np.iinfo(DTYPES[name])

    def compute(a: Values) -> Values:
        wide = np.nan_to_num(np.trunc(a, dtype=np.float64), nan=0.0)
        return np.clip(wide, limits.min, limits.max).astype(DTYPES[name])

    return compute


def _convert(name: str) -> Callable[[Values], Values]:
    return lambda a: a.astype(DTYPES[name])


def _multiply_wide(name: str) -> Callable[[Values, Values], Values]:
    return lambda a, b: np.multiply(a, b, dtype=_wide(name))


def _multiply_high(name: str) -> Callable[[Values, Values], Values]:
    bits = _wide(name).type(int(name[1:]))
    return lambda a, b: (np.multiply(a, b, dtype=_wide(name)) >> bits).astype(DTYPES[name])


_INTEGERS = ("s16", "s32", "s64")
_COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}

for _name in (*_INTEGERS, "f32"):
    _add(f"add.{_name}", f"{_name} {_name}", _name, np.add)
    _add(f"sub.{_name}", f"{_name} {_name}", _name, np.subtract)
    _add(f"neg.{_name}", _name, _name, np.negative)
for _name in _INTEGERS:
    _add(f"mul.lo.{_name}", f"{_name} {_name}", _name, np.multiply)
    _add(f"mad.lo.{_name}", f"{_name} {_name} {_name}", _name, lambda a, b, c: a * b + c)
    _add(f"div.{_name}", f"{_name} {_name}", _name, _divide)
    _add(f"rem.{_name}", f"{_name} {_name}", _name, np.fmod)
for _name in ("s16", "u16", "s32", "u32"):
    _double = f"{_name[0]}{2 * int(_name[1:])}"
    _add(f"mul.wide.{_name}", f"{_name} {_name}", _double, _multiply_wide(_name))
    _add(f"mul.hi.{_name}", f"{_name} {_name}", _name, _multiply_high(_name))
for _name in ("s32", "u32", "s64", "u64"):
    _add(f"min.{_name}", f"{_name} {_name}", _name, np.minimum)
    _add(f"max.{_name}", f"{_name} {_name}", _name, np.maximum)
for _name in ("b16", "b32", "b64", "pred"):
    _add(f"and.{_name}", f"{_name} {_name}", _name, np.bitwise_and)
    _add(f"or.{_name}", f"{_name} {_name}", _name, np.bitwise_or)
    _add(f"xor.{_name}", f"{_name} {_name}", _name, np.bitwise_xor)
    _add(f"not.{_name}", _name, _name, np.invert)
for _name in ("b16", "b32", "b64"):
    _add(f"shl.{_name}", f"{_name} u32", _name, _shift_left)
for _name in ("s16", "u16", "s32", "u32", "s64", "u64"):
    _add(f"shr.{_name}", f"{_name} u32", _name, _shift_right)
    for _test, _compare in _COMPARISONS.items():
        _add(f"setp.{_test}.{_name}", f"{_name} {_name}", "pred", _compare)
for _name in ("pred", "u16", "u32", "u64", "f32"):
    _add(f"mov.{_name}", _name, _name, lambda a: a)
for _name in ("b16", "b32", "s32", "u32", "b64", "u64", "f32"):
    _add(f"selp.{_name}", f"{_name} {_name} pred", _name, lambda a, b, p: np.where(p, a, b))
for _to, _from in (("s64", "s32"), ("u32", "u64"), ("u16", "u32"), ("u32", "u16")):
    _add(f"cvt.{_to}.{_from}", _from, _to, _convert(_to))
for _name in ("s32", "u16", "u32"):
    _add(f"cvt.rn.f32.{_name}", _name, "f32", _convert("f32"))
for _name in ("s32", "u32"):
    _add(f"cvt.rzi.{_name}.f32", "f32", _name, _truncate(_name))
_add("cvt.rni.f32.f32", "f32", "f32", np.rint)
_add("cvta.to.global.u64", "u64", "u64", lambda a: a)
_add("bfe.u32", "u32 u32 u32", "u32", _extract_bits)
_add("mul.f32", "f32 f32", "f32", np.multiply)
_add("fma.rn.f32", "f32 f32 f32", "f32", _fma)
_add("abs.f32", "f32", "f32", np.abs)
_add("min.f32", "f32 f32", "f32", np.fmin)  # of not-a-number and a number, the number
_add("max.f32", "f32 f32", "f32", np.fmax)
_add("rcp.rn.f32", "f32", "f32", lambda a: np.float32(1) / a)
_add("rsqrt.approx.f32", "f32", "f32", _rsqrt)
