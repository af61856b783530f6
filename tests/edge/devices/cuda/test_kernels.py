"""The CUDA kernels, run on the CPU, against the code that they must equal: from their own source,
and from the PTX that NVIDIA's compilers make of it.

The stand-in for the GPU checks each access to memory: see tests/support/cuda/libcuda and ptx.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.devices.cuda.driver import Driver, open_driver
from edge.devices.cuda.kernels import launches
from edge.devices.cuda.kernels.device_plan import (
    RingPlan,
    StackPlan,
    ViewPlan,
    rgb_coefficients,
)
from edge.devices.cuda.kernels.flow_plan import (
    FlowPlan,
    allocate_luma,
    split_iterations,
    tiles,
)
from edge.errors import DeviceError
from edge.motion.quantise import quantise
from edge.motion.spec import PRESETS, TVL1Spec
from edge.motion.stack import normalise_bytes, stack_flows
from edge.motion.tvl1 import TVL1
from edge.video.area_weights import area_weights
from edge.video.frames import Frame, Geometry, Normalisation, resize_to_model, rgb_tensor
from tests.support.cuda.gpu import GPU, KERNELS, Plug
from tests.support.cuda.on_gpu import flow_on_gpu, place, quantise_values, read, run
from tests.support.flows import (
    FLOW_ROOT,
    PAIRS,
    endpoint_error,
    moving_pair,
    read_flo,
    read_luma,
)
from tests.support.frames import noise_frame

ORDERS = (0, 1, 2, 3)  # as numbered, reversed, two shuffles
Planes = NDArray[np.uint8]


@pytest.fixture(params=KERNELS)
def gpu(plug: Plug, request: pytest.FixtureRequest) -> GPU:
    return plug(kernels=request.param)


SOURCE, *PTX = KERNELS
# For tests that PTX has no part in, or that would take minutes.
on_source = pytest.mark.parametrize("gpu", [SOURCE], indirect=True)
on_ptx = pytest.mark.parametrize("gpu", PTX, indirect=True)
slow_on_ptx = pytest.mark.parametrize(
    "gpu", [SOURCE, *(pytest.param(each, marks=pytest.mark.slow) for each in PTX)], indirect=True
)


@pytest.fixture
def driver(gpu: GPU) -> Iterator[Driver]:
    with open_driver() as opened:
        yield opened


def check_flow(driver: Driver, spec: TVL1Spec, size_hw: tuple[int, int]) -> None:
    pair = moving_pair(size_hw, 2.3, -1.2)
    found, expected = flow_on_gpu(driver, spec, *pair), TVL1(spec, size_hw)(*pair)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    if min(size_hw) > 90:
        assert np.abs(found[0, 10:-10, 10:-10] - 2.3).mean() < 0.1


ODD_SIZES = [(97, 131), (64, 64), (65, 129), (33, 20), (5, 1), (1, 1)]


@pytest.mark.slow
@on_source
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size_hw", ODD_SIZES)
def test_flow_is_that_of_the_cpu_at_odd_sizes(
    size_hw: tuple[int, int], preset: str, driver: Driver
) -> None:
    check_flow(driver, PRESETS[preset], size_hw)


@on_ptx
@pytest.mark.parametrize(
    ("size_hw", "preset"),
    [
        *(pytest.param(size_hw, "fast", marks=pytest.mark.slow) for size_hw in ODD_SIZES[:-1]),
        (ODD_SIZES[-1], "fast"),
        pytest.param((33, 20), "accurate", marks=pytest.mark.slow),
    ],
)
def test_flow_by_ptx_is_that_of_the_cpu_at_odd_sizes(
    size_hw: tuple[int, int], preset: str, driver: Driver
) -> None:
    check_flow(driver, PRESETS[preset], size_hw)


@pytest.mark.slow
@on_source
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", PAIRS)
def test_flow_is_that_of_the_cpu_on_real_pairs(name: str, preset: str, driver: Driver) -> None:
    """`accurate` on FlyingChairs has pixels that sit between two solutions: there the CPU's own
    flow moves as much when theta changes by 1e-7 up or down, and that is the bound. How much that
    is depends on the processor: 0.19 to 0.25 px have been seen."""
    if not FLOW_ROOT.is_dir():
        pytest.skip(f"no flow ground truth at {FLOW_ROOT}; set FLOW_ROOT")
    first, second = (read_luma(FLOW_ROOT / file) for file in PAIRS[name][:2])
    truth, spec = read_flo(FLOW_ROOT / PAIRS[name][2]), PRESETS[preset]
    found, expected = (
        flow_on_gpu(driver, spec, first, second),
        TVL1(spec, first.shape)(first, second),
    )
    nudges = [spec.model_copy(update={"theta": spec.theta * (1 + e)}) for e in (1e-7, -1e-7)]
    moved = [np.abs(TVL1(nudged, first.shape)(first, second) - expected) for nudged in nudges]
    restless = max(np.quantile(change, 0.99) for change in moved)
    apart = np.abs(found - expected)
    assert apart.mean() < 0.02
    assert np.quantile(apart, 0.99) < max(0.1, 1.6 * restless)
    assert (restless > 0.1) == ((name, preset) == ("flyingchairs", "accurate"))
    assert abs(endpoint_error(found, truth) - endpoint_error(expected, truth)) < 0.005


@st.composite
def noise_flows(draw: st.DrawFn, largest: int) -> tuple[TVL1Spec, Planes]:
    """Of noise, with one warp: more of them make what was rounded apart grow without end."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    changes = {
        "scales": draw(st.integers(1, 3)),
        "iterations": draw(st.integers(1, 31)),
        "warps": 1,
    }
    noise = np.random.default_rng(draw(st.integers(0, 2**16)))
    spec = PRESETS["fast"].model_copy(update=changes)
    return spec, noise.integers(0, 256, (2, height, width), np.uint8)


