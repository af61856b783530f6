"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
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
