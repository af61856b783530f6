"""CUDA graphs: what a frame is launched as, and what is done where they cannot be had. Those of the
stand-in run what was captured when they are launched, in an order that only dependencies bind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import Bundle
from edge.commands.bench.host_work import host_work
from edge.commands.run.arguments import RunArguments
from edge.commands.run.options import run_options
from edge.commands.run.run import run
from edge.commands.run.signals import SignalRequests
from edge.devices import Device, open_device, take_first
from edge.devices.cuda.driver import Driver, open_driver
from edge.devices.cuda.event import Event
from edge.devices.cuda.graph import Graph, Record
from edge.devices.cuda.libcuda import GPUError
from edge.devices.tensorrt.engine import Execution
from edge.errors import DeviceError
from tests.support.answers import Answer, assert_same, infer
from tests.support.bundles import STREAMS, noise_frames, write_bundle
from tests.support.cuda.gpu import CAPTURE_UNSUPPORTED, GPU, NOT_SUPPORTED, ORDERS, Plug
from tests.support.logged import logged

FRAMES = 24


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_bundle(tmp_path / "b", STREAMS["one"])


@pytest.fixture
def gpu(plug: Plug) -> GPU:
    return plug()


@pytest.fixture
def driver(gpu: GPU) -> Iterator[Driver]:
    with open_driver() as opened:
        yield opened


def answers(bundle: Bundle, graphs: bool = True) -> list[Answer]:
    with closing(open_device("cuda", bundle, flow_wanted=True, graphs=graphs)) as device:
        return infer(device.open_context(), noise_frames(FRAMES, (96, 128)))


# A device -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_graphs_say_what_launches_say(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = write_bundle(tmp_path / "b", STREAMS["three"])
    gpu = plug(order)
    one_by_one = answers(bundle, graphs=False)
    assert gpu.calls("cuStreamBeginCapture") == gpu.calls("cuGraphLaunch") == 0
    as_graphs = answers(bundle)
    assert gpu.calls("cuGraphLaunch") > FRAMES / 2
    assert_same(as_graphs, one_by_one, tolerance=1e-6)
    last = as_graphs[-1][0]
    assert last is not None
    assert all(milliseconds > 0 for milliseconds in last.stages_ms.values())


@pytest.mark.slow
def test_a_frame_is_one_call_with_the_same_kernels(bundle: Bundle, gpu: GPU) -> None:
    counted = "cuLaunchKernel", "cuGraphLaunch", "cuMemcpyHtoDAsync", "cuStreamBeginCapture"
    launched, calls = [], []
    with closing(open_device("cuda", bundle)) as device:
        context = device.open_context()
        for frame in noise_frames(FRAMES, (96, 128)):
            gpu.forget_launched()
            before = [gpu.calls(name) for name in counted]
            context.submit(frame, infer=True)
            calls.append([gpu.calls(name) - b for name, b in zip(counted, before, strict=True)])
            launched.append(gpu.launched)
        assert gpu.calls("cuGraphInstantiateWithFlags") == gpu.count("graphs") == context.depth
    assert calls[-1] == [0, 1, 1, 0]
    first = bundle.manifest.history  # with networks
    assert calls[first] == [len(launched[first]), 0, 1, 0]
    assert launched[first:] == [launched[first]] * (FRAMES - first)


@pytest.mark.slow
def test_graphs_of_another_size_take_the_place_of_the_last(bundle: Bundle, gpu: GPU) -> None:
    sizes = [(96, 128), (48, 64), (120, 160)]
    with closing(open_device("cuda", bundle)) as device:
        context, counts = device.open_context(), []
        for index in range(60):
            size_hw = sizes[index // 20]
            context.submit(noise_frames(60, size_hw)[index], infer=True)
            counts.append(gpu.count("graphs"))
    assert max(counts) == counts[19] == counts[59] > 0


def no_capture(gpu: GPU, patch: pytest.MonkeyPatch) -> str:
    gpu.fail("cuStreamBeginCapture", NOT_SUPPORTED)
    return "cuStreamBeginCapture failed: operation not supported"


def no_end(gpu: GPU, patch: pytest.MonkeyPatch) -> str:
    gpu.fail("cuStreamEndCapture", NOT_SUPPORTED)
    return "cuStreamEndCapture failed: operation not supported"


def no_instance(gpu: GPU, patch: pytest.MonkeyPatch) -> str:
    gpu.fail("cuGraphInstantiateWithFlags", NOT_SUPPORTED)
    return "cuGraphInstantiateWithFlags failed: operation not supported"


def no_launch(gpu: GPU, patch: pytest.MonkeyPatch) -> str:
    gpu.fail("cuGraphLaunch", NOT_SUPPORTED)
    return "cuGraphLaunch failed: operation not supported"


def captured_networks(patch: pytest.MonkeyPatch, gpu: GPU, instead: Callable[[], None]) -> None:
    """Have something else done when a network is enqueued in a capture."""
    enqueue = Execution.enqueue

    def watched(execution: Execution, handle: int) -> None:
        if gpu.is_capturing(handle):
            instead()
        enqueue(execution, handle)

    patch.setattr(Execution, "enqueue", watched)


def a_network_that_allocates(gpu: GPU, patch: pytest.MonkeyPatch) -> str:
    import pycuda.driver as cuda

    captured_networks(patch, gpu, lambda: cuda.mem_alloc(4))
    return "cuMemAlloc failed: operation not permitted when stream is capturing"


def a_network_that_refuses(gpu: GPU, patch: pytest.MonkeyPatch) -> str:
    """As one that waits for the GPU, whose own call is refused."""

    def wait() -> None:
        assert gpu.call("cuCtxSynchronize") == CAPTURE_UNSUPPORTED

    captured_networks(patch, gpu, wait)
    return "TensorRT could not start an inference"


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        *(no_capture, no_end, no_instance, no_launch),
        *(a_network_that_allocates, a_network_that_refuses),
    ],
)
def test_where_graphs_cannot_be_had_kernels_are_launched_and_a_line_says_so(
    fault: Callable[[GPU, pytest.MonkeyPatch], str],
    bundle: Bundle,
    gpu: GPU,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = answers(bundle, graphs=False)
    says = fault(gpu, monkeypatch)
    with logged() as lines:
        found = answers(bundle)
    assert_same(found, expected, tolerance=1e-6)
    (line,) = lines
    assert line.startswith("kernels are launched one by one, without CUDA graphs: ")
    assert says in line
    assert gpu.left == {}


@pytest.mark.slow
@pytest.mark.parametrize("without", [False, True])
def test_a_run_has_graphs_unless_it_is_told_not_to(
    without: bool, bundle: Bundle, gpu: GPU, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.commands.run.run.choose_way", take_first)
    sources = ["test://?frames=12"]
    arguments = RunArguments(bundle.path, sources, device="cuda", no_cuda_graphs=without)
    run(run_options(arguments), None, SignalRequests())
    assert (gpu.calls("cuGraphLaunch") > 0) == (not without)
    assert gpu.left == {}


@pytest.mark.slow
def test_bench_measures_the_work_of_the_host_both_ways(bundle: Bundle, gpu: GPU) -> None:
    gpu.skip_kernels()
    launched: dict[bool, int] = {}

    @contextmanager
    def counted(graphs: bool) -> Iterator[Device]:
        before = gpu.calls("cuGraphLaunch")
        with closing(open_device("cuda", bundle, graphs=graphs)) as device:
            yield device
        launched[graphs] = gpu.calls("cuGraphLaunch") - before

    found = host_work(bundle.manifest, counted)
    assert launched[True] > 100
    assert launched[False] == 0
    assert min(found.values()) > 0
    assert found["ratio"] == found["launches_ms"] / found["graph_ms"]


# A graph ------------------------------------------------------------------------------------------


def test_captured_work_runs_at_each_launch_in_the_order_of_its_stream(driver: Driver) -> None:
    stream, pinned = driver.stream(), driver.pinned(3)
    ones, twos = driver.place(np.ones(1, np.uint8)), driver.place(np.full(1, 2, np.uint8))
    pinned.array[:] = 0

    def work(record: Record) -> None:
        driver.download(pinned.array[:1], ones, stream)

    graph = Graph(work, stream)
    try:
        stream.synchronize()
        assert pinned.array.tolist() == [0, 0, 0]  # it was not enqueued
        for expected in (2, 1):
            graph.launch(stream)
            if expected == 2:
                driver.download(pinned.array[:1], twos, stream)
            stream.synchronize()
            assert pinned.array[0] == expected
    finally:
        graph.release()


@pytest.mark.parametrize("order", ORDERS)
def test_branches_are_bound_by_their_events_alone(order: str, plug: Plug) -> None:
    plug(order)
    with open_driver() as driver:
        main, side = driver.stream(), driver.stream()
        fork, join, begin, end = (driver.event() for _ in range(4))
        pinned = driver.pinned(2)
        values = driver.place(np.array([1, 2], np.uint8))

        def work(record: Record) -> None:
            record(begin, main)
            fork.record(main)
            side.wait_for_event(fork)
            driver.download(pinned.array[1:], values + 1, side)
            join.record(side)
            driver.download(pinned.array[:1], values, main)
            main.wait_for_event(join)
            record(end, main)

        graph = Graph(work, main)
        pinned.array[:] = 0
        graph.launch(main)
        main.synchronize()
        assert pinned.array.tolist() == [1, 2]
        assert end.time_since(begin) >= 3
        graph.release()


class Parts:
    """What work is made of; all is there before a capture begins, for memory cannot be had then."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.main, self.side = driver.stream(), driver.stream()
        self.event, self.earlier = driver.event(), driver.event()
        self.pinned, self.value = driver.pinned(1), driver.place(np.ones(1, np.uint8))
        self.earlier.record(self.side)

    def download(self, record: Record) -> None:
        self.driver.download(self.pinned.array, self.value, self.main)

    def never_joined(self, record: Record) -> None:
        self.event.record(self.main)
        self.side.wait_for_event(self.event)
        self.driver.download(self.pinned.array, self.value, self.side)

    def waits_for_what_is_not_captured(self, record: Record) -> None:
        self.main.wait_for_event(self.earlier)

    def waits_on_the_host(self, record: Record) -> None:
        self.event.record(self.main)
        self.event.synchronize()

    def waits_for_its_stream(self, record: Record) -> None:
        self.main.synchronize()

    def allocates(self, record: Record) -> None:
        self.driver.allocate(4)

    def copies_at_once(self, record: Record) -> None:
        self.driver.write(self.value, np.ones(1, np.uint8))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Parts.never_joined, "capturing stream has unjoined work"),
        (Parts.waits_for_what_is_not_captured, "uncaptured work"),
        (Parts.waits_on_the_host, "event last recorded in a capturing stream"),
        (Parts.waits_for_its_stream, "not permitted when stream is capturing"),
        (Parts.allocates, "not permitted when stream is capturing"),
        (Parts.copies_at_once, "legacy stream depend on a capturing"),
    ],
)
def test_what_must_not_be_captured_is_refused_and_its_stream_is_free_again(
    part: Callable[[Parts, Record], None], says: str, driver: Driver, gpu: GPU
) -> None:
    parts = Parts(driver)
    with pytest.raises(DeviceError, match=says):
        driver.capture(lambda record: part(parts, record), parts.main)
    assert gpu.count("graphs") == 0
    graph = driver.capture(parts.download, parts.main)
    graph.launch(parts.main)
    parts.main.synchronize()
    assert parts.pinned.array[0] == 1
    graph.release()


def test_an_event_of_a_graph_cannot_be_recorded_outside(driver: Driver) -> None:
    with pytest.raises(GPUError, match="cuEventRecordWithFlags failed: invalid argument"):
        Event.record_in_graph(driver.event(), driver.stream())
