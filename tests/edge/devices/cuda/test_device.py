"""The CUDA device, whole, on the stand-in for a GPU (tests/support/cuda/gpu.py): it says what
the CPU device says, however its streams take turns, keeps nothing that grows, and gives
everything back.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.manifest import Bundle
from edge.commands.build import BuildOptions, build
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer, RunConfig, label_video
from edge.devices import Device, open_device
from edge.devices.cuda.driver import NO_DRIVER, _primary_context, open_driver
from edge.devices.cuda.kernels.launches import FILES
from edge.devices.expired import ResultExpiredError
from edge.devices.fusion_network import open_fusion_network
from edge.devices.tensorrt.engine import Engine
from edge.devices.tensorrt.get_or_build import engine_folder
from edge.errors import BundleError, DeviceError
from edge.video.frames import Frame
from tests.support.answers import STACK, Answer, assert_same, infer
from tests.support.bundles import STREAMS, noise_frames, write_bundle
from tests.support.cuda.gpu import (
    GPU,
    ILLEGAL_ADDRESS,
    LAUNCH_FAILED,
    NO_BINARY_FOR_GPU,
    ORDERS,
    OUT_OF_MEMORY,
    UNKNOWN,
    Plug,
)
from tests.support.engines import copy_bundle
from tests.support.frames import street
from tests.support.int8 import choose_right_int8
from tests.support.logged import logged
from tests.support.parity import check_here, copy_with_parity, little_flow
from tests.support.recurrent import recurrent_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packed(light_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With little flow to compute: the kernels have tests of their own."""
    return copy_with_parity(light_bundle, tmp_path_factory.mktemp("cuda") / "b", little_flow).path


