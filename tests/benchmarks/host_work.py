"""What the host does for a frame on a GPU, three ways: pycuda's prepared calls for the kernels,
launches whose arguments are packed once, and one CUDA graph.

    python -m tests.benchmarks.host_work [--json FILE]

Real pycuda, on the stand-in for NVIDIA's driver, which queues work and runs none of it: its own
share is in all figures, and a real driver's would be larger. First the launches of the kernels
alone: processor time of this thread; the ways take turns, so that their ratio holds on a machine
that others use too. Then all that `submit` does, as `twostream bench` measures it, where the
networks are enqueued by TensorRT's double, which takes far less than TensorRT itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bundle.manifest import load_bundle
from edge.commands.bench.host_work import host_work
from edge.devices import Device, open_device
from edge.devices.cuda.driver import Driver, Stream, open_driver
from edge.devices.cuda.kernels.launches import FILES, KERNELS, Launch, pack
from tests.benchmarks.kernels import frame_launches
from tests.benchmarks.result import write_result
from tests.support.cuda.gpu import GPU, install
from tests.support.engines import copy_bundle
from tests.support.paths import REPOSITORY

ROUNDS, FRAMES = 200, 20
LAUNCHING = ("cuLaunchKernel", "cuGraphLaunch", "cuFuncSetBlockShape")


def prepared_functions(cuda: Any, architecture: str) -> dict[str, Any]:
    """Every kernel as pycuda prepares it."""
    from edge.devices.cuda.driver import user_cache

    modules = {}
    for file in FILES:
        (image,) = (user_cache() / "kernels").glob(f"{file}-*-{architecture}.cubin")
        modules[file] = cuda.module_from_buffer(image.read_bytes())
    functions = {}
    for kernel, (file, types) in KERNELS.items():
        functions[kernel] = modules[file].get_function(kernel)
        functions[kernel].prepare(types)
    return functions


def measure(ways: dict[str, Callable[[], None]], settle: Callable[[], None]) -> dict[str, float]:
    """Microseconds of a frame, the median, by way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begin = time.thread_time_ns()
            for _ in range(FRAMES):
                way()
            times[name].append((time.thread_time_ns() - begin) / FRAMES / 1e3)
            settle()
    return {name: statistics.median(each) for name, each in times.items()}


def compare_launches(gpu: GPU, launches: list[Launch]) -> dict[str, float]:
    """The kernels of a frame alone."""
    import pycuda.driver as cuda

    with open_driver() as driver:
        stream = driver.stream()
        functions = prepared_functions(cuda, "sm_87")
        packed = pack(launches)

        def prepared() -> None:
            for launch in launches:
                block = (*launch.block, 1)
                function = functions[launch.kernel]
                function.prepared_async_call(launch.grid, block, stream.raw, *launch.arguments)

        graph = driver.capture(lambda record: driver.launch(packed, stream), stream)
        ways: dict[str, Callable[[], None]] = {
            "prepared": prepared,
            "packed": lambda: driver.launch(packed, stream),
            "graph": lambda: graph.launch(stream),
        }
        microseconds = measure(ways, driver.synchronize)
        result: dict[str, float] = {"launches": len(launches)}
        for name, way in ways.items():
            before = sum(gpu.calls(function) for function in LAUNCHING)
            way()
            result[f"{name}_us"] = microseconds[name]
            result[f"{name}_calls"] = sum(gpu.calls(function) for function in LAUNCHING) - before
        for name in ("packed", "graph"):
            result[f"prepared_to_{name}"] = microseconds["prepared"] / microseconds[name]
        graph.release()
        functions.clear()
    return result


def launch_prepared(patch: pytest.MonkeyPatch) -> None:
    """Have the device launch its kernels by pycuda's prepared calls."""
    import pycuda.driver as cuda

    functions: dict[str, Any] = {}

    def launch(driver: Driver, launches: Iterable[Launch], stream: Stream) -> None:
        if not functions:
            functions.update(prepared_functions(cuda, "sm_87"))
            driver._owned.append(SimpleNamespace(release=functions.clear))
        for each in launches:
            block = (*each.block, 1)
            functions[each.kernel].prepared_async_call(
                each.grid, block, stream.raw, *each.arguments
            )

    patch.setattr(Driver, "launch", launch)
    patch.setattr("edge.devices.cuda.source_context.pack", tuple)


def compare() -> dict[str, Any]:
    gpu = GPU()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("XDG_CACHE_HOME", f"{folder}/cache")
        source = REPOSITORY / "edge" / "bundles" / "ucf101-mini"
        bundle = copy_bundle(load_bundle(source).path, Path(folder) / "bundle")
        install(patch, gpu)
        gpu.skip_kernels()
        kernels = compare_launches(gpu, frame_launches((240, 320)))

        def open_gpu(graphs: bool) -> AbstractContextManager[Device]:
            return closing(open_device("cuda", bundle, graphs=graphs))

        whole = host_work(bundle.manifest, open_gpu)
        launch_prepared(patch)
        before = host_work(bundle.manifest, lambda graphs: open_gpu(False))["launches_ms"]
    whole |= {"prepared_ms": before, "prepared_to_graph": before / whole["graph_ms"]}
    return {"kernels": kernels, "submit": whole}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    result = compare()
    for part, figures in result.items():
        for name, value in figures.items():
            print(f"{part} {name}: {value:.3g}")
    if arguments.json:
        write_result(arguments.json, result)


if __name__ == "__main__":
    main()
