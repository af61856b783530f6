"""What the doubles of TensorRT's classes have in common: no name beyond the version's own."""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class _NamedMeta(enum.EnumMeta):
    def __getattr__(cls, name: str) -> Any:
        members = cls.__dict__.get("_member_map_", {})
        if name in members:
            return members[name]
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"{cls.__name__}.{name} is not in TensorRT {cls.__doc__}")


class _Named(enum.Enum, metaclass=_NamedMeta):
    """Like pybind11's: an int() away from a number, but not one."""

    def __int__(self) -> int:
        return self.value


def make_enum(name: str, members: list[str], version: str) -> Any:
    """An enum whose missing names are AttributeErrors with class, name and version."""
    made = _Named(name, {member: index for index, member in enumerate(members)})  # type: ignore
    made.__doc__ = version
    return made


class Guarded:
    """Only the version's names can be read or set; what starts with _ is the double's own.

    A subclass per version has `_names`, those of that version, and `_label`, its name and version.
    """

    _names: ClassVar[frozenset[str]] = frozenset()
    _label: ClassVar[tuple[str, str]] = ("", "")

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            self._require(name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            self._require(name)
        object.__setattr__(self, name, value)

    @classmethod
    def _require(cls, name: str) -> None:
        if name not in cls._names:
            kind, version = cls._label
            raise AttributeError(f"{kind}.{name} is not in TensorRT {version}")
