"""Where the shared data is, and what several test files need."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.support.paths import REPOSITORY

if TYPE_CHECKING:
    from tests.support.cuda.gpu import Plug

# no test is timed: other processes share the cores
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first, so that the cores finish together."""
    items.sort(key=lambda item: "test_walkthrough" not in item.nodeid)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a test of this process has loaded the stand-in for CUDA's driver, it stays loaded."""
    plugged = "tests.support.cuda.plugged" in sys.modules  # before any test
    if "tests.support.cuda.libcuda" in sys.modules and not plugged:
        from edge.devices.cuda.driver import NO_DRIVER

        monkeypatch.setattr("edge.devices.cuda.driver.gpu_fault", lambda: NO_DRIVER)


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """A test that leaves log handlers to the tests after it fails. The locale is put back: NVRTC
    leaves the thread that called it with a locale of its own, in which text is ASCII."""
    _use_locale_of_process()
    handlers = list(logging.root.handlers)
    yield
    _use_locale_of_process()
    left, logging.root.handlers[:] = list(logging.root.handlers), handlers
    assert left == handlers


def _use_locale_of_process() -> None:
    uselocale = ctypes.CDLL(None).uselocale
    uselocale.restype, uselocale.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    uselocale(-1)  # LC_GLOBAL_LOCALE


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    """Plugs a GPU in, and fails where the test leaves something on it."""
    from tests.support.cuda.gpu import Plug

    made = Plug(monkeypatch)
    yield made
    made.unplug()


@pytest.fixture(scope="session")
def ucf101() -> Path:
    """The UCF101 tree, whole or in part."""
    root = Path(os.environ.get("UCF101_ROOT", REPOSITORY.parent / "shared" / "ucf101"))
    if not (root / "UCF-101").is_dir():
        pytest.skip(f"no UCF101 clips at {root}; set UCF101_ROOT")
    return root.resolve()


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    """The bundle that the repository ships."""
    return REPOSITORY / "edge" / "bundles" / "ucf101-mini"


@pytest.fixture(scope="session")
def light_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests of what is around the networks: streams and classes of the shipped bundle, whose
    networks are so small that most of a run is not theirs."""
    from tests.support.bundles import DEMO_CLASSES, RGB, flow_input, write_bundle

    inputs = {"spatial": RGB, "temporal": flow_input(10)}
    folder = tmp_path_factory.mktemp("bundles") / "light"
    return write_bundle(folder, inputs, classes=DEMO_CLASSES).path


@pytest.fixture(scope="session")
def fp32_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported networks with ImageNet weights, by stream."""
    from export.graph import export_graph
    from tests.support.networks import STREAMS, make_network, make_spec

    folder = tmp_path_factory.mktemp("fp32")
    files = {stream: folder / f"{stream}.onnx" for stream in STREAMS}
    for stream in STREAMS:
        export_graph(make_network(stream), make_spec(stream), files[stream])
    return files


@pytest.fixture(scope="session")
def int8_models(fp32_files: dict[str, Path]) -> dict[str, Any]:
    """The same networks (onnx.ModelProto) after calibration on made inputs, by stream."""
    from calibration.onnx_file import load_model
    from calibration.quantise import quantise_model
    from tests.support.networks import STREAMS, moving_patterns

    patterns = {stream: moving_patterns(stream, 6) for stream in STREAMS}
    return {
        stream: quantise_model(load_model(fp32_files[stream])[0], inputs, inputs, "mse").model
        for stream, inputs in patterns.items()
    }
