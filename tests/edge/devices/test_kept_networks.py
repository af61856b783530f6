"""A network that was compiled on this machine is not compiled again, and gives the same logits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import load_bundle
from edge.code_cache import CodeCache
from edge.devices import openvino
from edge.devices.cpu import network_files
from edge.devices.inference import NetworkFile
from edge.devices.openvino import FP32, INT8, LITERAL

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-the-user"))


@pytest.fixture
def spatial(demo_bundle: Path) -> NetworkFile:
    return network_files(load_bundle(demo_bundle))["spatial"]


def never(*_: object) -> None:
    raise AssertionError("compiled again")


@pytest.mark.slow
@pytest.mark.parametrize("way", [INT8, FP32, LITERAL], ids=lambda way: way.name)
def test_what_was_compiled_gives_the_same_logits(
    way: openvino.Way, spatial: NetworkFile, monkeypatch: Patch
) -> None:
    batch = np.random.default_rng(3).normal(size=spatial.shape).astype(np.float32)
    expected = openvino.compile_network(spatial, way).infer(batch)
    assert np.array_equal(openvino.open_network(spatial, way).infer(batch), expected)
    monkeypatch.setattr(openvino, "compile_network", never)
    again = openvino.open_network(spatial, way)
    assert np.array_equal(again.infer(batch), expected)
    request = again.open_request()
    request.input[:] = batch[0]
    request.start()
    assert np.array_equal(request.wait()[0], expected[0])


@pytest.mark.slow
def test_another_way_or_processor_or_class_count_is_compiled_anew(
    spatial: NetworkFile, monkeypatch: Patch
) -> None:
    openvino.open_network(spatial, INT8)
    monkeypatch.setattr(openvino, "compile_network", never)
    more = NetworkFile(spatial.onnx, spatial.name, spatial.shape, spatial.classes + 1)
    for file, way in ((spatial, LITERAL), (more, INT8)):
        with pytest.raises(AssertionError, match="compiled again"):
            openvino.open_network(file, way)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    with pytest.raises(AssertionError, match="compiled again"):
        openvino.open_network(spatial, INT8)


@pytest.mark.slow
def test_a_blob_that_openvino_refuses_is_compiled_anew(
    spatial: NetworkFile, monkeypatch: Patch
) -> None:
    """As from a plug-in of another build: it is whole, but not for this one."""
    monkeypatch.setattr(CodeCache, "find", lambda self, key: bytes(range(256)))
    logits = openvino.open_network(spatial, INT8).infer(np.zeros(spatial.shape, np.float32))
    assert logits.shape == (1, spatial.classes)


@pytest.mark.slow
def test_the_process_that_tries_a_way_imports_little() -> None:
    """Numba and pydantic took half of its time."""
    code = "import edge.commands.self_check.child, edge.devices.openvino, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numba", "pydantic", "cv2", "rich", "onnx"} & set(done.stdout.split())