def check_noise(driver: Driver, spec: TVL1Spec, pair: Planes) -> None:
    found = flow_on_gpu(driver, spec, *pair)
    np.testing.assert_allclose(found, TVL1(spec, pair.shape[1:])(*pair), atol=0.02)


@on_source
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flow=noise_flows(90))
def test_any_size_and_length_is_that_of_the_cpu(
    flow: tuple[TVL1Spec, Planes], driver: Driver
) -> None:
    check_noise(driver, *flow)


@pytest.mark.slow
@on_ptx
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flow=noise_flows(90))
def test_any_size_and_length_by_ptx_is_that_of_the_cpu(
    flow: tuple[TVL1Spec, Planes], driver: Driver
) -> None:
    check_noise(driver, *flow)


@on_ptx
def test_no_two_tiles_write_the_same_pixel(driver: Driver) -> None:
    """In a launch without the median they would write the same value, which no result shows: the
    interpreter does."""
    changes = {"scales": 1, "warps": 1, "iterations": 11}  # two launches, of 6 and 5
    check_flow(driver, PRESETS["fast"].model_copy(update=changes), (65, 129))


@pytest.mark.slow
@on_source
def test_flow_does_not_depend_on_the_order_of_threads(gpu: GPU, driver: Driver) -> None:
    """Nor do threads share memory without a barrier between, which breaks the context here."""
    pair = moving_pair((75, 139), 1.5, 0.5)  # several tiles and strips, none of them whole
    flows = []
    for order in ORDERS:
        gpu.set_thread_order(order)
        flows.append(flow_on_gpu(driver, PRESETS["fast"], *pair))
    for other in flows[1:]:
        np.testing.assert_array_equal(other, flows[0])


@pytest.mark.slow
@pytest.mark.parametrize("barrier", range(5))
def test_a_missing_barrier_is_found(
    barrier: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: GPU
) -> None:
    parts = launches.source("tvl1.cu").split("__syncthreads();")
    assert len(parts) == 6
    broken = "__syncthreads();".join(parts[: barrier + 1]) + "__syncthreads();".join(
        ["", *parts[barrier + 1 :]]
    ).removeprefix("__syncthreads();")
    for file in launches.FILES:
        (tmp_path / file).write_text(launches.source(file))
    (tmp_path / "tvl1.cu").write_text(broken)
    monkeypatch.setattr(launches, "FOLDER", tmp_path)
    pair = moving_pair((75, 139), 1.5, 0.5)
    with pytest.raises(DeviceError, match="illegal memory access"), open_driver() as driver:
        flow_on_gpu(driver, PRESETS["fast"], *pair)
    assert "without a barrier between" in gpu.fault


def test_the_amount_of_work_is_fixed() -> None:
    addresses = count(256, 256)
    luma = allocate_luma((224, 224), lambda size: next(addresses))
    plan = FlowPlan(PRESETS["fast"], (224, 224), luma, lambda size: next(addresses))
    for slot in range(2):
        names = [launch.kernel for launch in (*plan.pyramids[slot], *plan.flows[slot])]
        counts = {name: names.count(name) for name in names}
        assert counts == {"halve": 3, "upsample": 3, "linearise": 12, "iterate": 12}
    assert split_iterations(30) == [10, 10, 10]
    assert split_iterations(11) == [6, 5]
    assert [tiles(side, 10) for side in (1, 64, 65, 107, 108, 224)] == [1, 1, 2, 2, 3, 5]


# Preprocessing -----------------------------------------------------------------------------------


