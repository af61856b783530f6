"""The error for a result that is read too late, the same on every device."""

from __future__ import annotations


class ResultExpiredError(RuntimeError):
    """The memory of a frame's result is in use for a later frame. A bug of the caller, not of the
    user's input."""

    def __init__(self, depth: int) -> None:
        super().__init__(
            f"the result of a frame must be read before {depth} more frames are submitted"
        )
