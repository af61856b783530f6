"""What one source's network remembers: a state that moves on once an interval.

A network with state was trained on steps `interval_s` apart, while frames come more often. So each
frame is computed from the state of the step before it, and the state moves on only with a frame
that is `interval_s` after the last that moved it: memory has the length that it had in training, at
any rate of frames. Recurrent fusions and networks with shifted channels use the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge.devices.inference import Network, NetworkFile, Request, State, StatefulNetwork
from edge.inputs.pace import MAX_GAP_S

_ROUNDING_S = 1e-3  # times of frames are not exact


class SteppedState:
    """The state of one source."""

    def __init__(
        self, first: Callable[[], State], interval_s: float, forget_after_s: float = np.inf
    ) -> None:
        """first: gives the state at first and after a gap. forget_after_s: a state is too old for a
        frame this long after the step that made it, as after a pause of the networks."""
        self._first, self._interval_s, self._forget_after_s = first, interval_s, forget_after_s
        self._values = first()
        self._moved_s: float | None = None  # stream time of the last step

    def at(self, time_s: float) -> State:
        """The state for a frame at stream time `time_s`."""
        if self._moved_s is not None and time_s - self._moved_s > self._forget_after_s:
            self.clear()
        return self._values

    def is_due(self, time_s: float) -> bool:
        """Whether a frame at this stream time moves the state on."""
        due_s = -np.inf if self._moved_s is None else self._moved_s + self._interval_s
        return time_s >= due_s - _ROUNDING_S

    def move(self, time_s: float, after: State) -> None:
        """Take the state after a frame that is due."""
        self._values, self._moved_s = after, time_s

    def clear(self) -> None:
        """Forget everything, after a gap."""
        self._values, self._moved_s = self._first(), None


class StreamState:
    """The state of a stream's network for one source, while inferences may still be running."""

    def __init__(self, network: StatefulNetwork, step_interval_s: float) -> None:
        self._state = state_of_stream(network, step_interval_s)
        self._moving: tuple[Request, float] | None = None  # will move the state on

    def start(self, request: Request, time_s: float) -> bool:
        """Start an inference whose input is filled, for a frame at this stream time. Returns
        whether its next state is still needed: `settle` must come before its next use."""
        self.settle()
        request.set_state(self._state.at(time_s))
        request.start()
        if self._state.is_due(time_s):
            self._moving = request, time_s
        return self._moving is not None

    def settle(self) -> None:
        """Wait for the inference that moves the state on, if one is running."""
        if self._moving is not None:
            request, time_s = self._moving
            self._state.move(time_s, request.next_state())
            self._moving = None

    def clear(self) -> None:
        """Forget everything, after a gap."""
        self._moving = None
        self._state.clear()


def state_of_stream(network: StatefulNetwork, step_interval_s: float) -> SteppedState:
    """The state of a stream's network. A step that is missing for as long as a gap is one: frames
    may have come, but the networks have not seen them."""
    return SteppedState(network.first_state, step_interval_s, step_interval_s + MAX_GAP_S)


def run_samples(
    network: Network, file: NetworkFile, inputs: NDArray[np.float32], times_s: Sequence[float]
) -> NDArray[np.float32]:
    """The logits (N, C) of one source's inputs (N, channels, H, W) at these stream times."""
    if not file.state:
        return np.stack([network.infer(values[None])[0] for values in inputs])
    stateful = cast(StatefulNetwork, network)
    state, rows = state_of_stream(stateful, file.step_interval_s), []
    for values, time_s in zip(inputs, times_s, strict=True):
        logits, after = stateful.step(values, state.at(time_s))
        if state.is_due(time_s):
            state.move(time_s, after)
        rows.append(logits)
    return np.stack(rows)
