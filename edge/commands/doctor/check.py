"""The result of one check."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Status = Literal["ok", "missing", "note", "not on this board"]
DeviceName = Literal["cpu", "cuda"]
BOTH: tuple[DeviceName, ...] = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    detail: what is installed, or what is wrong. remedy: how to fix it, with the command. needed_by:
    the devices that cannot run without it.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    needed_by: tuple[DeviceName, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.detail}: {self.remedy}" if self.remedy else self.detail

    def stops(self, device: DeviceName) -> bool:
        """Whether this check keeps `device` from running a bundle."""
        return device in self.needed_by and self.status in ("missing", "not on this board")


_STATIC_TLS = re.compile(r"([^\s()]+\.so[\w.]*): cannot allocate memory in static TLS block")


def with_load_order(check: Check) -> Check:
    """The check with the remedy for a library that must be loaded before others.

    Some libraries need memory of which each process has little, in which the first ones to be
    loaded find room. To install them again does not help.
    """
    library = _STATIC_TLS.search(check.detail)
    if library is None:
        return check
    remedy = (
        "load it first: `rm -f ~/.cache/gstreamer-1.0/registry.*.bin; "
        f"export LD_PRELOAD={library[1]}`"
    )
    return replace(check, remedy=remedy)
