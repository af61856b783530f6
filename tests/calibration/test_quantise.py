"""INT8 models: close to FP32, placed as TensorRT wants it, and faults that are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from calibration.bias import correct_biases, measure_means
from calibration.histogram import HistogramObserver, collect_activations, collect_histograms
from calibration.lint import Lint, float_layers, lint
from calibration.onnx_file import load_model, write_model
from calibration.placement import activations, kept_float, place
from calibration.quantise import quantise_model
from calibration.ranges import METHODS, clipping_range
from calibration.sensitivity import compare_scores, run_model
from edge.bundle.tensor_names import INPUT
from edge.decision.fusion import softmax
from edge.devices.inference import NetworkFile
from edge.devices.openvino import compile_network
from edge.errors import ExportError
from tests.support.int8 import right_int8
from tests.support.networks import CLASSES, STREAMS, moving_patterns, residual_network

Model = onnx.ModelProto


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_int8_stays_close_to_fp32_in_both_runtimes(
    stream: Any, fp32_files: dict[str, Path], int8_models: dict[str, Model]
) -> None:
    reference, spec = load_model(fp32_files[stream])
    quantised = int8_models[stream]
    samples = moving_patterns(stream, 10)[6:]  # none of those that set the ranges
    wanted = softmax(run_model(reference, samples), 1.0)
    shape = (1, spec.channels, 224, 224)
    file = NetworkFile(quantised.SerializeToString(), stream, shape, len(CLASSES))
    openvino = compile_network(file, right_int8())
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # no sums that saturate
    session = onnxruntime.InferenceSession(quantised.SerializeToString(), options)
    for run in (openvino.infer, lambda batch: session.run(None, {INPUT: batch})[0]):
        scores = softmax(np.concatenate([run(sample[None]) for sample in samples]), 1.0)
        assert np.abs(scores - wanted).mean() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_placement(stream: Any, fp32_files: dict[str, Path], int8_models: dict[str, Model]) -> None:
    quantised = int8_models[stream]
    kept = float_layers(quantised)
    assert len(kept) <= 5
    assert lint(quantised) == Lint((), ())
    assert list(kept_float(quantised)) == sorted(kept)
    assert len(quantised.SerializeToString()) < 0.35 * fp32_files[stream].stat().st_size
    makers = {name: node for node in quantised.graph.node for name in node.output}
    adds = [node for node in quantised.graph.node if node.op_type == "Add"]
    assert len(adds) == 9
    for add in adds:  # the convolution's own output enters as it is, the skip branch quantised
        kinds = sorted(makers[name].op_type for name in add.input)
        assert kinds == ["Conv", "DequantizeLinear"]


@pytest.mark.slow
def test_the_same_samples_give_the_same_bytes(
    fp32_files: dict[str, Path], int8_models: dict[str, Model], tmp_path: Path
) -> None:
    model, spec = load_model(fp32_files["spatial"])
    write_model(int8_models["spatial"], spec, tmp_path / "one.onnx")
    patterns = moving_patterns("spatial", 6)
    write_model(quantise_model(model, patterns, patterns, "mse").model, spec, tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    with pytest.raises(ExportError, match="quantised already"):
        quantise_model(load_model(tmp_path / "one.onnx")[0], patterns, patterns, "mse")


@pytest.mark.slow
def test_unusable_samples_are_refused(fp32_files: dict[str, Path]) -> None:
    model, _ = load_model(fp32_files["spatial"])
    with pytest.raises(ExportError, match="no calibration samples"):
        quantise_model(model, [], [], "mse")
    with pytest.raises(ExportError, match=f"tensor {INPUT} is 0 on all 1"):
        quantise_model(model, [np.zeros((3, 224, 224), np.float32)], [], "mse")
    with pytest.raises(ExportError, match="infinite values or NaN"):
        quantise_model(model, [np.full((3, 224, 224), np.nan, np.float32)], [], "mse")


def test_int8_values_of_a_small_network_are_computed_by_hand() -> None:
    model = residual_network()
    rng = np.random.default_rng(2)
    samples = [rng.standard_normal((4, 8, 8)).astype(np.float32) for _ in range(8)]
    made = quantise_model(model, samples, samples, "auto")
    assert made.difference == compare_scores(model, made.model, samples)
    assert made.difference.mean < 0.01
    assert set(made.tried) == set(METHODS)
    assert made.tried[made.method] == min(made.tried.values())


@pytest.mark.slow
def test_auto_ranges_keep_the_fewest_layers_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target so low that each method needs layers in float: "mse", the worst with all layers in
    INT8, needs one, the others two."""
    monkeypatch.setattr("calibration.quantise.FLOAT_SHARE_MAX", 0.75)
    monkeypatch.setattr("calibration.quantise.DIFFERENCE_WANTED", 6.7e-5)
    model = residual_network()
    rng = np.random.default_rng(2)
    samples = [rng.standard_normal((4, 8, 8)).astype(np.float32) for _ in range(8)]
    alone = {each: quantise_model(model, samples, samples, each) for each in METHODS}
    kept = {each: len(made.float_layers) for each, made in alone.items()}
    assert kept == {"mse": 1, "min-max": 2, "percentile": 2, "entropy": 2}
    best = quantise_model(model, samples, samples, "auto")
    assert best.method == "mse"
    assert best.tried == {each: made.difference.mean for each, made in alone.items()}


def test_bias_correction_restores_the_mean_output() -> None:
    """A still input: all of the rounding error is in the mean, and the bias takes all of it."""
    model = residual_network()
    sample = np.full((4, 8, 8), 0.37, np.float32)
    ranges = dict.fromkeys(activations(model), 5.0)
    wanted = next(collect_activations(model, [sample], ["c0"]))["c0"]
    corrected = correct_biases(model, measure_means(model, ranges, [sample]), [])
    plain, mended = (
        next(collect_activations(place(m, ranges), [sample], ["c0"]))["c0"]
        for m in (model, corrected)
    )
    assert np.abs(mended - wanted).max() < 0.1 * np.abs(plain - wanted).max()


def test_a_histogram_does_not_depend_on_the_order_of_values() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(1000).astype(np.float32) * scale for scale in (0.01, 1, 50)]
    one, two = HistogramObserver(), HistogramObserver()
    for part in parts:
        one.add(part)
    for part in reversed(parts):
        two.add(part)
    assert one.limit == two.limit == 256.0
    assert one.counts.sum() == 3000
    np.testing.assert_allclose(np.cumsum(one.counts), np.cumsum(two.counts), atol=2)


def test_clipping_excludes_a_single_outlier() -> None:
    rng = np.random.default_rng(0)
    seen = HistogramObserver()
    seen.add(rng.uniform(-1, 1, 1_000_000).astype(np.float32))
    for method in METHODS:
        assert clipping_range(seen, method) == pytest.approx(1.0, abs=0.03)
    seen.add(np.array([3.0], np.float32))
    assert clipping_range(seen, "min-max") == 3.0
    for method in ("mse", "percentile", "entropy"):
        assert clipping_range(seen, method) < 1.2


def test_ranges_have_known_values() -> None:
    """10,000 values of 1/4 and 10 of 2: a percentile of 99.99 keeps the ten, a lone one is cut."""
    seen = HistogramObserver()
    seen.add(np.concatenate([np.full(10_000, 0.25), np.full(10, 2.0)]).astype(np.float32))
    assert clipping_range(seen, "percentile") == pytest.approx(2.0, abs=0.001)
    few = HistogramObserver()
    few.add(np.concatenate([np.full(100_000, 0.25), [2.0]]).astype(np.float32))
    assert clipping_range(few, "percentile") == pytest.approx(0.25, abs=0.001)
    assert clipping_range(few, "min-max") == 2.0


def test_ranges_are_measured_at_the_right_tensors() -> None:
    model = residual_network()
    sample = np.ones((4, 8, 8), np.float32)
    seen = collect_histograms(model, [sample], activations(model))
    assert sorted(seen) == ["c2", "flat", "input", "r0", "sum"]
    assert seen["input"].largest == 1.0
    assert seen["r0"].largest <= 6.0
