"""The product's own builder code, on NVIDIA's real parser and builder (TensorRT-RTX, no GPU)."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.bundle.manifest import Bundle
from edge.devices.tensorrt.builder import BuildConfig, BuiltEngine, build_engine
from edge.devices.tensorrt.get_or_build import get_or_build_engine
from edge.devices.tensorrt.layers import convolutions, float_convolutions
from edge.errors import BundleError, DeviceError
from tests.support.engines import ORIN, STREAMS, break_weight, copy_bundle, network_of, with_network
from tests.support.logged import logged
from tests.support.paths import REPOSITORY
from tests.support.rtx import INT8, build, load_rtx
from tests.support.waiting import BOUND_S

CONVOLUTIONS = 49

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def int8_engines(demo_bundle: Path) -> dict[str, BuiltEngine]:
    return {s: build((demo_bundle / f"{s}.onnx").read_bytes()) for s in STREAMS}


@pytest.mark.parametrize("stream", STREAMS)
def test_every_convolution_of_a_shipped_stream_is_int8(
    stream: str, int8_engines: dict[str, BuiltEngine]
) -> None:
    built = int8_engines[stream]
    assert len(built.plan) > 1 << 20
    assert len(convolutions(built.layers)) == CONVOLUTIONS
    assert float_convolutions(built.layers) == []
    assert built.notes == ()


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_variants_are_taken_and_are_what_they_say(precision: str, demo_bundle: Path) -> None:
    data = (demo_bundle / "temporal.onnx").read_bytes()
    built = build(data, BuildConfig(precision, None, 256))  # type: ignore[arg-type]
    found = {layer.precision for layer in convolutions(built.layers)}
    assert found == {precision}


@pytest.mark.parametrize("how", ["unquantised", "wrong axis"])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_float_convolution_is_reported_by_name(
    how: str,
    stream: str,
    demo_bundle: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """TensorRT builds such a network and says nothing."""
    network = network_of(demo_bundle, stream)
    name = break_weight(network, 3, how)  # pointwise; depthwise has one input channel
    bundle = with_network(copy_bundle(demo_bundle, tmp_path / "bundle"), stream, network)
    prepared = get_or_build_engine(load_rtx(), bundle, stream, ORIN, INT8)
    (float_layer,) = float_convolutions(prepared.layers)
    assert name in float_layer
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.getMessage() == (
        f"{stream}: 1 of {CONVOLUTIONS} convolutions are not INT8: {float_layer}"
    )


def test_a_build_says_what_it_is_at(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.devices.tensorrt.progress.REPORT_EVERY_S", 0.001)
    data = (demo_bundle / "spatial.onnx").read_bytes()
    with logged() as lines:
        build_engine(load_rtx(), data, "network.onnx", INT8, b"")
    assert len(lines) > 2
    for line in lines:
        assert re.fullmatch(r"network.onnx: building for \d+ s, [a-z ]+, step \d+ of \d+", line), (
            line
        )


@contextmanager
def progress_told_to(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("edge.devices.tensorrt.progress")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def test_ctrl_c_stops_a_build(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer to it TensorRT would go on for minutes, and the key do nothing."""
    monkeypatch.setattr("edge.devices.tensorrt.progress.REPORT_EVERY_S", 0.0)
    data = (demo_bundle / "spatial.onnx").read_bytes()
    lines: list[str] = []

    class Press(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with progress_told_to(Press()), pytest.raises(KeyboardInterrupt):
        build_engine(load_rtx(), data, "network.onnx", INT8, b"")
    assert len(lines) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_that_fails_ends_a_build(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.devices.tensorrt.progress.REPORT_EVERY_S", 0.0)

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise BrokenPipeError

    data = (demo_bundle / "spatial.onnx").read_bytes()
    with progress_told_to(Broken()), pytest.raises(BrokenPipeError):
        build_engine(load_rtx(), data, "n", INT8, b"")


def test_what_an_earlier_build_left_is_not_freed_within_the_next(demo_bundle: Path) -> None:
    """A collection in a logger's call back once freed a builder, and waited for ever."""
    code = f"""
import gc
from edge.devices.tensorrt.builder import build_engine
from edge.devices.tensorrt.version import open_builder, begin_log
from tests.support.rtx import INT8, load_rtx
gc.set_threshold(1 << 30)  # a collection comes where it is to come, and nowhere else
rtx = load_rtx()
left = [open_builder(rtx, begin_log(rtx))]
left.append(left)
del left
log_class = type(begin_log(rtx))
log, turns = log_class.log, iter(range(5))
def log_and_collect(self, *told):
    if gc.isenabled() and next(turns, None) is not None:
        gc.collect()
    log(self, *told)
log_class.log = log_and_collect
data = open({str(demo_bundle / "spatial.onnx")!r}, "rb").read()
build_engine(rtx, data, "network.onnx", INT8, b"")
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=BOUND_S
    )
    assert done.returncode == 0, done.stderr


def test_a_network_that_cannot_be_read_says_why(demo_bundle: Path) -> None:
    network = network_of(demo_bundle, "spatial")
    next(n for n in network.graph.node if n.op_type == "Clip").op_type = "NoSuchLayer"
    with pytest.raises(BundleError, match=r"network\.onnx: TensorRT .* NoSuchLayer") as caught:
        build(network.SerializeToString())
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_network(demo_bundle: Path) -> None:
    with pytest.raises(BundleError, match="the network is not readable ONNX"):
        build(b"nothing of the kind")


def test_a_build_that_fails_ends_with_tensorrts_own_words(demo_bundle: Path) -> None:
    """Any size of batch is a dynamic shape, for which no profile is given."""
    network = network_of(demo_bundle, "spatial")
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(DeviceError, match=r"TensorRT: .*profile"):
        build(network.SerializeToString())


def test_there_is_no_dla_in_rtx(demo_bundle: Path) -> None:
    data = (demo_bundle / "spatial.onnx").read_bytes()
    with pytest.raises(DeviceError, match="DLA"):
        build_engine(load_rtx(), data, "spatial.onnx", BuildConfig("int8", 0, None), b"")


def test_prepare_reports_nothing_where_nothing_is_wrong(demo_bundle: Path, tmp_path: Path) -> None:
    bundle: Bundle = copy_bundle(demo_bundle, tmp_path / "bundle")
    with logged() as lines:
        prepared = get_or_build_engine(load_rtx(), bundle, "spatial", ORIN, INT8)
    assert prepared.built
    assert len(lines) == 2
    assert "there is no engine yet" in lines[0]
    assert lines[1].startswith("spatial: built in ")
