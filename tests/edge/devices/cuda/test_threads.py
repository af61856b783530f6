"""A CUDA device belongs to the thread that opened it: elsewhere it is one clear error, and neither
a thread nor the process ends badly for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.manifest import Bundle
from edge.devices import open_device
from edge.devices.cuda.driver import open_driver
from edge.errors import DeviceError
from tests.support.answers import assert_same, infer
from tests.support.bundles import STREAMS, noise_frames, write_bundle
from tests.support.cuda.gpu import Plug
from tests.support.paths import REPOSITORY


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "b", STREAMS["three"])


def elsewhere(call: Callable[[], Any]) -> Any:
    """What a call gives, or raises, in another thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="another") as pool:
        return pool.submit(call).result()


@pytest.mark.slow
def test_another_thread_is_refused_and_the_device_goes_on(bundle: Bundle, plug: Plug) -> None:
    gpu = plug()
    frames = noise_frames(bundle.manifest.history + 4, (96, 128))
    with closing(open_device("cuda", bundle, flow_wanted=True)) as device:
        context = device.open_context()
        found = infer(context, frames[:-1])
        future = context.submit(frames[-1], infer=True)
        stream, spec = next(iter(bundle.manifest.streams.items()))
        shape = (1, spec.input.channels, *bundle.manifest.geometry.size_hw)
        tensor = np.zeros(shape, np.uint8)
        refused: list[Callable[[], Any]] = [
            lambda: context.submit(frames[-1], infer=True),
            future.result,
            future.flows,
            device.open_context,
            lambda: device.logits(stream, tensor, [0.0]),
            device.close,
        ]
        for call in refused:
            with pytest.raises(DeviceError, match=r"MainThread opened it, thread another\w* uses"):
                elsewhere(call)
        assert gpu.count("contexts") == 0
        found.append((future.result(), future.flows()))
        again = infer(device.open_context(), frames)
        assert_same(found, again)
    assert gpu.left == {}


@pytest.mark.slow
def test_each_thread_may_open_its_own_and_leaves_nothing(bundle: Bundle, plug: Plug) -> None:
    gpu = plug()
    frames = noise_frames(bundle.manifest.history + 2, (96, 128))

    def open_and_run() -> Any:
        with closing(open_device("cuda", bundle, flow_wanted=True)) as device:
            return infer(device.open_context(), frames)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pycuda's, of what it could not free
        found = [open_and_run(), elsewhere(open_and_run), open_and_run()]
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])
    assert gpu.left == {}


@pytest.mark.slow
def test_what_outlives_the_device_does_nothing(bundle: Bundle, plug: Plug) -> None:
    gpu = plug()
    device = open_device("cuda", bundle, flow_wanted=True)
    context = device.open_context()
    first, second, third = noise_frames(3, (96, 128))
    context.submit(first, infer=True)
    future = context.submit(second, infer=True)
    device.close()
    device.close()
    assert gpu.left == {}  # though context and future are still there
    for call in (future.flows, lambda: context.submit(third, infer=True)):
        with pytest.raises(DeviceError, match="it is closed"):
            call()


def test_a_call_without_a_context_fails(plug: Plug) -> None:
    """The stand-in is as strict as a driver, or none of these tests could fail."""
    import pycuda.driver as cuda

    plug()
    with open_driver() as driver:
        address = driver.allocate(4)
    with pytest.raises(cuda.LogicError, match="invalid device context"):
        cuda.memset_d8(address, 0, 4)
    errors = []

    def use() -> None:
        try:
            cuda.memset_d8(address, 0, 4)
        except cuda.LogicError as error:
            errors.append(str(error))

    with open_driver() as driver:
        address = driver.allocate(4)
        cuda.memset_d8(address, 0, 4)
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert "invalid device context" in errors[0]


ENDS = {
    "never closed": "driver = load_driver()\nwith driver: driver.stream(), driver.event()",
    "closed elsewhere": (
        "driver = load_driver()\nwith driver: driver.stream(), driver.allocate(9)\n"
        "def close():\n    try: driver.close()\n    except DeviceError: print('refused')\n"
        "thread = threading.Thread(target=close)\nthread.start(); thread.join()"
    ),
    "its thread is gone": (
        "opened = []\n"
        "def use():\n    opened.append(load_driver())\n    with opened[0]: opened[0].stream()\n"
        "thread = threading.Thread(target=use)\nthread.start(); thread.join()"
    ),
    "in the middle of a block": (
        "driver = load_driver()\nwith driver:\n    driver.pinned(9)\n    sys.exit(0)"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_the_process_ends_well(end: str) -> None:
    code = (
        "import sys, threading\nimport pytest\n"
        "from edge.devices.cuda.driver import load_driver\nfrom edge.errors import DeviceError\n"
        "from tests.support.cuda.gpu import GPU, install\n"
        f"patch = pytest.MonkeyPatch()\ninstall(patch, GPU())\n{ENDS[end]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "PyCUDA" not in done.stderr
    assert done.stdout == ("refused\n" if end == "closed elsewhere" else "")
