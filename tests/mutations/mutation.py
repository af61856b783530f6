"""What a mutation is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A small fault: `right`, which is in the file once, becomes `wrong`. test: the narrowest that
    finds it, as pytest takes it."""

    name: str
    file: str
    right: str
    wrong: str
    test: str
