"""The CPU device: parity, memory of earlier frames, and living in one process with GStreamer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.manifest import Bundle, load_bundle, sha256, write_manifest
from edge.bundle.parity import load_parity, write_parity
from edge.devices import open_device
from edge.devices.cpu import Network
from edge.errors import BundleError
from edge.video.frames import Frame
from tests.support.command import assert_refused, twostream
from tests.support.paths import REPOSITORY


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


def test_the_demo_bundle_is_right_here(demo_bundle: Path) -> None:
    done = twostream("verify", demo_bundle)
    assert done.returncode == 0, done.stderr
    assert "the bundle is right on cpu" in done.stdout
    assert done.stdout.count("same top-1 4 of 4") == 2


def test_parity_samples_tell_inputs_apart(bundle: Bundle) -> None:
    samples = load_parity(bundle)
    for stream in ("spatial", "temporal"):
        int8, fp32 = (getattr(samples, f"{stream}_{p}") for p in ("int8", "fp32"))
        assert np.ptp(int8, axis=0).max() > 0.05
        assert np.abs(int8 - fp32).mean() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_a_device_that_computes_something_else_is_found(
    stream: str, tmp_path: Path, demo_bundle: Path
) -> None:
    """Here the expectation is shifted in one sample, since the device is right."""
    folder = shutil.copytree(demo_bundle, tmp_path / "bundle")
    bundle = load_bundle(folder)
    samples = load_parity(bundle)
    scores = getattr(samples, f"{stream}_int8").copy()
    scores[2] = np.roll(scores[2], 1)
    write_parity(folder / "parity.npz", replace(samples, **{f"{stream}_int8": scores}))
    hashes = bundle.manifest.files | {"parity.npz": sha256((folder / "parity.npz").read_bytes())}
    write_manifest(folder, bundle.manifest.model_copy(update={"files": hashes}))
    done = twostream("verify", folder)
    assert_refused(done, f"the {stream} scores of parity sample 2 differ", "allowed: 0.05")


def moving_frame(index: int) -> Frame:
    y, x = np.mgrid[:240, :320]
    luma = (126 + 60 * np.sin((x - 2 * index) / 9) * np.sin(y / 11)).astype(np.uint8)
    chroma = np.full((120, 160), 128, np.uint8)
    return Frame(luma, chroma, chroma, index / 25, index)


def test_results_do_not_depend_on_what_was_seen_before_a_gap(bundle: Bundle) -> None:
    device = open_device("cpu", bundle)
    feed = device.open_feed()

    def last(start: int) -> np.ndarray:
        pending = None
        for index in range(start, start + 11):
            pending = feed.submit(moving_frame(index), infer=True)
            if index < start + 10:
                assert pending.result() is None
        result = pending.result() if pending else None
        assert result is not None
        return np.concatenate([result.spatial, result.temporal])

    first = last(0)
    feed.clear()
    other = last(40)
    feed.clear()
    np.testing.assert_array_equal(last(0), first)
    assert np.abs(other - first).max() > 0
    device.close()


def test_feeds_that_take_turns_know_nothing_of_each_other(bundle: Bundle) -> None:
    device = open_device("cpu", bundle)

    def results(starts: list[int]) -> list[np.ndarray]:
        feeds, found = [device.open_feed() for _ in starts], []
        for step in range(14):
            for feed, start in zip(feeds, starts, strict=True):
                result = feed.submit(moving_frame(start + step), infer=True).result()
                if step == 13:
                    assert result is not None
                    found.append(np.concatenate([result.spatial, result.temporal]))
        return found

    alone = [results([start])[0] for start in (0, 40)]
    np.testing.assert_array_equal(results([0, 40]), alone)
    device.close()


def test_a_file_that_is_no_network_is_named() -> None:
    with pytest.raises(BundleError, match=r"x\.onnx: the network is not readable ONNX"):
        Network(b"not a network", "x.onnx", (1, 3, 224, 224), 8)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["gstreamer", "openvino"])
def test_gstreamer_and_openvino_share_a_process_in_either_order(
    first: str, demo_bundle: Path
) -> None:
    """GStreamer's libunwind once made OpenVINO abort where GStreamer had been loaded first."""
    steps = {
        "gstreamer": "from edge.sources.gst_source import open_source\n"
        "with open_source('test://?frames=3') as source: assert sum(1 for _ in source) == 3\n",
        "openvino": "from edge.bundle.manifest import load_bundle\n"
        "from edge.devices import open_device\n"
        f"open_device('cpu', load_bundle({str(demo_bundle)!r}))\n",
    }
    order = [first, *(name for name in steps if name != first)]
    code = "".join(steps[name] for name in order)
    code += "import sys; assert sys.modules.get('openvino_telemetry') is None\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_ctrl_c_after_networks_are_gone_is_only_a_signal(demo_bundle: Path) -> None:
    """OpenVINO changes the signal stack; with a core for each network the process died here."""
    code = (
        "import gc, signal\nfrom pathlib import Path\nfrom edge.devices.cpu import Network\n"
        "signal.signal(signal.SIGINT, lambda *_: print('told'))\n"
        f"folder = Path({str(demo_bundle)!r})\n"
        "made = [Network((folder / f'{name}.onnx').read_bytes(), name, (1, n, 224, 224), 8)\n"
        "        for name, n in (('spatial', 3), ('temporal', 20))]\n"
        "while made:\n    del made[0]\n    gc.collect()\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr
