"""The CPU device: memory of earlier frames, any number of streams, back ends side by side, and
living in one process with GStreamer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bundle.float_onnx import float_onnx
from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.network import Precision
from edge.bundle.parity import load_parity
from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.devices import InferenceFuture, open_device
from edge.devices.cpu import IN_FLIGHT, CPUDevice
from edge.devices.expired import ResultExpiredError
from edge.devices.inference import NetworkFile, Way
from edge.devices.openvino import FP32, compile_network
from edge.errors import BundleError
from edge.inputs.builder import fill_input
from edge.motion.preprocessor import Preprocessor
from edge.video.frames import Frame
from tests.support.bundles import STREAMS, noise_frames, write_bundle
from tests.support.command import twostream
from tests.support.parity import copy_with_parity, little_flow
from tests.support.paths import REPOSITORY


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


@pytest.fixture(scope="module", params=STREAMS)
def any_streams(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("any") / "b", STREAMS[request.param])


@pytest.mark.slow
def test_the_demo_bundle_is_right_here(demo_bundle: Path) -> None:
    done = twostream("verify", demo_bundle)
    assert done.returncode == 0, done.stderr
    assert "the bundle is right on cpu" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()][:3] == [
        "tvl1",
        "spatial",
        "temporal",
    ]


@pytest.mark.slow
def test_parity_samples_tell_int8_from_nothing(tmp_path: Path, demo_bundle: Path) -> None:
    """Scores differ from sample to sample, and less from precision to precision."""
    run = load_parity(copy_with_parity(demo_bundle, tmp_path / "b", little_flow))
    for stream in ("spatial", "temporal"):
        int8, fp32 = run.logits[stream, "int8"], run.logits[stream, "fp32"]
        assert np.ptp(int8, axis=0).max() > 0.05
        assert np.abs(int8 - fp32).mean() < 0.2 * np.abs(int8).mean()


def moving_frame(index: int) -> Frame:
    y, x = np.mgrid[:240, :320]
    luma = (126 + 60 * np.sin((x - 2 * index) / 9) * np.sin(y / 11)).astype(np.uint8)
    chroma = np.full((120, 160), 128, np.uint8)
    return Frame(luma, chroma, chroma, index / 25, index)


def logits_of(future: InferenceFuture) -> NDArray[np.float32]:
    inference = future.result()
    assert inference is not None
    return np.concatenate(list(inference.logits.values()))


@pytest.mark.slow
def test_results_do_not_depend_on_what_was_seen_before_a_gap(bundle: Bundle) -> None:
    device = open_device("cpu", bundle)
    context = device.open_context()

    def last(start: int) -> NDArray[np.float32]:
        for index in range(start, start + 10):
            assert context.submit(moving_frame(index), infer=True).result() is None
        return logits_of(context.submit(moving_frame(start + 10), infer=True))

    first = last(0)
    context.clear()
    other = last(40)
    context.clear()
    np.testing.assert_array_equal(last(0), first)
    assert np.abs(other - first).max() > 0
    device.close()


@pytest.mark.slow
def test_contexts_that_take_turns_know_nothing_of_each_other(bundle: Bundle) -> None:
    device = open_device("cpu", bundle)

    def results(starts: list[int]) -> list[NDArray[np.float32]]:
        contexts, found = [device.open_context() for _ in starts], []
        for step in range(14):
            for context, start in zip(contexts, starts, strict=True):
                future = context.submit(moving_frame(start + step), infer=True)
                future.result()
                if step == 13:
                    found.append(logits_of(future))
        return found

    alone = [results([start])[0] for start in (0, 40)]
    np.testing.assert_array_equal(results([0, 40]), alone)
    device.close()


def test_every_stream_sees_what_it_says(any_streams: Bundle) -> None:
    """As many frames under way as may be; each network's logits are those of an input built apart,
    and none come before every network has its frames."""
    manifest = any_streams.manifest
    device = open_device("cpu", any_streams, flow_wanted=True)
    context = device.open_context()
    frames = noise_frames(manifest.history + IN_FLIGHT, (96, 128))
    futures = [context.submit(frame, infer=True) for frame in frames]
    preprocessor = Preprocessor(manifest.geometry, manifest.motions)
    steps = [preprocessor.push(frame) for frame in frames]
    for index, (future, step) in enumerate(zip(futures, steps, strict=True)):
        assert list(future.flows()) == (list(manifest.motions) if index else [])
        for spec, flow in future.flows().items():
            np.testing.assert_array_equal(flow, step.flows[spec])
        inference = future.result()
        assert (inference is not None) == (index >= manifest.history)
        if inference is None:
            continue
        assert list(inference.logits) == list(manifest.streams)
        assert set(manifest.streams) < set(inference.stages_ms)
        for name, stream in manifest.streams.items():
            tensor = fill_input(
                stream.input, manifest.geometry.size_hw, stream.normalisation, steps[: index + 1]
            )
            np.testing.assert_array_equal(
                inference.logits[name], device.logits(name, tensor[None], [0.0])[0]
            )
    device.close()


def test_frames_that_need_no_label_are_remembered(any_streams: Bundle) -> None:
    device = open_device("cpu", any_streams)
    frames = noise_frames(any_streams.manifest.history + 3, (96, 128))
    found = []
    for infer_all in (True, False):
        context = device.open_context()
        for frame in frames[:-1]:
            future = context.submit(frame, infer=infer_all)
            assert infer_all or future.result() is None
        found.append(logits_of(context.submit(frames[-1], infer=True)))
    np.testing.assert_array_equal(*found)
    device.close()


@pytest.mark.parametrize("sources", [1, 2])
def test_a_result_that_is_read_too_late_is_not_another_frame_s(
    sources: int, any_streams: Bundle
) -> None:
    """Of one source or two that take turns; the results that are still valid are right."""
    device = open_device("cpu", any_streams)
    history = any_streams.manifest.history
    frames = noise_frames(history + 2 * IN_FLIGHT, (96, 128))
    alone = device.open_context()
    answers = [alone.submit(frame, infer=True).result() for frame in frames][history:]
    contexts = [device.open_context() for _ in range(sources)]
    futures = [context.submit(frame, infer=True) for frame in frames for context in contexts]
    futures = futures[history * sources :]
    for late in futures[:-IN_FLIGHT]:
        with pytest.raises(ResultExpiredError, match="before 4 more frames are submitted"):
            late.result()
    for number, future in list(enumerate(futures))[-IN_FLIGHT:]:
        answer, inference = answers[number // sources], future.result()
        assert answer is not None
        assert inference is not None
        for name, logits in answer.logits.items():
            np.testing.assert_array_equal(inference.logits[name], logits)
    device.close()


def test_frames_without_networks_let_no_result_expire(any_streams: Bundle) -> None:
    device = open_device("cpu", any_streams)
    context = device.open_context()
    needed = any_streams.manifest.history + 1
    frames = noise_frames(needed + 2 * IN_FLIGHT, (96, 128))
    futures = [context.submit(frame, infer=True) for frame in frames[:needed]]
    for frame in frames[needed:]:
        assert context.submit(frame, infer=False).result() is None
    first = logits_of(futures[-1])
    np.testing.assert_array_equal(logits_of(futures[-1]), first)
    device.close()


class OnnxRuntimeRequest:
    def __init__(self, network: OnnxRuntimeNetwork, file: NetworkFile) -> None:
        self._network, self._batch = network, np.zeros(file.shape, file.dtype)

    @property
    def input(self) -> NDArray[Any]:
        return self._batch[0]

    def start(self) -> None:
        self._logits = self._network.infer(self._batch)[0]

    def wait(self) -> tuple[NDArray[np.float32], float]:
        return self._logits, 0.0


class OnnxRuntimeNetwork:
    def __init__(self, onnx: bytes, file: NetworkFile) -> None:
        import onnxruntime

        providers = ["CPUExecutionProvider"]
        self._session, self._file = onnxruntime.InferenceSession(onnx, providers=providers), file

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        return self._session.run([OUTPUT], {INPUT: self._file.as_floats(batch)})[0]

    def open_request(self) -> OnnxRuntimeRequest:
        return OnnxRuntimeRequest(self, self._file)

    def close(self) -> None:
        """Nothing."""


class OnnxRuntimeBackEnd:
    """A third back end: what one has to bring."""

    def ways(self, precision: Precision | None) -> tuple[Way, ...]:
        return (FP32,)

    def open_network(self, file: NetworkFile, way: Way) -> OnnxRuntimeNetwork:
        return OnnxRuntimeNetwork(float_onnx(file.onnx, "fp32"), file)

    def describe(self, way: Way) -> str:
        return f"onnxruntime, {way.name}"


@pytest.mark.slow
def test_another_back_end_takes_its_place(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", STREAMS["three"])
    frames = noise_frames(bundle.manifest.history + 1, (96, 128))
    mine, found = CPUDevice(bundle, OnnxRuntimeBackEnd(), FP32), []
    for device in (mine, open_device("cpu", bundle, precision="fp32")):
        context = device.open_context()
        for frame in frames:
            future = context.submit(frame, infer=True)
        found.append(logits_of(future))
        device.close()
    np.testing.assert_allclose(*found, atol=1e-4)


def test_a_file_that_is_no_network_is_named() -> None:
    with pytest.raises(BundleError, match=r"x\.onnx: the network is not readable ONNX"):
        compile_network(NetworkFile(b"not a network", "x.onnx", (1, 3, 224, 224), 8))


@pytest.mark.slow
@pytest.mark.parametrize("first", ["gstreamer", "openvino"])
def test_gstreamer_and_openvino_share_a_process_in_either_order(
    first: str, demo_bundle: Path
) -> None:
    """GStreamer's libunwind once made OpenVINO abort where GStreamer had been loaded first."""
    steps = {
        "gstreamer": "from edge.sources.source import open_source\n"
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
        "import gc, signal\nfrom pathlib import Path\n"
        "from edge.devices.inference import NetworkFile\n"
        "from edge.devices.openvino import compile_network\n"
        "signal.signal(signal.SIGINT, lambda *_: print('told'))\n"
        f"folder = Path({str(demo_bundle)!r})\n"
        "made = [\n"
        "    compile_network(NetworkFile(data.read_bytes(), data.name, (1, n, 224, 224), 8))\n"
        "    for data, n in ((folder / 'spatial.onnx', 3), (folder / 'temporal.onnx', 20))\n]\n"
        "while made:\n    del made[0]\n    gc.collect()\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr
