"""What the host does to launch a frame's kernels: as it is done, and by pycuda's prepared calls.

    python -m tests.benchmarks.host_work [--json FILE]

Real pycuda, on the stand-in for NVIDIA's driver, which queues launches and runs none of them: its
own share is in both figures, and a real driver's would be larger in both. Processor time of this
thread; both ways take turns, so that their ratio holds on a machine that others use too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.devices.cuda.driver import open_driver
from edge.devices.cuda.kernels.launches import FILES, KERNELS, Launch, pack
from tests.benchmarks.kernels import frame_launches
from tests.benchmarks.result import write_result
from tests.support.cuda.gpu import GPU, install

ROUNDS, FRAMES = 200, 20
LAUNCHING = ("cuLaunchKernel", "cuFuncSetBlockShape", "cuParamSetv", "cuParamSetSize")
# Arguments of the others are the same for every frame.
CHANGING = ("resize_luma", "rgb", "quantise")


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


def compare(launches: list[Launch]) -> dict[str, float]:
    gpu = GPU()
    with pytest.MonkeyPatch.context() as patch:
        install(patch, gpu)
        gpu.skip_kernels()
        return compare_on(gpu, launches)


def compare_on(gpu: GPU, launches: list[Launch]) -> dict[str, float]:
    import pycuda.driver as cuda

    with open_driver() as driver:
        stream = driver.stream()
        functions = prepared_functions(cuda, "sm_87")
        fixed = pack(launch for launch in launches if launch.kernel not in CHANGING)
        changing = [launch for launch in launches if launch.kernel in CHANGING]

        def prepared() -> None:
            for launch in launches:
                block = (*launch.block, 1)
                function = functions[launch.kernel]
                function.prepared_async_call(launch.grid, block, stream.raw, *launch.arguments)

        def packed() -> None:
            driver.launch(fixed, stream)
            driver.launch(pack(changing), stream)

        ways = {"prepared calls": prepared, "packed once": packed}
        microseconds = measure(ways, driver.synchronize)
        calls = {}
        for name, way in ways.items():
            before = [gpu.calls(function) for function in LAUNCHING]
            way()
            calls[name] = sum(gpu.calls(function) for function in LAUNCHING) - sum(before)
        functions.clear()
    ratio = microseconds["prepared calls"] / microseconds["packed once"]
    return {
        "launches": len(launches),
        "prepared_us": microseconds["prepared calls"],
        "packed_us": microseconds["packed once"],
        "ratio": ratio,
        "prepared_driver_calls": calls["prepared calls"],
        "packed_driver_calls": calls["packed once"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    result = compare(frame_launches((240, 320)))
    for name, value in result.items():
        print(f"{name}: {value:.3g}")
    if arguments.json:
        write_result(arguments.json, result)


if __name__ == "__main__":
    main()
