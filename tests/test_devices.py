"""The CPU device: parity, memory of earlier frames, and living in one process with GStreamer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.bundle import Bundle, load_bundle
from edge.devices import open_device
from edge.devices.cpu import Network
from edge.errors import BundleError
from edge.frames import Frame
from edge.fusion import softmax
from edge.parity import load_parity, spatial_inputs, temporal_inputs
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_the_demo_bundle_gives_its_parity_scores_here(stream: str, bundle: Bundle) -> None:
    manifest, samples = bundle.manifest, load_parity(bundle)
    inputs = {"spatial": spatial_inputs, "temporal": temporal_inputs}[stream](bundle, samples)
    file = getattr(manifest, stream).file
    network = Network(bundle.read(file), file, (1, *inputs.shape[1:]), len(manifest.classes))
    scores = softmax(np.concatenate([network(x[None]) for x in inputs]), 1.0)
    int8, fp32 = (getattr(samples, f"{stream}_{p}") for p in ("int8", "fp32"))
    assert np.abs(scores - int8).max() <= manifest.parity.tolerance
    assert np.abs(scores - fp32).mean() < 0.02
    assert np.ptp(scores, axis=0).max() > 0.05  # the samples are not all the same to it


def moving_frame(index: int) -> Frame:
    y, x = np.mgrid[:240, :320]
    luma = (126 + 60 * np.sin((x - 2 * index) / 9) * np.sin(y / 11)).astype(np.uint8)
    chroma = np.full((120, 160), 128, np.uint8)
    return Frame(luma, chroma, chroma, index / 25, index)


def test_results_do_not_depend_on_what_was_seen_before_a_gap(bundle: Bundle) -> None:
    device = open_device("auto", bundle)

    def last(start: int) -> np.ndarray:
        pending = None
        for index in range(start, start + 11):
            pending = device.submit(moving_frame(index), infer=True)
            if index < start + 10:
                assert pending.result() is None
        result = pending.result() if pending else None
        assert result is not None
        return np.concatenate([result.spatial, result.temporal])

    first = last(0)
    device.clear()
    other = last(40)
    device.clear()
    np.testing.assert_array_equal(last(0), first)
    assert np.abs(other - first).max() > 0
    device.close()


def test_a_file_that_is_no_network_is_named() -> None:
    with pytest.raises(BundleError, match=r"x\.onnx: OpenVINO cannot load it"):
        Network(b"not a network", "x.onnx", (1, 3, 224, 224), 8)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["gstreamer", "openvino"])
def test_gstreamer_and_openvino_share_a_process_in_either_order(
    first: str, demo_bundle: Path
) -> None:
    """GStreamer's libunwind once made OpenVINO abort where GStreamer had been loaded first."""
    steps = {
        "gstreamer": "from edge.source import open_source\n"
        "with open_source('test://?frames=3') as source: assert sum(1 for _ in source) == 3\n",
        "openvino": "from edge.bundle import load_bundle\nfrom edge.devices import open_device\n"
        f"open_device('cpu', load_bundle({str(demo_bundle)!r}))\n",
    }
    order = [first, *(name for name in steps if name != first)]
    code = "".join(steps[name] for name in order)
    code += "import sys; assert sys.modules.get('openvino_telemetry') is None\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
