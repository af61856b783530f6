"""On a real GPU: `make test-gpu`. The kernels equal the CPU's version, their times, and memory.

pycuda is needed (it builds where nvcc and CUDA's headers are). Where TensorRT is not installed the
networks are left out, and the tests that need them are skipped.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.commands.verify import verify
from edge.devices import open_device
from edge.devices.cuda.driver import Driver, gpu_fault, open_driver
from edge.devices.cuda.kernels.device_plan import ViewPlan, rgb_coefficients
from edge.devices.cuda.kernels.flow_plan import FlowPlan, allocate_luma
from edge.devices.cuda.kernels.launches import pack
from edge.devices.cuda.kernels.release import ReleaseError, compile_all
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1
from edge.video.frames import Geometry, Normalisation, resize_to_model, rgb_tensor
from tests.benchmarks.kernels import bytes_through_memory, peak_bandwidth
from tests.support.answers import STACK, assert_same, infer
from tests.support.cuda.on_gpu import flow_on_gpu, run
from tests.support.engines import copy_bundle
from tests.support.flows import FLOW_ROOT, PAIRS, moving_pair, read_luma
from tests.support.frames import noise_frame, street
from tests.support.parity import copy_with_parity

pytestmark = [
    pytest.mark.skipif(gpu_fault() is not None, reason=f"no GPU: {gpu_fault()}"),
    pytest.mark.skipif(
        importlib.util.find_spec("pycuda") is None, reason="pycuda is not installed: make test-gpu"
    ),
]
needs_tensorrt = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is None, reason="TensorRT is not installed"
)


@pytest.fixture
def driver() -> Iterator[Driver]:
    with open_driver() as opened:
        yield opened


def assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    apart = np.abs(found - expected)
    assert apart.mean() < 0.02
    assert np.quantile(apart, 0.99) < 0.1


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size_hw", [(224, 224), (240, 320), (97, 131), (33, 20), (1, 1)])
def test_flow_is_that_of_the_cpu(driver: Driver, size_hw: tuple[int, int], preset: str) -> None:
    pair = moving_pair(size_hw, 2.3, -1.2)
    spec = PRESETS[preset]
    assert_close(flow_on_gpu(driver, spec, *pair), TVL1(spec, size_hw)(*pair))


@pytest.mark.parametrize("left_out", ["nothing", "sm_*"], ids=["machine code", "PTX"])
def test_flow_of_the_kernels_of_a_release(
    left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        compile_all(tmp_path)
    except ReleaseError as fault:
        pytest.skip(str(fault))
    for path in tmp_path.glob(f"*-{left_out}.cubin"):
        path.unlink()
    monkeypatch.setattr("edge.devices.cuda.kernels.precompiled.BINARIES", tmp_path)
    pair, spec = moving_pair((240, 320), 2.3, -1.2), PRESETS["fast"]
    with open_driver() as driver:
        assert driver.kernels.startswith("the package's kernels for ")
        assert_close(flow_on_gpu(driver, spec, *pair), TVL1(spec, (240, 320))(*pair))


@pytest.mark.parametrize("name", PAIRS)
def test_flow_is_that_of_the_cpu_on_real_pairs(driver: Driver, name: str) -> None:
    if not FLOW_ROOT.is_dir():
        pytest.skip(f"no flow ground truth at {FLOW_ROOT}; set FLOW_ROOT")
    first, second = (read_luma(FLOW_ROOT / file) for file in PAIRS[name][:2])
    spec = PRESETS["fast"]
    assert_close(flow_on_gpu(driver, spec, first, second), TVL1(spec, first.shape)(first, second))


@pytest.mark.parametrize("size_hw", [(240, 320), (1080, 1920), (144, 176)])
def test_frames_become_what_the_cpu_makes_of_them(driver: Driver, size_hw: tuple[int, int]) -> None:
    geometry = Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area")
    normalisation = Normalisation(mean=(0.4, 0.45, 0.5), std=(0.2, 0.25, 0.3))
    frame = noise_frame(*size_hw)
    plan = ViewPlan(size_hw, False, (1, 1), geometry, driver.place)
    packed = np.empty(plan.frame_bytes, np.uint8)
    plan.pack(frame, packed)
    source = driver.place(packed)
    colour = driver.place(rgb_coefficients(frame.matrix, normalisation))
    luma, rgb = driver.allocate(4 * 224 * 224), driver.allocate(12 * 224 * 224)
    run(driver, [plan.luma(source, luma), plan.rgb(source, luma, colour, rgb)])
    expected = resize_to_model(frame, geometry)
    found_luma = np.empty((224, 224), np.float32)
    found_rgb = np.empty((3, 224, 224), np.float32)
    driver.read(luma, found_luma)
    driver.read(rgb, found_rgb)
    assert np.abs(found_luma - expected.y).max() <= 1
    levels = np.abs(found_rgb - rgb_tensor(expected, normalisation)) * 255 * 0.3
    assert levels.max() < 5


@pytest.mark.parametrize("size_hw", [(224, 224), (240, 320)])
def test_time_of_flow(
    driver: Driver, size_hw: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """No bound on the time, which is the machine's affair: the figures are printed."""
    luma = allocate_luma(size_hw, driver.allocate)
    plan = FlowPlan(PRESETS["fast"], size_hw, luma, driver.allocate)
    stream, begin, end = driver.stream(), driver.event(), driver.event()
    launches = [*plan.pyramids[1], *plan.flows[1]]
    packed = pack(launches)
    times_ms = []
    for _ in range(220):
        begin.record(stream)
        driver.launch(packed, stream)
        end.record(stream)
        end.synchronize()
        times_ms.append(end.time_since(begin))
    median = statistics.median(times_ms[20:])
    moved = bytes_through_memory(launches)
    peak = peak_bandwidth()
    share = f"{moved / (median * 1e-3) / peak:.1%} of memory bandwidth" if peak else "bus unknown"
    others = opencv_tvl1_ms(size_hw)
    beside = "none in this OpenCV" if others is None else f"{others:.1f} ms"
    with capsys.disabled():
        print(
            f"\n{driver.gpu.name}: TV-L1 fast {size_hw[1]}x{size_hw[0]}: {median:.3f} ms, "
            f"{len(launches)} launches, {moved / 1e6:.1f} MB, {share}; OpenCV on it: {beside}"
        )
    assert median > 0


def opencv_tvl1_ms(size_hw: tuple[int, int]) -> float | None:
    """Median of OpenCV's CUDA TV-L1 with its defaults; None where OpenCV was built without."""
    if not hasattr(cv2, "cuda") or not hasattr(cv2.cuda, "OpticalFlowDual_TVL1_create"):
        return None
    method = cv2.cuda.OpticalFlowDual_TVL1_create()
    first, second = (cv2.cuda.GpuMat(plane) for plane in moving_pair(size_hw, 2.3, -1.2))
    times_ms = []
    for _ in range(20):
        started = time.perf_counter()
        method.calc(first, second, None)
        times_ms.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times_ms)


@needs_tensorrt
def test_the_device_is_verified_from_the_frame_on(demo_bundle: Path, tmp_path: Path) -> None:
    bundle = copy_with_parity(demo_bundle, tmp_path / "bundle")
    lines = verify(bundle.path, "cuda")
    assert "the bundle is right on cuda" in lines[-1]


@needs_tensorrt
def test_the_device_says_what_the_cpu_says(demo_bundle: Path, tmp_path: Path) -> None:
    bundle = copy_bundle(demo_bundle, tmp_path / "bundle")
    frames = [street(index) for index in range(STACK + 5)]
    cpu = open_device("cpu", bundle, flow_wanted=True)
    with closing(open_device("cuda", bundle, flow_wanted=True)) as device:
        found = infer(device.open_context(), frames)
    # two makers' INT8 kernels round apart, as far as the bundle allows
    assert_same(found, infer(cpu.open_context(), frames), bundle.manifest.parity.tolerance)


def test_ten_thousand_frames_take_no_more_memory(driver: Driver) -> None:
    """Everything but the networks, as often as six minutes of video do it."""
    geometry = Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area")
    luma = allocate_luma((224, 224), driver.allocate)
    flow = FlowPlan(PRESETS["fast"], (224, 224), luma, driver.allocate)
    view = ViewPlan((240, 320), False, (1, 1), geometry, driver.place)
    device_frame = driver.allocate(view.frame_bytes)
    pinned, stream = driver.pinned(view.frame_bytes), driver.stream()
    packed = [
        pack([view.luma(device_frame, luma[k]), *flow.pyramids[k], *flow.flows[k]])
        for k in range(2)
    ]

    def push(index: int) -> None:
        view.pack(replace(street(0), index=index), pinned.array)
        driver.upload(device_frame, pinned.array, stream)
        turn = index % 2
        driver.launch(packed[turn], stream)
        stream.synchronize()

    for index in range(100):
        push(index)
    before = driver.free_bytes()
    for index in range(10_000):
        push(index)
    assert before - driver.free_bytes() < 10 << 20  # 1 MiB a thousand frames
