"""The adapter of optical flow hardware, on a stand-in with its format; never on the hardware."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import DeviceError
from edge.motion.method import METHODS, open_motion, parse_motion
from edge.motion.ofa import Grid, OFAMotion, ofa_spec, pixels
from edge.motion.quantise import to_pixels
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1Motion
from edge.video.frames import Frame
from tests.support.flows import moving_pair
from tests.support.hardware_flow import cells, stand_in

SIZE_HW = 62, 80  # 62 is no multiple of 4
GRIDS = get_args(Grid)


def frames(u: float, v: float, interval_s: float = 0.04) -> list[Frame]:
    chroma = np.full((SIZE_HW[0] // 2, SIZE_HW[1] // 2), 128, np.uint8)
    return [
        Frame(luma, chroma, chroma, index * interval_s, index)
        for index, luma in enumerate(moving_pair(SIZE_HW, u, v))
    ]


@pytest.mark.parametrize("grid", GRIDS)
def test_vectors_of_cells_become_flow_of_pixels(grid: Grid) -> None:
    height, width = -(-SIZE_HW[0] // grid), -(-SIZE_HW[1] // grid)
    vectors = np.zeros((height, width, 2), np.int16)
    vectors[1, 2] = 40, -8  # 1.25 px to the right, a quarter up
    flow = pixels(vectors, grid, SIZE_HW)
    assert flow.shape == (2, *SIZE_HW)
    cell = (slice(grid, 2 * grid), slice(2 * grid, 3 * grid))
    assert (flow[0][cell] == 1.25).all()
    assert (flow[1][cell] == -0.25).all()
    flow[0][cell] = flow[1][cell] = 0
    assert not flow.any()


@pytest.mark.parametrize("grid", GRIDS)
def test_its_flow_is_that_of_tvl1_to_the_step_of_the_format(grid: Grid) -> None:
    spec = ofa_spec(grid)
    pair = frames(1.6, -2.3)
    exact = to_pixels(TVL1Motion(PRESETS["fast"], SIZE_HW)(*pair), PRESETS["fast"])
    motion = OFAMotion(spec, SIZE_HW, stand_in(SIZE_HW, grid))
    motion.warm_up()
    found = to_pixels(motion(*pair), spec)
    inner = (slice(None), slice(12, -12), slice(12, -12))  # even, so that cells lose nothing
    assert np.abs(found - exact)[inner].mean() < 0.15
    assert np.median(found[0][12:-12, 12:-12]) == pytest.approx(1.6, abs=0.2)
    assert np.median(found[1][12:-12, 12:-12]) == pytest.approx(-2.3, abs=0.2)


def test_flow_is_per_the_interval_of_training() -> None:
    motion = OFAMotion(ofa_spec(1), SIZE_HW, stand_in(SIZE_HW, 1))
    once = to_pixels(motion(*frames(1.5, 0, 0.04)), ofa_spec(1))
    slower = to_pixels(motion(*frames(1.5, 0, 0.08)), ofa_spec(1))
    assert np.median(slower[0]) == pytest.approx(np.median(once[0]) / 2, abs=0.1)
    first, second = frames(0, 0)
    with pytest.raises(ValueError, match="frame times must rise"):
        motion(second, first)


def test_its_spec_goes_through_a_manifest() -> None:
    spec = ofa_spec(2)
    assert parse_motion(spec.model_dump(mode="json")) == spec
    with pytest.raises(ValueError, match="grid_px"):
        parse_motion(spec.model_dump() | {"grid_px": 3})


def test_a_machine_without_the_hardware_is_told_what_it_takes() -> None:
    with pytest.raises(DeviceError, match=r"needs optical flow hardware: VPI 3 .* OpenCV with"):
        open_motion(ofa_spec(4), SIZE_HW)
    assert METHODS["ofa"].live


class _VPI(ModuleType):
    """The part of VPI 3 that is used, as NVIDIA documents it, over the stand-in. spelling: of the
    grid's argument."""

    def __init__(self, spelling: str, calls: list[str]) -> None:
        super().__init__("vpi")
        self.Format = SimpleNamespace(Y8_ER="Y8_ER", Y8_ER_BL="Y8_ER_BL")
        self.OptFlowQuality = SimpleNamespace(LOW="low", MEDIUM="medium", HIGH="high")
        self.Backend = SimpleNamespace(CUDA="CUDA", VIC="VIC", OFA=_Context())
        self._spelling, self._calls = spelling, calls

    def asimage(self, luma: NDArray[np.uint8], form: str) -> Any:
        assert form == "Y8_ER"
        return _Image(luma)

    def optflow_dense(self, one: Any, other: Any, *, quality: str, **grid: int) -> Any:
        if set(grid) != {self._spelling}:
            raise TypeError(f"unexpected keyword argument {next(iter(grid))!r}")
        self._calls.append(quality)
        (grid_px,) = grid.values()
        assert one.form == other.form == "Y8_ER_BL"
        found = stand_in(SIZE_HW, grid_px)(one.luma, other.luma)
        return SimpleNamespace(rlock_cpu=lambda: _Context(found))


class _Context:
    def __init__(self, value: Any = None) -> None:
        self._value = value

    def __enter__(self) -> Any:
        return self._value

    def __exit__(self, *_: object) -> None:
        pass


class _Image:
    def __init__(self, luma: NDArray[np.uint8], form: str = "Y8_ER") -> None:
        self.luma, self.form = luma, form

    def gaussian_pyramid(self, levels: int, backend: str) -> _Image:
        assert (levels, backend) == (3, "CUDA")
        return self

    def convert(self, form: str, backend: str) -> _Image:
        assert backend == "VIC"
        return _Image(self.luma, form)


@pytest.mark.parametrize("spelling", ["gridsize", "gridSize"])
def test_vpi_is_called_in_either_spelling(spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the library, too: it shows the calls, not that NVIDIA takes them."""
    calls: list[str] = []
    monkeypatch.setitem(sys.modules, "vpi", _VPI(spelling, calls))
    spec, pair = ofa_spec(2), frames(2, 1)
    found = open_motion(spec, SIZE_HW)(*pair)
    expected = OFAMotion(spec, SIZE_HW, stand_in(SIZE_HW, 2))(*pair)
    np.testing.assert_array_equal(found, expected)
    assert calls == ["high"]


def test_hardware_that_gives_another_size_is_named() -> None:
    motion = OFAMotion(ofa_spec(2), SIZE_HW, stand_in(SIZE_HW, 4))
    with pytest.raises(DeviceError, match=r"gave \(16, 20, 2\) vectors, not \(31, 40, 2\)"):
        motion(*frames(0, 0))


def test_the_stand_in_has_the_steps_of_the_format() -> None:
    flow = np.full((2, 5, 7), 1.1, np.float32)
    flow[1] = -2000  # beyond S10.5
    found = cells(flow, 4)
    assert found.shape == (2, 2, 2)
    assert found.dtype == np.int16
    assert (found[..., 0] == 32).all()
    assert (found[..., 1] == -32768).all()
