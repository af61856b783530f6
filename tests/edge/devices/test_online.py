"""A network with state on the CPU device: the state moves on at its own interval, is held by
source, and is forgotten over a gap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, write_manifest
from edge.bundle.parity import load_parity
from edge.bundle.tensor_names import INPUT, OUTPUT, next_state
from edge.commands.self_check.parity import check_device
from edge.commands.self_check.trials import try_ways
from edge.devices import Device, InferenceFuture, SourceContext, open_device, take_literal, ways
from edge.devices.cuda.device import check_kernels
from edge.errors import BundleError, DeviceError
from edge.inputs.builder import build_input
from edge.motion.preprocessor import Step
from edge.video.frames import Frame, resize_to_model
from tests.support.bundles import SIDE, flow_input, noise_frames, online_input, write_bundle

ZEROS = np.zeros((1, 1, SIDE, SIDE), np.float32)
FRAMES = noise_frames(14, (96, 128))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    inputs = {"spatial": online_input(), "temporal": flow_input(2)}
    return write_bundle(tmp_path_factory.mktemp("online") / "b", inputs)


@pytest.fixture(scope="module")
def device(bundle: Bundle) -> Iterator[Device]:
    opened = open_device("cpu", bundle, flow_wanted=True, choose=take_literal)
    yield opened
    opened.close()


def expected(bundle: Bundle, frames: Sequence[Frame], moves: Sequence[int]) -> NDArray[np.float32]:
    """The logits of frames in turn, by onnxruntime. moves: those that move the state on."""
    stream, geometry = bundle.manifest.streams["spatial"], bundle.manifest.geometry
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(bundle.read("spatial.onnx"), options)
    state, rows = ZEROS, []
    for number, frame in enumerate(frames):
        steps = [Step(resize_to_model(frame, geometry))]
        values = build_input(stream.input, geometry.size_hw, stream.normalisation, steps)
        names = [OUTPUT, next_state("earlier")]
        logits, after = session.run(names, {INPUT: values[None], "earlier": state})
        rows.append(logits[0])
        state = after if number in moves else state
    return np.stack(rows)


def spatial_logits(futures: Sequence[InferenceFuture]) -> list[NDArray[np.float32]]:
    results = [future.result() for future in futures]
    return [result.logits["spatial"] for result in results if result is not None]


def run(context: SourceContext, frames: Sequence[Frame]) -> NDArray[np.float32]:
    """The logits of these frames, with as many in flight as the device allows."""
    waiting: deque[InferenceFuture] = deque()
    rows: list[NDArray[np.float32]] = []
    for frame in frames:
        if len(waiting) == context.depth - 1:
            rows += spatial_logits([waiting.popleft()])
        waiting.append(context.submit(frame, infer=True))
    return np.stack(rows + spatial_logits(waiting))


def test_the_state_moves_on_at_its_own_interval(bundle: Bundle, device: Device) -> None:
    found = run(device.open_context(), FRAMES)
    # networks run from frame 2 on, where the stack of flow is full
    wanted = expected(bundle, FRAMES[2:], moves=(0, 3, 6, 9))
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    without = expected(bundle, FRAMES[2:], moves=())
    assert np.abs(without[1:] - wanted[1:]).max(axis=1).min() > 0.01  # each saw a step before


def test_sources_do_not_share_it(bundle: Bundle, device: Device) -> None:
    """Nor is a state lost when other sources use all requests before it is read."""
    contexts = [device.open_context() for _ in range(5)]
    rows: list[list[NDArray[np.float32]]] = [[] for _ in contexts]
    for index in range(8):
        for number, context in enumerate(contexts):
            frame = replace(FRAMES[index + number], time_s=FRAMES[index].time_s)
            rows[number] += spatial_logits([context.submit(frame, infer=True)])
    for number, found in enumerate(rows):
        wanted = expected(bundle, FRAMES[number + 2 : number + 8], moves=(0, 3))
        np.testing.assert_allclose(np.stack(found), wanted, atol=1e-3)


def test_a_gap_clears_it(bundle: Bundle, device: Device) -> None:
    context = device.open_context()
    run(context, FRAMES[:6])
    context.clear()
    found = run(context, FRAMES[6:])
    np.testing.assert_allclose(found, expected(bundle, FRAMES[8:], moves=(0, 3)), atol=1e-3)


def test_a_pause_of_the_networks_clears_it(bundle: Bundle, device: Device) -> None:
    """As on standby: frames go on, but none is looked at for longer than a gap."""
    context = device.open_context()
    run(context, FRAMES[:3])
    for frame in FRAMES[3:13]:  # 0.4 s
        assert context.submit(frame, infer=False).result() is None
    (found,) = run(context, FRAMES[13:])
    np.testing.assert_allclose(found, expected(bundle, FRAMES[13:], ())[0], atol=1e-3)


@pytest.mark.slow
def test_parity_samples_cover_it(bundle: Bundle, device: Device) -> None:
    """The samples after the first depend on the state, and a device that loses it is found."""
    samples = load_parity(bundle)
    wanted = expected(bundle, samples.frames[2:], moves=(0, 3))
    np.testing.assert_allclose(samples.logits["spatial", "int8"], wanted, atol=1e-3)
    assert check_device(bundle, samples, device)
    (tried,) = try_ways("cpu", bundle, ways("cpu", "int8")[-1:])
    assert tried.fault is None
    forgetful = replace(
        samples,
        logits=samples.logits | {("spatial", "int8"): expected(bundle, samples.frames[2:], ())},
    )
    with pytest.raises(DeviceError, match="the spatial scores of parity sample"):
        check_device(bundle, forgetful, device)


def test_the_gpu_refuses_it_in_one_line(bundle: Bundle) -> None:
    with pytest.raises(DeviceError) as caught:
        check_kernels(bundle.manifest)
    assert str(caught.value) == (
        "device cuda: has no memory for the state of spatial (rgb_online); use --device cpu"
    )


def test_a_network_without_that_state_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    stream = bundle.manifest.streams["spatial"]
    state = {"earlier": (1, 1, SIDE, SIDE), "more": (1, 1, 2, 2)}
    spec = stream.input.model_copy(update={"state": state})
    streams = bundle.manifest.streams | {"spatial": stream.model_copy(update={"input": spec})}
    for name in bundle.manifest.files:
        (tmp_path / name).write_bytes(bundle.read(name))
    changed = bundle.manifest.model_copy(update={"streams": streams})
    write_manifest(tmp_path, changed)
    with pytest.raises(BundleError, match="needs the inputs input, earlier, more and outputs"):
        open_device("cpu", Bundle(tmp_path, changed))
