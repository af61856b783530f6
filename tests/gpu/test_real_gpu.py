"""On a real GPU: the kernels equal the CPU's version, their times, and memory.
tests.gpu.first_contact runs these tests one after another, and collects their figures.

pycuda is needed (it builds where nvcc and CUDA's headers are). Where TensorRT is not installed the
networks are left out, and the tests that need them are skipped.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.commands.verify import verify
from edge.devices import open_device
from edge.devices.cuda.driver import Driver, Stream, find_gpu, gpu_fault, open_driver
from edge.devices.cuda.kernels.device_plan import ViewPlan, rgb_coefficients
from edge.devices.cuda.kernels.flow_plan import FlowPlan, allocate_luma
from edge.devices.cuda.kernels.launches import Launch, pack
from edge.devices.cuda.kernels.release import ReleaseError, compile_all
from edge.devices.tensorrt.version import load_tensorrt
from edge.errors import DeviceError
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1
from edge.video.frames import Geometry, Normalisation, resize_to_model, rgb_tensor
from tests.benchmarks.kernels import bytes_through_memory, peak_bandwidth
from tests.support.answers import STACK, assert_same, infer
from tests.support.cuda.gpu import STAND_IN
from tests.support.cuda.on_gpu import flow_on_gpu, read, run
from tests.support.engines import copy_bundle
from tests.support.flows import FLOW_ROOT, PAIRS, moving_pair, read_luma
from tests.support.frames import noise_frame, street
from tests.support.int8 import choose_right_int8
from tests.support.logged import logged
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


TIMED, ENOUGH_S = 220, 2.0  # runs that a time is the median of, fewer where they take long
FRAMES, FRAMES_S = 10_000, 30.0  # of memory; fewer where they take longer
Report = Callable[[str, object], None]


@pytest.fixture
def report(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> Report:
    """Called with what was measured and its figure."""

    def note(what: str, figure: object) -> None:
        record_property(what, figure)
        with capsys.disabled():
            print(f"\n{what}: {figure}")

    return note


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
    if find_gpu()[0].name == STAND_IN:
        pytest.skip("no GPU here that could load them")
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


def test_what_is_here(driver: Driver, report: Report) -> None:
    """Read from the driver and the packages themselves."""
    import pycuda.driver as cuda

    gpu = driver.gpu
    report("GPU", gpu.name)
    report("compute capability", gpu.compute_capability)
    report("multiprocessors", gpu.multiprocessors)
    report("shares the host's memory", "yes" if driver.integrated else "no")
    report("GPU memory", f"{cuda.mem_get_info()[1] >> 20} MiB")
    peak = peak_bandwidth()
    report("memory bandwidth", f"{peak / 1e9:.0f} GB/s" if peak else "not told by the driver")
    report("CUDA of the driver", cuda.get_driver_version())
    report("pycuda", importlib.metadata.version("pycuda"))
    report("kernels in use", driver.kernels)
    report("TensorRT", _tensorrt_version())
    assert gpu.multiprocessors > 0


def _tensorrt_version() -> str:
    try:
        return load_tensorrt().__version__
    except DeviceError as error:
        return str(error)


def median_ms(driver: Driver, work: Callable[[Stream], None]) -> float:
    """Of the same work on the GPU, by its own clock, the first tenth left out."""
    stream, begin, end = driver.stream(), driver.event(), driver.event()
    times_ms: list[float] = []
    started = time.perf_counter()
    while len(times_ms) < TIMED and (time.perf_counter() - started < ENOUGH_S or not times_ms):
        begin.record(stream)
        work(stream)
        end.record(stream)
        end.synchronize()
        times_ms.append(end.time_since(begin))
    return statistics.median(times_ms[len(times_ms) // 10 :])


@pytest.mark.parametrize("size_hw", [(224, 224), (240, 320)])
def test_time_of_flow(driver: Driver, size_hw: tuple[int, int], report: Report) -> None:
    """No bound on the time, which is the machine's affair: the figures are reported."""
    luma = allocate_luma(size_hw, driver.allocate)
    plan = FlowPlan(PRESETS["fast"], size_hw, luma, driver.allocate)
    launches = [*plan.pyramids[1], *plan.flows[1]]
    packed = pack(launches)
    median = median_ms(driver, lambda stream: driver.launch(packed, stream))
    rate, peak = bytes_through_memory(launches) / (median * 1e-3), peak_bandwidth()
    share = f" ({rate / peak:.1%} of the bus)" if peak else ""
    others = opencv_tvl1_ms(size_hw)
    beside = "none in this OpenCV" if others is None else f"{others:.1f} ms"
    report(
        f"TV-L1 fast, {size_hw[1]}x{size_hw[0]}",
        f"{median:.3f} ms, {len(launches)} launches, {bytes_through_memory(launches) / 1e6:.1f} MB "
        f"moved, {rate / 1e9:.1f} GB/s{share}; OpenCV's CUDA TV-L1: {beside}",
    )
    assert median > 0


