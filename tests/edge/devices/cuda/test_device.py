"""The CUDA device, whole, on doubles of pycuda and TensorRT that compute: it says what the CPU
device says, however its streams take turns, and keeps nothing that grows.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.manifest import Bundle
from edge.commands.build import BuildOptions, build
from edge.commands.verify import verify
from edge.devices import Device, open_device
from edge.devices.cuda.driver import NO_DRIVER, open_driver
from edge.devices.cuda.kernels.launches import FILES
from edge.devices.expired import ResultExpiredError
from edge.devices.tensorrt.get_or_build import engine_folder
from edge.errors import BundleError, DeviceError
from tests.support.answers import STACK, Answer, assert_same, infer
from tests.support.bundles import STREAMS, noise_frames, write_bundle
from tests.support.cuda.pycuda_double import GPU, ORDERS, install
from tests.support.engines import copy_bundle
from tests.support.frames import street
from tests.support.logged import logged
from tests.support.parity import copy_with_parity, little_flow

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packed(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle with little flow to compute: the kernels have tests of their own."""
    return copy_with_parity(demo_bundle, tmp_path_factory.mktemp("cuda") / "b", little_flow).path


@pytest.fixture
def bundle(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_bundle(packed, tmp_path / "bundle")


def open_on_double(
    patch: pytest.MonkeyPatch, gpu: GPU, bundle: Bundle, flow: bool = True
) -> Device:
    install(patch, gpu)
    device = open_device("cuda", bundle, flow_wanted=flow)
    gpu.launched.clear()
    return device


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("integrated", [True, False], ids=["jetson", "pc"])
def test_it_says_what_the_cpu_says(
    order: str, integrated: bool, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [street(index) for index in range(STACK + 5)]
    cpu = open_device("cpu", bundle, flow_wanted=True)
    expected = infer(cpu.open_context(), frames)
    cpu.close()
    gpu = GPU(order, integrated)
    device = open_on_double(monkeypatch, gpu, bundle)
    context = device.open_context()
    found = infer(context, frames)
    assert sum(each is not None for each, _ in found) == 5
    assert_same(found, expected)
    context.clear()  # as after a gap: the same frames give the same scores
    again = infer(context, [replace(frame, time_s=frame.time_s + 9) for frame in frames])
    assert_same(again, found)
    gpu.memory.check_guards()
    device.close()
    assert gpu.contexts == 0
    assert gpu.allocated == 0


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("streams", STREAMS)
def test_any_streams_say_what_the_cpu_says(
    streams: str, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each kind alone; two methods of motion and two lengths of stack at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = write_bundle(tmp_path / "b", STREAMS[streams])
    frames = noise_frames(bundle.manifest.history + 8, (96, 128))
    cpu = open_device("cpu", bundle, flow_wanted=True)
    expected = infer(cpu.open_context(), frames)
    cpu.close()
    gpu = GPU(order, integrated=False)
    device = open_on_double(monkeypatch, gpu, bundle)
    found = infer(device.open_context(), frames)
    assert_same(found, expected)
    last, flows = found[-1]
    assert last is not None
    assert list(last.logits) == list(bundle.manifest.streams)
    assert list(flows) == list(bundle.manifest.motions)
    assert set(bundle.manifest.streams) < set(last.stages_ms)
    gpu.memory.check_guards()
    device.close()


def test_a_motion_without_kernels_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, GPU())
    monkeypatch.setattr("edge.devices.cuda.device.FLOW_PLANS", {})
    with pytest.raises(DeviceError, match=r"no kernels for the motion of temporal \(tvl1\)"):
        open_device("cuda", bundle)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_contexts_share_the_networks_and_nothing_else(
    order: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cameras in turn, each with its own frames, say what each says alone."""
    device = open_on_double(monkeypatch, GPU(order), bundle)
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
def test_a_closed_context_s_memory_is_the_next_one_s(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = GPU()
    device = open_on_double(monkeypatch, gpu, bundle)
    allocated = []
    for _ in range(3):
        context = device.open_context()
        for index in range(3):
            context.submit(street(index), infer=True)
        context.close()
        allocated.append(gpu.allocated)
    assert len(set(allocated)) == 1


@pytest.mark.slow
def test_sizes_may_change_on_the_way(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(240, 320), (480, 640), (360, 640)]
    frames = [street(i, size_hw=sizes[i % 3]) for i in range(STACK + 3)]
    cpu = open_device("cpu", bundle, flow_wanted=True)
    expected = infer(cpu.open_context(), frames)
    device = open_on_double(monkeypatch, GPU(ORDERS[2], integrated=False), bundle)
    assert_same(infer(device.open_context(), frames), expected)


def test_a_frame_takes_the_same_launches_always(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = GPU()
    device = open_on_double(monkeypatch, gpu, bundle, flow=False)
    context = device.open_context()
    counts = []
    for index in range(STACK + 4):
        gpu.launched.clear()
        context.submit(street(index), infer=True)
        counts.append(len(gpu.launched))
    # luma, pyramid; flow and quantise; RGB and stack
    assert counts == [1 + 1] + [2 + 5 + 1] * 9 + [8 + 2] * 4


def test_nothing_grows(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = GPU(integrated=False)
    device = open_on_double(monkeypatch, gpu, bundle)
    context = device.open_context()
    monkeypatch.setattr(
        "tests.support.cuda.on_cpu.run", lambda launch: None
    )  # what it keeps, not what it says
    for index in range(STACK + 4):
        context.submit(street(index), infer=True)
    before = (gpu.allocated, gpu.pinned, gpu.events, len(gpu.streams))
    frame = street(0)
    for index in range(STACK + 4, 2000):
        context.submit(replace(frame, time_s=index / 25), infer=index % 50 == 0)
    assert (gpu.allocated, gpu.pinned, gpu.events, len(gpu.streams)) == before
    assert max(len(stream.jobs) for stream in gpu.streams) < 200


@pytest.mark.slow
def test_without_a_picture_no_flow_comes_back(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_on_double(monkeypatch, GPU(), bundle, flow=False)
    last, flows = infer(device.open_context(), [street(index) for index in range(STACK + 1)])[-1]
    assert last is not None
    assert flows == {}
    assert set(last.stages_ms) == {"resize", "flow", "spatial", "temporal", "host"}


def test_times_must_rise(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_on_double(monkeypatch, GPU(), bundle)
    context = device.open_context()
    context.submit(street(4), infer=True)
    with pytest.raises(ValueError, match="frame times must rise"):
        context.submit(street(3), infer=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "fp16", "best"])
def test_build_then_verify_then_run(
    precision: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch, GPU())
    monkeypatch.setattr("edge.commands.build.TIMED_RUNS", 3)
    monkeypatch.setattr("edge.commands.build.WARM_RUNS", 1)
    with logged() as lines:
        build(BuildOptions(bundle.path, precision, None, None))  # type: ignore[arg-type]
    text = "\n".join(lines)
    assert text.count("right: largest score difference") == (4 if precision == "best" else 2)
    assert "temporal: layers: 49 " in text
    assert f"engines are in {engine_folder(bundle)}" in text
    built = len(trt.builds)
    with logged() as lines:
        told = verify(bundle.path, "cuda")
    assert [line.split()[0] for line in told[:-1]] == ["tvl1", "spatial", "temporal"]
    assert "the bundle is right on cuda: Double, TensorRT 10.3.0" in told[-1]
    if precision != "best":
        assert told[-1].endswith(f"{precision}/{precision}")
    assert lines == []
    assert len(trt.builds) == built  # verify used what build had made


def test_run_builds_what_is_not_there_and_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, GPU())
    with logged() as lines:
        open_device("auto", bundle)
    assert sum("building an engine" in line for line in lines) == 2


def test_engines_that_compute_something_else_are_not_chosen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, GPU())
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


def no_pycuda(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "pycuda.driver", None)


def no_start(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("pycuda.driver.init", refuse(cuda_error("cuInit failed: unknown error")))


def no_nvcc(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("pycuda.compiler.compile", refuse(OSError("nvcc was not found")))


def old_driver(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("pycuda.driver.module_from_buffer", refuse(cuda_error("invalid image")))


def no_pinned_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("pycuda.driver.pagelocked_empty", refuse(cuda_error("out of memory")))


def no_inference(patch: pytest.MonkeyPatch) -> None:
    sys.modules["tensorrt"]._refuse_enqueue = True  # type: ignore[attr-defined]


def no_tensorrt(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "tensorrt", None)


def no_runtime(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tensorrt.Runtime", refuse(TypeError("factory function returned nullptr")))


def cuda_error(text: str) -> Exception:
    return sys.modules["pycuda.driver"].Error(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (no_pycuda, "pycuda cannot be used"),
        (no_start, "cuInit failed: unknown error"),
        (no_nvcc, "nvcc cannot compile preprocess.cu for sm_87 (nvcc was not found)"),
        (old_driver, "toolkit is newer than the driver"),
        (no_pinned_memory, "device cuda: out of memory"),
        (no_inference, "could not start an inference"),
        (no_tensorrt, "TensorRT is not installed"),
        (no_runtime, "TensorRT 10.3.0 finds no usable GPU"),
    ],
)
def test_a_gpu_that_fails_is_left_whole_and_told(
    fault: Any, says: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = GPU()
    install(monkeypatch, gpu)
    fault(monkeypatch)
    with pytest.raises(DeviceError) as caught:
        open_device("cuda", bundle)
    assert says in str(caught.value)
    assert (gpu.contexts, gpu.allocated) == (0, 0)
    with logged() as lines:
        device = open_device("auto", bundle)
    assert device.description.startswith("cpu")
    assert says in lines[-1]
    assert lines[-1].startswith("running on the CPU, because the GPU cannot be used: ")
    assert (gpu.contexts, gpu.allocated) == (0, 0)


def test_where_neither_device_can_be_used_both_reasons_are_told(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, GPU())
    no_pycuda(monkeypatch)
    monkeypatch.delitem(sys.modules, "edge.devices.openvino", raising=False)
    monkeypatch.delattr("edge.devices.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError, match=r"pycuda cannot be used .*OpenVINO is not installed"):
        open_device("auto", bundle)


def test_a_fault_in_the_middle_leaves_the_gpu_whole(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = GPU()
    device = open_on_double(monkeypatch, gpu, bundle)
    context = device.open_context()
    error = cuda_error("an illegal memory access was encountered")
    monkeypatch.setattr("pycuda.driver.Context.synchronize", refuse(error))
    context.submit(street(0), infer=True)
    device.close()
    assert (gpu.contexts, gpu.allocated) == (0, 0)


@pytest.mark.slow
def test_no_network_goes_while_it_runs(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = GPU()
    device = open_on_double(monkeypatch, gpu, bundle)
    context = device.open_context()
    under_way = []
    monkeypatch.setattr(
        "edge.devices.tensorrt.engine.Engine.close",
        lambda engine: under_way.append(sum(len(stream.jobs) for stream in gpu.streams)),
    )
    for index in range(STACK + 2):
        context.submit(street(index), infer=True)
    device.close()
    assert under_way == [0, 0]


def test_a_result_that_is_read_too_late_is_not_another_frame_s(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_on_double(monkeypatch, GPU(), bundle)
    context = device.open_context()
    pending = [context.submit(street(index), infer=True) for index in range(STACK + 3)]
    with pytest.raises(ResultExpiredError, match="before 2 more frames are submitted"):
        pending[STACK].result()
    assert pending[-2].result() is not None
    assert pending[-1].result() is not None


@pytest.mark.slow
def test_best_takes_int8_where_fp16_cannot_be_made(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, GPU())
    monkeypatch.setattr("edge.commands.build.TIMED_RUNS", 1)
    fault = BundleError("holds values that FP16 cannot hold")
    monkeypatch.setattr("edge.devices.tensorrt.builder.float_onnx", refuse(fault))
    with logged() as lines:
        build(BuildOptions(bundle.path, "best", None, None))
    text = "\n".join(lines)
    assert text.count("fp16 cannot be used: ") == 2
    assert text.count("right: largest score difference") == 2


@pytest.mark.parametrize("kept", ["", "half a file"])
def test_kernels_are_compiled_once_and_again_where_they_were_kept_half(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, compiled = GPU(), []
    install(monkeypatch, gpu)
    compile_ = sys.modules["pycuda.compiler"].compile
    load = sys.modules["pycuda.driver"].module_from_buffer

    def compile_once(text: str, **options: Any) -> bytes:
        compiled.append(text)
        return compile_(text, **options)

    def load_whole(data: bytes) -> Any:
        if b" for sm_87" not in data:
            raise cuda_error("cuModuleLoadDataEx failed: invalid image")
        return load(data)

    monkeypatch.setattr("pycuda.compiler.compile", compile_once)
    monkeypatch.setattr("pycuda.driver.module_from_buffer", load_whole)
    with open_driver():
        assert len(compiled) == len(FILES)
    if kept:
        for path in Path(gpu.cache.name).rglob("*.cubin"):
            path.write_text(kept)
    with logged() as lines:
        for _ in range(2):
            with open_driver():
                pass
    assert lines == []
    assert len(compiled) == len(FILES) * (2 if kept else 1)


def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, GPU())
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
