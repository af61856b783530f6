"""Build, cache and runtime against the names that each TensorRT version really has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge.bundle.float_onnx import float_onnx
from edge.bundle.manifest import load_bundle
from edge.devices.inference import NetworkFile
from edge.devices.openvino import compile_network
from edge.devices.tensorrt.builder import BuildConfig, build_engine
from edge.devices.tensorrt.engine import Engine
from edge.devices.tensorrt.get_or_build import get_or_build_engine
from edge.devices.tensorrt.layers import convolutions, float_convolutions
from edge.devices.tensorrt.version import begin_log, capabilities
from edge.errors import BundleError, DeviceError
from tests.support.engines import ORIN, copy_bundle, inputs_of, network_of, softmax
from tests.support.int8 import right_int8
from tests.support.tensorrt_surface import VERSIONS, Surface

pytestmark = pytest.mark.slow

WEAK = ("8.6.1",)
TYPED_BY_FLAG = ("10.0.1", "10.3.0", "10.7.0", "10.13.3.9", "10.16.1.11")
WITH_DLA = ("8.6.1", "10.0.1", "10.3.0", "10.7.0")
ALLOWED_ON_8 = {"int8": ["FP16", "INT8"], "fp16": ["FP16"], "fp32": []}
SHAPE = (1, 3, 224, 224)
CLASSES = 8


@pytest.fixture(scope="module")
def spatial(demo_bundle: Path) -> bytes:
    return (demo_bundle / "spatial.onnx").read_bytes()


@pytest.fixture(scope="module")
def batch(demo_bundle: Path) -> np.ndarray:
    """(1, 3, H, W), the first parity sample."""
    return inputs_of(load_bundle(demo_bundle), "spatial")[:1]


@pytest.fixture(scope="module")
def expected(spatial: bytes, batch: np.ndarray) -> np.ndarray:
    """(1, C), its logits by OpenVINO."""
    file = NetworkFile(spatial, "net", SHAPE, CLASSES)
    return compile_network(file, right_int8()).infer(batch)


def plan_of(trt: Surface, data: bytes, precision: Any = "int8") -> bytes:
    return build_engine(trt, data, "net", BuildConfig(precision, None, None), b"").plan


def infer(engine: Engine, batch: np.ndarray, handle: int = 7) -> np.ndarray:
    """(1, C), where enqueued work is done at once."""
    source, logits = np.ascontiguousarray(batch), np.zeros((1, CLASSES), np.float32)
    engine.bind(source.ctypes.data, logits.ctypes.data).enqueue(handle)
    return logits


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("version", VERSIONS)
def test_flags(version: str, precision: Any, spatial: bytes) -> None:
    trt = Surface(version)
    built = build_engine(trt, spatial, "net", BuildConfig(precision, None, 64), b"")
    (told,) = trt.builds
    if version in WEAK:
        assert told["network_flags"] == ["EXPLICIT_BATCH"]
        assert told["flags"] == ALLOWED_ON_8[precision]
    else:
        assert told["network_flags"] == (["STRONGLY_TYPED"] if version in TYPED_BY_FLAG else [])
        assert told["flags"] == []
    assert told["dla_core"] is None
    assert told["limits"] == {"WORKSPACE": 64 << 20}
    assert told["verbosity"] == "DETAILED"
    assert {layer.precision for layer in convolutions(built.layers)} == {precision}
    assert len(convolutions(built.layers)) == 49
    assert (float_convolutions(built.layers) == []) == (precision == "int8")


@pytest.mark.parametrize("precision", ["int8", "fp16"])
@pytest.mark.parametrize("version", WITH_DLA)
def test_dla_by_calibration_to_10_7(version: str, precision: Any, spatial: bytes) -> None:
    trt = Surface(version, dla_cores=2)
    built = build_engine(trt, spatial, "net", BuildConfig(precision, 1, None), b"")
    (told,) = trt.builds
    assert told["network_flags"] == (["EXPLICIT_BATCH"] if version in WEAK else [])
    assert told["flags"] == sorted([*ALLOWED_ON_8[precision], "GPU_FALLBACK"])
    assert told["dla_core"] == 1
    assert len(told.get("calibrated", {})) == (94 if precision == "int8" else 0)
    assert [layer.kind for layer in built.layers] == ["DLA"]
    Engine(trt, built.plan, "net", SHAPE, CLASSES, dla_core=1).close()


@pytest.mark.parametrize("version", [v for v in VERSIONS if v not in WITH_DLA])
def test_no_dla_from_10_8_to_11_4_0(version: str, spatial: bytes) -> None:
    with pytest.raises(DeviceError, match=f"TensorRT {version} has no DLA: 10.7 was the last"):
        build_engine(
            Surface(version, dla_cores=2), spatial, "net", BuildConfig("int8", 0, None), b""
        )


def test_dla_from_11_4_1_takes_the_network_as_it_is(spatial: bytes) -> None:
    """With the names of 11.4.0, whose bindings are the latest at hand."""
    trt = Surface("11.4.1.12", api="11.4.0.106", dla_cores=2)
    built = build_engine(trt, spatial, "net", BuildConfig("int8", 0, None), b"")
    (told,) = trt.builds
    assert (told["flags"], told["dla_core"]) == (["GPU_FALLBACK"], 0)
    assert built.plan.endswith(spatial)


@pytest.mark.parametrize(
    ("cores", "core", "message"),
    [
        (0, 0, "this device has no DLA"),
        (1, 1, "has 0$"),
        (2, 2, "has 0 and 1"),
        (2, -1, "DLA core -1"),
    ],
)
def test_only_cores_that_exist(cores: int, core: int, message: str, spatial: bytes) -> None:
    trt = Surface("10.3.0", dla_cores=cores)
    with pytest.raises(DeviceError, match=message):
        build_engine(trt, spatial, "net", BuildConfig("int8", core, None), b"")


def test_a_network_without_a_variant_is_named(demo_bundle: Path) -> None:
    network = network_of(demo_bundle, "spatial")
    next(n for n in network.graph.node if n.op_type == "DequantizeLinear").input[0] = "input"
    with pytest.raises(BundleError, match=r"^net: input_DQ has an input that is not quantised"):
        plan_of(Surface("10.3.0"), network.SerializeToString(), "fp16")


def test_no_fp32_on_the_dla(spatial: bytes) -> None:
    with pytest.raises(DeviceError, match="int8 or fp16"):
        build_engine(
            Surface("10.3.0", dla_cores=1), spatial, "net", BuildConfig("fp32", 0, None), b""
        )


def test_a_refused_calibration_table_is_an_error(
    spatial: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT would go on without one; its binding swallows what get_batch raises."""
    monkeypatch.setattr(
        "edge.devices.tensorrt.dla.cache_header", lambda version: "TRT-1-EntropyCalibration2"
    )
    with pytest.raises(DeviceError, match="does not accept the calibration table"):
        build_engine(
            Surface("10.3.0", dla_cores=1), spatial, "net", BuildConfig("int8", 0, None), b""
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_runs_with_one_path(
    version: str, spatial: bytes, batch: np.ndarray, expected: np.ndarray
) -> None:
    trt = Surface(version)
    engine = Engine(trt, plan_of(trt, spatial), "net", SHAPE, CLASSES)
    # the form of the weights depends on the version, and sums in float on the form
    np.testing.assert_allclose(softmax(infer(engine, batch)), softmax(expected), atol=0.02)
    engine.close()


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("version", [WEAK[0], "10.3.0", "11.4.0.106"])
def test_variants_run_and_agree(
    version: str, precision: str, batch: np.ndarray, spatial: bytes
) -> None:
    trt = Surface(version)
    int8 = infer(Engine(trt, plan_of(trt, spatial), "net", SHAPE, CLASSES), batch)
    other = infer(Engine(trt, plan_of(trt, spatial, precision), "net", SHAPE, CLASSES), batch)
    assert np.abs(softmax(int8) - softmax(other)).max() < 0.06


def test_work_is_done_when_the_stream_gets_to_it(batch: np.ndarray, spatial: bytes) -> None:
    queue: list[tuple[int, Callable[[], None]]] = []

    def enqueue(handle: int, job: Callable[[], None]) -> bool:
        queue.append((handle, job))
        return True

    trt = Surface("10.3.0", enqueue=enqueue)
    engine = Engine(trt, plan_of(trt, spatial), "net", SHAPE, CLASSES)
    source, logits = np.ascontiguousarray(batch), np.zeros((1, CLASSES), np.float32)
    engine.bind(source.ctypes.data, logits.ctypes.data).enqueue(42)
    assert not logits.any()
    ((handle, job),) = queue
    job()
    assert handle == 42
    assert logits.any()


def test_what_tensorrt_refuses_is_an_error(spatial: bytes) -> None:
    trt = Surface("10.3.0", refuse_enqueue=True)
    engine = Engine(trt, plan_of(trt, spatial), "spatial.onnx", SHAPE, CLASSES)
    with pytest.raises(DeviceError, match=r"spatial\.onnx: TensorRT could not start"):
        engine.bind(4096, 4096).enqueue(1)
    with pytest.raises(DeviceError, match="does not accept the address of input"):
        engine.bind(0, 4096)


def test_without_memory_to_run_in_a_line_says_so(
    spatial: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = Surface("10.3.0")
    engine = Engine(trt, plan_of(trt, spatial), "spatial.onnx", SHAPE, CLASSES)
    engine.bind(4096, 4096)
    monkeypatch.setattr(trt.ICudaEngine, "create_execution_context", lambda self: None)
    with pytest.raises(DeviceError, match=r"spatial\.onnx: not enough memory on the device"):
        engine.bind(4096, 4096)


def test_an_engine_that_is_not_the_manifests(demo_bundle: Path, spatial: bytes) -> None:
    trt = Surface("10.3.0")
    plan = plan_of(trt, spatial)
    with pytest.raises(BundleError, match=r"input is \(1, 3, .*\), the manifest says \(1, 20"):
        Engine(trt, plan, "net", (1, 20, 224, 224), CLASSES)
    with pytest.raises(BundleError, match=r"logits is \(1, 8\), the manifest says \(1, 9\)"):
        Engine(trt, plan, "net", SHAPE, 9)
    network = network_of(demo_bundle, "spatial")
    for node in network.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    network.graph.output[0].name = "scores"
    with pytest.raises(BundleError, match="has input, scores; needs one input 'input'"):
        Engine(trt, plan_of(trt, network.SerializeToString()), "net", SHAPE, CLASSES)


def test_an_engine_with_half_inputs_is_refused(spatial: bytes) -> None:
    network = onnx.load_from_string(float_onnx(spatial, "fp16"))
    cast = network.graph.node[0]
    network.graph.node.remove(cast)
    network.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in network.graph.node:
        node.input[:] = ["input" if name == cast.output[0] else name for name in node.input]
    trt = Surface("10.3.0")
    with pytest.raises(BundleError, match=r"input is .*HALF, not float32"):
        Engine(trt, plan_of(trt, network.SerializeToString()), "net", SHAPE, CLASSES)


def test_plans_that_are_not_of_this_version(spatial: bytes) -> None:
    older, newer = Surface("10.3.0"), Surface("10.7.0")
    for plan in (b"", b"garbage", plan_of(older, spatial)):
        with pytest.raises(DeviceError, match="cannot load this engine; run: twostream build"):
            Engine(newer, plan, "net", SHAPE, CLASSES)


def test_all_that_tensorrt_says_is_heard_and_only_of_the_last_thing_done(spatial: bytes) -> None:
    """TensorRT tells everything to the first logger that it is given."""
    trt = Surface("10.3.0")
    plan = plan_of(trt, spatial)
    with pytest.raises(DeviceError, match=r"\(TensorRT: Magic tag does not match\)$"):
        Engine(trt, b"garbage", "net", SHAPE, CLASSES)
    other = plan_of(Surface("10.7.0"), spatial)
    with pytest.raises(DeviceError, match=r"\(TensorRT: The engine plan file is of another"):
        Engine(trt, other, "net", SHAPE, CLASSES)
    assert begin_log(trt) is begin_log(trt)
    assert begin_log(trt).last_errors() == ""
    Engine(trt, plan, "net", SHAPE, CLASSES).close()


def test_no_gpu_is_one_line(spatial: bytes) -> None:
    with pytest.raises(DeviceError, match=r"finds no usable GPU.*CUDA init"):
        plan_of(Surface("10.3.0", gpu=False), spatial)


@pytest.mark.parametrize("version", VERSIONS)
def test_prepared_then_found_with_timings(version: str, demo_bundle: Path, tmp_path: Path) -> None:
    """And the second stream's build starts from what the first one's measured."""
    trt = Surface(version)
    bundle = copy_bundle(demo_bundle, tmp_path / "bundle")
    config = BuildConfig("int8", None, None)
    first = get_or_build_engine(trt, bundle, "spatial", ORIN, config)
    again = get_or_build_engine(trt, bundle, "spatial", ORIN, config)
    other = get_or_build_engine(trt, bundle, "temporal", ORIN, config)
    assert (first.built, again.built, other.built) == (True, False, True)
    assert (again.plan, again.layers) == (first.plan, first.layers)
    assert [told["warm"] for told in trt.builds] == [False, True]


def test_timings_of_another_version_are_not_used(spatial: bytes) -> None:
    config = BuildConfig("int8", None, None)
    older = build_engine(Surface("10.3.0"), spatial, "net", config, b"")
    trt = Surface("10.7.0")
    built = build_engine(trt, spatial, "net", config, older.timing_cache)
    assert built.notes == (
        "the measurements of earlier builds are of another device; this build made its own",
    )
    assert not trt.builds[0]["warm"]


def test_a_name_that_a_version_lacks_is_told_with_it() -> None:
    trt = Surface("11.0.0.114")
    with pytest.raises(AttributeError, match=r"BuilderFlag\.INT8 is not in TensorRT 11\.0\.0\.114"):
        _ = trt.BuilderFlag.INT8
    config = trt.Builder(begin_log(trt)).create_builder_config()
    with pytest.raises(AttributeError, match=r"IBuilderConfig\.int8_calibrator is not in TensorRT"):
        config.int8_calibrator = None
    with pytest.raises(AttributeError, match=r"tensorrt\.IInt8EntropyCalibrator2 is not in"):
        _ = trt.IInt8EntropyCalibrator2


def test_capabilities_of_8_5() -> None:
    """JetPack 5.1, by the names of 8.6: those of 8.5 are not at hand."""
    found = capabilities(Surface("8.5.2.2", api="8.6.1"))
    assert (found.explicit_batch, found.typed_by_flag, found.dla) == (True, False, "calibration")