def test_time_of_graphs(driver: Driver, report: Report) -> None:
    """The kernels of TV-L1, launched one by one and as a CUDA graph."""
    size_hw = (224, 224)
    luma = allocate_luma(size_hw, driver.allocate)
    for picture, plane in zip(luma, moving_pair(size_hw, 2.3, -1.2), strict=True):
        driver.write(picture, plane.astype(np.float32))
    plan = FlowPlan(PRESETS["fast"], size_hw, luma, driver.allocate)
    packed, stream = pack([*plan.pyramids[0], *plan.pyramids[1], *plan.flows[1]]), driver.stream()
    graph = driver.capture(lambda record: driver.launch(packed, stream), stream)
    ways: dict[str, Callable[[Stream], None]] = {
        "one by one": lambda stream: driver.launch(packed, stream),
        "as a graph": graph.launch,
    }
    times, flows = [], []
    for name, way in ways.items():
        gpu_ms = median_ms(driver, way)
        host_us = []
        for _ in range(20):
            started = time.perf_counter()
            way(stream)
            host_us.append(1e6 * (time.perf_counter() - started))
            stream.synchronize()
        times.append(f"{name} {gpu_ms:.3f} ms, {statistics.median(host_us):.1f} us of the host")
        flows.append(read(driver, plan.flow, (2, *size_hw), np.float32))
    graph.release()
    report(f"{len(packed)} kernels of TV-L1", "; ".join(times))
    np.testing.assert_array_equal(*flows)
    assert np.abs(flows[0]).max() > 1


@pytest.mark.parametrize("size_hw", [(240, 320), (480, 640), (1080, 1920)])
def test_time_of_uploads(driver: Driver, size_hw: tuple[int, int], report: Report) -> None:
    """Kernels that read the frame in page-locked host memory, which on a Jetson is not cached, or a
    copy of it on the GPU."""
    geometry = Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area")
    normalisation = Normalisation(mean=(0.4, 0.45, 0.5), std=(0.2, 0.25, 0.3))
    frame = noise_frame(*size_hw)
    view = ViewPlan(size_hw, False, (1, 1), geometry, driver.place)
    pinned, copy = driver.pinned(view.frame_bytes), driver.allocate(view.frame_bytes)
    view.pack(frame, pinned.array)
    colour = driver.place(rgb_coefficients(frame.matrix, normalisation))
    luma, rgb = driver.allocate(4 * 224 * 224), driver.allocate(12 * 224 * 224)

    def launches(source: int) -> Sequence[Launch]:
        return [view.luma(source, luma), view.rgb(source, luma, colour, rgb)]

    in_place, copied = pack(launches(pinned.address)), pack(launches(copy))

    def copy_first(stream: Stream) -> None:
        driver.upload(copy, pinned.array, stream)
        driver.launch(copied, stream)

    in_place_ms = median_ms(driver, lambda stream: driver.launch(in_place, stream))
    expected = read(driver, rgb, (3, 224, 224), np.float32)
    copied_ms = median_ms(driver, copy_first)
    np.testing.assert_array_equal(read(driver, rgb, (3, 224, 224), np.float32), expected)
    report(
        f"luma and RGB of {size_hw[1]}x{size_hw[0]}",
        f"read in host memory {in_place_ms:.3f} ms, copied first {copied_ms:.3f} ms "
        f"({view.frame_bytes / 1e6:.2f} MB)",
    )


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
def test_the_device_is_verified_from_the_frame_on(
    demo_bundle: Path, tmp_path: Path, report: Report
) -> None:
    bundle = copy_with_parity(demo_bundle, tmp_path / "bundle")
    lines = verify(bundle.path, "cuda")
    for line in lines:
        report("verify", line)
    assert "the bundle is right on cuda" in lines[-1]
    assert not any("the networks run as" in line for line in lines)


@needs_tensorrt
def test_the_device_says_what_the_cpu_says(
    demo_bundle: Path, tmp_path: Path, report: Report
) -> None:
    bundle = copy_bundle(demo_bundle, tmp_path / "bundle")
    frames = [street(index) for index in range(STACK + 5)]
    cpu = open_device("cpu", bundle, flow_wanted=True, choose=choose_right_int8)
    with logged() as lines, closing(open_device("cuda", bundle, flow_wanted=True)) as device:
        found = infer(device.open_context(), frames)
    refused = [line for line in lines if "CUDA graphs" in line]
    report("frames with networks as CUDA graphs", "; ".join(refused) or "yes")
    # two makers' INT8 kernels round apart, in each picture anew (measured: 0.07)
    assert_same(found, infer(cpu.open_context(), frames), 2 * bundle.manifest.parity.tolerance)


def test_ten_thousand_frames_take_no_more_memory(driver: Driver, report: Report) -> None:
    """Everything but the networks, as often as six minutes of video do it, or for half a minute."""
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

    def push_many(frames: int, seconds: float) -> tuple[int, float]:
        """How many there were, and the seconds that they took."""
        started = time.perf_counter()
        for index in range(frames):
            push(index)
            took_s = time.perf_counter() - started
            if took_s > seconds:
                break
        return index + 1, took_s

    push_many(100, 5.0)
    before = driver.free_bytes()
    frames, took_s = push_many(FRAMES, FRAMES_S)
    taken = before - driver.free_bytes()
    whole = "" if frames == FRAMES else f", broken off after {FRAMES_S:.0f} s"
    report(
        f"{frames} frames of 320x240, one at a time, without networks",
        f"{taken / 1024:.0f} KiB of GPU memory more, {1e3 * took_s / frames:.2f} ms a frame{whole}",
    )
    assert taken <= max(frames, 1000) << 10  # 1 MiB a thousand frames