def kernel_view(
    driver: Driver, frame: Frame, geometry: Geometry, normalisation: Normalisation
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Analysed luma and RGB tensor of a frame, by the kernels."""
    height, width = geometry.size_hw
    luma, rgb = driver.allocate(4 * height * width), driver.allocate(12 * height * width)
    plan = ViewPlan(frame.size_hw, frame.full_range, frame.pixel_aspect, geometry, driver.place)
    packed = np.zeros(plan.frame_bytes, np.uint8)
    plan.pack(frame, packed)
    colour = driver.place(rgb_coefficients(frame.matrix, normalisation))
    source = driver.place(packed)
    run(driver, [plan.luma(source, luma), plan.rgb(source, luma, colour, rgb)])
    return (
        read(driver, luma, (height, width), np.float32),
        read(driver, rgb, (3, height, width), np.float32),
    )


NORMALISATION = Normalisation(mean=(0.4, 0.45, 0.5), std=(0.2, 0.25, 0.3))


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize(
    "size_hw",
    [
        (240, 320),
        (1080, 1920),
        (360, 640),
        (448, 598),
        (144, 176),
        (241, 323),
        (224, 224),
        (200, 400),
    ],
)
@slow_on_ptx
def test_a_frame_becomes_what_the_cpu_makes_of_it(
    size_hw: tuple[int, int], full_range: bool, driver: Driver
) -> None:
    geometry = Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area")
    matrix = "bt709" if size_hw[0] > 576 else "bt601"
    frame = noise_frame(*size_hw, full_range=full_range, matrix=matrix)
    luma, rgb = kernel_view(driver, frame, geometry, NORMALISATION)
    expected = resize_to_model(frame, geometry)
    apart = np.abs(luma - expected.y)
    assert apart.max() <= 1
    grows = size_hw in ((144, 176), (224, 224), (200, 400))  # OpenCV then rounds in between
    assert (apart > 0).mean() < (0.12 if grows else 0.01)
    # a level of luma and one of each chroma move a colour by at most 5 levels; mostly none differs
    levels = np.abs(rgb - rgb_tensor(expected, NORMALISATION)) * 255 * 0.3
    assert levels.max() < 5
    assert (levels > 0.01).mean() < (0.25 if grows else 0.02)


def test_red_is_red(driver: Driver) -> None:
    geometry = Geometry(aspect=(4, 3), size_hw=(32, 32), interpolation="area")
    red = noise_frame(240, 320)
    red.y[:], red.u[:], red.v[:] = 81, 90, 240
    plain = Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)
    _, rgb = kernel_view(driver, red, geometry, plain)
    np.testing.assert_allclose(rgb.mean(axis=(1, 2)), (1.0, 0.0, 0.0), atol=0.01)


@given(view=st.integers(1, 400), out=st.integers(1, 300), start=st.integers(0, 50))
def test_weights_are_inside_the_view_and_sum_to_one(view: int, out: int, start: int) -> None:
    rows, columns = area_weights((view, view), (out, out), start, start)
    assert (rows == columns).all()
    inner = np.maximum(rows["last"] - rows["first"] - 1, 0)
    alone = rows["last"] == rows["first"]
    total = rows["head"] + inner * rows["body"] + np.where(alone, 0, rows["tail"])
    np.testing.assert_allclose(total, 1, atol=2e-3)
    assert rows["first"].min() >= start
    assert rows["last"].max() < start + view
    assert (np.diff(rows["first"]) >= 0).all()


# Stacks -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("newest", [0, 1, 2, 3])
def test_stacks_are_those_of_the_cpu(newest: int, driver: Driver) -> None:
    """Two networks that see as many flows as the ring has, and fewer."""
    spec, size_hw, slots = PRESETS["fast"], (32, 34), 4
    normalisation = Normalisation(mean=(0.5,), std=(0.25,))
    flow = driver.allocate(8 * size_hw[0] * size_hw[1])
    ring = RingPlan(spec, size_hw, slots, flow, driver.allocate)
    outs = {length: driver.allocate(length * 8 * size_hw[0] * size_hw[1]) for length in (4, 3, 1)}
    plans = {length: StackPlan(ring, length, normalisation, out) for length, out in outs.items()}
    rng = np.random.default_rng(1)
    expected = []
    for index in range(slots + 1 + newest):  # the ring goes round
        values = rng.normal(0, 12, (2, *size_hw)).astype(np.float32)
        driver.write(flow, values)
        newest_place = place(driver, *ring.place(index, 1 / 30))
        run(driver, [ring.quantise(newest_place)])
        expected.append(quantise(values, spec, 1 / 30))
        np.testing.assert_array_equal(
            read(driver, ring.slot(index), (2, *size_hw), np.uint8), expected[-1]
        )
    for length, plan in plans.items():
        run(driver, [plan.stack(newest_place)])
        found = read(driver, outs[length], (2 * length, *size_hw), np.float32)
        wanted = normalise_bytes(stack_flows(expected[-length:]), normalisation)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_flow_bytes_round_half_up_and_saturate(driver: Driver) -> None:
    flow = np.array([-25, -20, 0, 19.9, 20, 25, 1e9, -1e9], np.float32)
    source, out = driver.place(flow), driver.allocate(len(flow))
    run(driver, [quantise_values(driver, source, 127.5 / 20, len(flow), out)])
    assert read(driver, out, flow.shape, np.uint8).tolist() == [0, 0, 128, 254, 255, 255, 255, 0]


def test_signatures_are_those_of_the_source() -> None:
    """A launch with too few or wrong arguments would read what is not there."""
    import re

    found = {}
    for file in launches.FILES:
        text = re.sub(r"//.*", "", launches.source(file))
        for kernel, arguments in re.findall(
            r'extern "C" __global__ void (?:__launch_bounds__\([^{]*?\)\s+)?(\w+)\(([^)]*)\)', text
        ):
            kinds = ("P" if "*" in a else a.split()[0][0] for a in arguments.split(","))
            found[kernel] = (file, "".join(kinds))
    assert found == launches.KERNELS