@pytest.fixture
def bundle(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_bundle(packed, tmp_path / "bundle")


@pytest.fixture
def shipped(demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The demo bundle with little flow to compute."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_with_parity(demo_bundle, tmp_path / "shipped", little_flow)


@contextmanager
def on_gpu(gpu: GPU, bundle: Bundle, flow: bool = True) -> Iterator[Device]:
    device = open_device("cuda", bundle, flow_wanted=flow)
    gpu.forget_launched()
    with closing(device):
        yield device


def cpu_answers(bundle: Bundle, frames: list[Frame]) -> list[Answer]:
    with closing(open_device("cpu", bundle, flow_wanted=True, choose=choose_right_int8)) as cpu:
        return infer(cpu.open_context(), frames)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("integrated", [True, False], ids=["jetson", "pc"])
def test_it_says_what_the_cpu_says(
    order: str, integrated: bool, bundle: Bundle, plug: Plug
) -> None:
    """No kernel reads frames where the host put them: a Jetson's GPU does not cache that memory, a
    PC's would read over the bus."""
    frames = [street(index) for index in range(STACK + 5)]
    expected = cpu_answers(bundle, frames)
    gpu = plug(order, integrated)
    with on_gpu(gpu, bundle) as device:
        context = device.open_context()
        found = infer(context, frames)
        assert sum(each is not None for each, _ in found) == 5
        assert_same(found, expected, tolerance=2e-4)
        context.clear()  # as after a gap: the same frames give the same scores
        again = infer(context, [replace(frame, time_s=frame.time_s + 9) for frame in frames])
        assert_same(again, found)
    assert gpu.count("kernel accesses to host") == 0
    assert gpu.count("pageable copies") == 0
    assert gpu.left == {}


@pytest.mark.slow
def test_the_shipped_bundle_says_what_the_cpu_says(shipped: Bundle, plug: Plug) -> None:
    frames = [street(index) for index in range(STACK + 2)]
    expected = cpu_answers(shipped, frames)
    with on_gpu(plug(), shipped) as device:
        assert_same(infer(device.open_context(), frames), expected)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("streams", STREAMS)
def test_any_streams_say_what_the_cpu_says(
    streams: str, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    """One of each kind alone; two methods of motion and two lengths of stack at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = write_bundle(tmp_path / "b", STREAMS[streams])
    frames = noise_frames(bundle.manifest.history + 8, (90, 118))
    expected = cpu_answers(bundle, frames)
    with on_gpu(plug(order, integrated=False), bundle) as device:
        found = infer(device.open_context(), frames)
    assert_same(found, expected, tolerance=2e-4)  # scores differ by more from frame to frame
    last, flows = found[-1]
    assert last is not None
    assert list(last.logits) == list(bundle.manifest.streams)
    assert list(flows) == list(bundle.manifest.motions)
    assert set(bundle.manifest.streams) < set(last.stages_ms)
    assert all(milliseconds > 0 for milliseconds in last.stages_ms.values())


@pytest.mark.slow
def test_a_recurrent_fusion_shows_on_the_gpu_what_it_shows_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    """Its network is on the host with both, and its state is of the source's frames in order."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    streams = {name: STREAMS["three"][name] for name in ("spatial", "temporal")}
    bundle, _ = recurrent_bundle(tmp_path / "b", streams)
    frames = noise_frames(bundle.manifest.history + 12, (96, 128))
    frames += [replace(f, time_s=f.time_s + 9, index=f.index + 90) for f in frames]  # a gap
    plug()
    shown: dict[str, list[np.ndarray]] = {"cpu": [], "cuda": []}
    for name, scores in shown.items():
        with closing(open_device(name, bundle)) as device:
            context, network = device.open_context(), open_fusion_network(bundle)
            recognizer = Recognizer(bundle.manifest, context, RunConfig(), name, network)
            labels: list[Label] = []
            label_video(frames, recognizer, labels.append)
            scores += [each.decision.scores for each in labels if each.decision is not None]
    assert len(shown["cpu"]) == 24
    np.testing.assert_allclose(shown["cuda"], shown["cpu"], atol=1e-3)
    np.testing.assert_allclose(shown["cuda"][:12], shown["cuda"][12:], atol=1e-6)
    *_, line = check_here(bundle, "cuda")
    assert line.startswith("fusion   4 samples, largest score difference 0.0000")


@pytest.mark.slow
def test_a_frame_waits_for_its_slot(bundle: Bundle, plug: Plug) -> None:
    """Frames that nobody waits for say what they say one by one."""
    frames = [street(index) for index in range(STACK + 3)]
    with on_gpu(plug(), bundle) as device:
        one_by_one = infer(device.open_context(), frames)
        context = device.open_context()
        pending = [context.submit(frame, infer=True) for frame in frames]
        last = [(future.result(), future.flows()) for future in pending[-2:]]
    assert_same(last, one_by_one[-2:], tolerance=1e-6)


def test_a_motion_without_kernels_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    plug()
    monkeypatch.setattr("edge.devices.cuda.device.FLOW_PLANS", {})
    with pytest.raises(DeviceError, match=r"no kernels for the motion of temporal \(tvl1\)"):
        open_device("cuda", bundle)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_contexts_share_the_networks_and_nothing_else(
    order: str, bundle: Bundle, plug: Plug
) -> None:
    """Two cameras in turn, each with its own frames, say what each says alone."""
    with on_gpu(plug(order), bundle) as device:
        clips = [[street(start + index) for index in range(STACK + 3)] for start in (0, 30)]
        alone = [infer(device.open_context(), clip) for clip in clips]
        contexts = [device.open_context() for _ in clips]
        pending = [[contexts[k].submit(clips[k][0], infer=True) for k in range(2)]]
        found: list[list[Answer]] = [[], []]
        for step in range(1, STACK + 3):
            pending.append([contexts[k].submit(clips[k][step], infer=True) for k in range(2)])
            for k, each in enumerate(pending.pop(0)):
                found[k].append((each.result(), each.flows()))
        for k, each in enumerate(pending[0]):
            found[k].append((each.result(), each.flows()))
        for k in range(2):
            assert_same(found[k], alone[k], tolerance=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS[:2])
def test_no_source_waits_for_another(order: str, bundle: Bundle, plug: Plug) -> None:
    """The GPU may finish a frame of one while the other's, submitted before, has not begun."""
    gpu = plug(order)
    with on_gpu(gpu, bundle) as device:
        gpu.skip_kernels()
        contexts = [device.open_context() for _ in range(2)]  # in the order of their streams
        taken, other = contexts if order == ORDERS[0] else reversed(contexts)
        for index in range(STACK + 6):  # launched as graphs, in the end
            behind = other.submit(street(index), infer=True)
            assert (taken.submit(street(index), infer=True).result() is None) == (index < STACK)
            assert gpu.count("jobs") > 0
        assert behind.result() is not None


@pytest.mark.slow
def test_a_closed_context_s_memory_is_the_next_one_s(bundle: Bundle, plug: Plug) -> None:
    gpu = plug()
    with on_gpu(gpu, bundle) as device:
        owned = []
        for _ in range(4):
            context = device.open_context()
            for index in range(6):
                context.submit(street(index), infer=True)
            context.close()
            owned.append(gpu.left)
        # a first frame becomes a graph when the second source has one
        assert owned[1] == owned[2] == owned[3]


@pytest.mark.slow
def test_sizes_may_change_on_the_way(bundle: Bundle, plug: Plug) -> None:
    sizes = [(240, 320), (480, 640), (360, 640)]
    frames = [street(i, size_hw=sizes[i % 3]) for i in range(STACK + 3)]
    expected = cpu_answers(bundle, frames)
    with on_gpu(plug(ORDERS[2], integrated=False), bundle) as device:
        assert_same(infer(device.open_context(), frames), expected, tolerance=2e-4)


def test_a_frame_takes_the_same_launches_always(bundle: Bundle, plug: Plug) -> None:
    gpu = plug()
    with on_gpu(gpu, bundle, flow=False) as device:
        context = device.open_context()
        launches = []
        for index in range(STACK + 4):
            gpu.forget_launched()
            context.submit(street(index), infer=True)
            launches.append(gpu.launched)
    # luma, pyramid; flow and quantise; RGB and stack
    counts = [len(each) for each in launches]
    assert counts == [1 + 1] + [2 + 5 + 1] * 9 + [8 + 2] * 4
    assert gpu.calls("cuFuncSetBlockShape") == 0  # a second call for each launch
    # flow takes longest: it is on its way before the networks that do not wait for it
    assert launches[-1].index("quantise") < launches[-1].index("rgb")


def test_nothing_grows(bundle: Bundle, plug: Plug) -> None:
    gpu = plug(integrated=False)
    with on_gpu(gpu, bundle) as device:
        context = device.open_context()
        gpu.skip_kernels()  # what it keeps, not what it says
        for index in range(STACK + 4):
            context.submit(street(index), infer=True)
        before = gpu.left
        frame, jobs = street(0), []
        for index in range(STACK + 4, 2000):
            context.submit(replace(frame, time_s=index / 25), infer=index % 50 == 0)
            jobs.append(gpu.count("jobs"))
        assert gpu.left == before
        assert max(jobs) < 400


@pytest.mark.slow
def test_without_a_picture_no_flow_comes_back(bundle: Bundle, plug: Plug) -> None:
    frames = [street(index) for index in range(STACK + 1)]
    with on_gpu(plug(), bundle, flow=False) as device:
        last, flows = infer(device.open_context(), frames)[-1]
    assert last is not None
    assert flows == {}
    assert set(last.stages_ms) == {"resize", "flow", "spatial", "temporal", "host"}


def test_times_must_rise(bundle: Bundle, plug: Plug) -> None:
    with on_gpu(plug(), bundle) as device:
        context = device.open_context()
        context.submit(street(4), infer=True)
        with pytest.raises(ValueError, match="frame times must rise"):
            context.submit(street(3), infer=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp16", "best"])
def test_build_then_verify_then_run(
    precision: str, shipped: Bundle, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    plug()
    trt = plug.tensorrt
    monkeypatch.setattr("edge.commands.build.TIMED_RUNS", 3)
    monkeypatch.setattr("edge.commands.build.WARM_RUNS", 1)
    with logged() as lines:
        build(BuildOptions(shipped.path, precision, None, None))  # type: ignore[arg-type]
    text = "\n".join(lines)
    assert text.count("right: largest score difference") == (4 if precision == "best" else 2)
    assert "temporal: layers: 49 " in text
    assert f"engines are in {engine_folder(shipped)}" in text
    built = len(trt.builds)
    with logged() as lines:
        told = check_here(shipped, "cuda")
        with closing(open_device("cuda", shipped)) as device:
            description = device.description
    assert [line.split()[0] for line in told] == ["tvl1", "spatial", "temporal"]
    assert description.startswith("cuda: Stand-in, TensorRT 10.3.0")
    if precision != "best":
        assert f"TensorRT 10.3.0 {precision}/{precision}" in description
    assert lines == []
    assert len(trt.builds) == built  # verify used what build had made


@pytest.mark.slow
def test_run_builds_what_is_not_there_and_says_so(bundle: Bundle, plug: Plug) -> None:
    plug()
    with logged() as lines:
        open_device("auto", bundle).close()
    assert sum("building an engine" in line for line in lines) == 2


def test_engines_that_compute_something_else_are_not_chosen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    plug()
    monkeypatch.setattr(
        "tests.support.tensorrt_engine._cpu_network",
        lambda data, shape, classes: lambda batch: np.arange(classes, dtype=np.float32)[None],
    )
    with pytest.raises(DeviceError, match=r"no spatial engine .* parity sample \d differs"):
        build(BuildOptions(bundle.path, "int8", None, None))
    assert not list(engine_folder(bundle).glob("tuning-*"))


def refuse(error: Exception) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        raise error

    return call


Fault = Callable[[pytest.MonkeyPatch, GPU], None]


def no_pycuda(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    patch.setitem(sys.modules, "pycuda.driver", None)


def no_start(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    patch.setattr("edge.devices.cuda.driver.gpu_fault", lambda: None)
    patch.setattr("edge.devices.cuda.driver._primary_context", _primary_context.__wrapped__)
    gpu.fail("cuInit", UNKNOWN)


def no_nvcc(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    nowhere(patch, gpu)
    patch.setenv("PATH", "/nowhere")


def nowhere(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    patch.setattr("edge.devices.cuda.driver.user_cache", lambda: Path("/nowhere"))
    patch.setattr("edge.devices.cuda.driver._CUDA_FOLDER", Path("/nowhere"))


def old_driver(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    gpu.fail("cuModuleLoadDataEx", NO_BINARY_FOR_GPU)


def no_pinned_memory(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    gpu.fail("cuMemHostAlloc", OUT_OF_MEMORY)


def no_memory(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    gpu.fail("cuMemAlloc", OUT_OF_MEMORY, after=9)


def no_kernel(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    gpu.fail("kernel iterate", LAUNCH_FAILED, after=3)


def no_inference(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    sys.modules["tensorrt"]._refuse_enqueue = True  # type: ignore[attr-defined]


def no_tensorrt(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    patch.setitem(sys.modules, "tensorrt", None)


def no_runtime(patch: pytest.MonkeyPatch, gpu: GPU) -> None:
    patch.setattr("tensorrt.Runtime", refuse(TypeError("factory function returned nullptr")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (no_pycuda, "pycuda cannot be used"),
        (no_start, "cuInit failed: unknown error"),
        (no_nvcc, "nvcc cannot compile preprocess.cu for sm_87"),
        (old_driver, "toolkit is newer than the driver"),
        (no_pinned_memory, "cuMemHostAlloc failed: out of memory"),
        (no_memory, "of 1024 MiB are free); stop other programs"),
        (no_kernel, "unspecified launch failure"),
        (no_inference, "could not start an inference"),
        (no_tensorrt, "TensorRT is not installed"),
        (no_runtime, "TensorRT 10.3.0 finds no usable GPU"),
    ],
)
def test_a_gpu_that_fails_is_left_whole_and_told(
    fault: Fault, says: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    gpu = plug()
    fault(monkeypatch, gpu)
    with pytest.raises(DeviceError) as caught:
        open_device("cuda", bundle)
    assert says in str(caught.value)
    gc.collect()
    assert gpu.left == {}
    with logged() as lines, closing(open_device("auto", bundle)) as device:
        assert device.description.startswith("cpu")
    assert lines[-1].startswith("running on the CPU, because the GPU cannot be used: ")
    assert fault is no_kernel or says in lines[-1]  # a broken context says so from the start
    gc.collect()
    assert gpu.left == {}


def test_where_neither_device_can_be_used_both_reasons_are_told(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    no_pycuda(monkeypatch, plug())
    monkeypatch.delitem(sys.modules, "edge.devices.openvino", raising=False)
    monkeypatch.delattr("edge.devices.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError, match=r"pycuda cannot be used .*OpenVINO is not installed"):
        open_device("auto", bundle)


@pytest.mark.slow
def test_a_fault_in_the_middle_is_one_line_and_leaves_the_gpu_whole(
    bundle: Bundle, plug: Plug
) -> None:
    gpu = plug()
    with on_gpu(gpu, bundle) as device:
        context = device.open_context()
        gpu.fail("kernel iterate", ILLEGAL_ADDRESS)
        context.submit(street(0), infer=True)
        future = context.submit(street(1), infer=True)
        with pytest.raises(DeviceError, match=r"illegal memory access .*; stop other programs"):
            future.flows()
    assert gpu.left == {}


@pytest.mark.slow
def test_no_network_goes_while_it_runs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    gpu = plug()
    with on_gpu(gpu, bundle) as device:
        context = device.open_context()
        under_way = []
        close = Engine.close

        def watched(engine: Engine) -> None:
            under_way.append(gpu.count("jobs"))
            close(engine)

        monkeypatch.setattr(Engine, "close", watched)
        for index in range(STACK + 2):
            context.submit(street(index), infer=True)
        assert gpu.count("jobs") > 0
    assert under_way == [0, 0]


@pytest.mark.slow
def test_a_result_that_is_read_too_late_is_not_another_frame_s(bundle: Bundle, plug: Plug) -> None:
    with on_gpu(plug(), bundle) as device:
        context = device.open_context()
        pending = [context.submit(street(index), infer=True) for index in range(STACK + 3)]
        with pytest.raises(ResultExpiredError, match="before 2 more frames are submitted"):
            pending[STACK].result()
        assert pending[-2].result() is not None
        assert pending[-1].result() is not None


@pytest.mark.slow
def test_best_takes_int8_where_fp16_cannot_be_made(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    plug()
    monkeypatch.setattr("edge.commands.build.TIMED_RUNS", 1)
    fault = BundleError("holds values that FP16 cannot hold")
    monkeypatch.setattr("edge.devices.tensorrt.builder.float_onnx", refuse(fault))
    with logged() as lines:
        build(BuildOptions(bundle.path, "best", None, None))
    text = "\n".join(lines)
    assert text.count("fp16 cannot be used: ") == 2
    assert text.count("right: largest score difference") == 2


def test_a_device_whose_int8_cannot_be_built_runs_in_fp16(bundle: Bundle, plug: Plug) -> None:
    plug()
    trt = plug.tensorrt
    trt._int8_fault = "Error Code 1: Myelin ([myelin_graph.h:1] compilation failed)"
    for start in ("first", "second"):
        with logged() as lines, closing(open_device("cuda", bundle)) as device:
            assert set(device.precisions.values()) == {"fp16"}
            assert "TensorRT 10.3.0 fp16/fp16" in device.description, start
        told = [line for line in lines if "running in fp16 instead" in line]
        assert [line.partition(":")[0] for line in told] == ["spatial", "temporal"]
        assert all("Myelin" in line for line in told)
    assert len(trt.builds) == 2
    trt._int8_fault = ""  # as after an update that keeps its version
    with logged() as lines:
        build(BuildOptions(bundle.path, "int8", None, None))
    assert not any("fp16" in line.replace("built with fp16", "") for line in lines)
    with closing(open_device("cuda", bundle)) as device:
        assert set(device.precisions.values()) == {"int8"}


@pytest.mark.parametrize("kept", ["", "half a file"])
def test_kernels_are_compiled_once_and_again_where_they_were_kept_half(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    plug(cache=tmp_path)
    compiled = []
    compile_ = pycuda_compiler().compile

    def compile_once(text: str, **options: Any) -> bytes:
        compiled.append(text)
        return compile_(text, **options)

    monkeypatch.setattr("pycuda.compiler.compile", compile_once)
    with open_driver():
        assert len(compiled) == len(FILES)
    if kept:
        for path in tmp_path.rglob("*.cubin"):
            path.write_text(kept)
    with logged() as lines:
        for _ in range(2):
            with open_driver():
                pass
    assert lines == []
    assert len(compiled) == len(FILES) * (2 if kept else 1)


def pycuda_compiler() -> Any:
    from pycuda import compiler

    return compiler


def test_a_cache_that_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, plug: Plug
) -> None:
    plug()
    monkeypatch.setattr("edge.devices.cuda.driver.user_cache", lambda: Path("/proc/nowhere"))
    with logged() as lines, open_driver():
        pass
    assert len(lines) == len(FILES)
    assert lines[0].startswith("kernels are compiled again at each start: /proc/nowhere")


@pytest.mark.slow
def test_without_a_gpu_cuda_is_refused_and_auto_says_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.devices.cuda.driver.gpu_fault", lambda: NO_DRIVER)
    with pytest.raises(DeviceError, match=r"libcuda.so.1 is not here; use --device cpu"):
        open_device("cuda", bundle)
    with logged() as lines:
        open_device("auto", bundle).close()
    assert lines == []


@pytest.mark.slow
def test_a_broken_driver_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "NVIDIA's driver is here, but opens no GPU (CUDA error 999)"
    monkeypatch.setattr("edge.devices.cuda.driver.gpu_fault", lambda: fault)
    with logged() as lines:
        open_device("auto", bundle).close()
    assert fault in lines[0]
