"""Networks over time as ONNX: the logits of torch, INT8 that is close to them, and no faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from calibration.lint import Lint, float_layers, layer_precisions, lint
from calibration.onnx_file import load_model, write_model
from calibration.placement import weighted_nodes
from calibration.quantise import quantise_model
from calibration.sensitivity import run_model
from edge.bundle.network import NetworkSpec
from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.decision.fusion import softmax
from edge.devices.inference import NetworkFile
from edge.devices.tensorrt.layers import convolutions, float_convolutions
from edge.inputs.builder import step_interval_s
from export.graph import export_graph
from export.measure import ExportedNetwork
from tests.support.over_time import KINDS, STEPS, make, samples_of
from tests.support.rtx import build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=KINDS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, NetworkSpec]:
    """The FP32 file, the INT8 file and the specification."""
    network, spec = make(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    samples = samples_of(spec, 6)
    export_graph(network, spec, fp32, samples[:1])
    with torch.inference_mode():
        expected = network(torch.from_numpy(np.stack(samples))).numpy()
    found = run_model(load_model(fp32)[0], samples)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    quantised = quantise_model(load_model(fp32)[0], samples, samples, "mse")
    write_model(quantised.model, spec, int8)
    return fp32, int8, spec


def test_int8_has_no_faults_and_is_close(exported: tuple[Path, Path, NetworkSpec]) -> None:
    fp32, int8, spec = exported
    model, written = load_model(int8)
    assert written == spec
    assert lint(model) == Lint((), ())
    assert len(float_layers(model)) <= len(weighted_nodes(model)) // 4
    samples = samples_of(spec, 8)[6:]  # none of those that set the ranges
    wanted = softmax(run_model(load_model(fp32)[0], samples), 1.0)
    assert np.abs(softmax(run_model(model, samples), 1.0) - wanted).mean() < 0.03


def test_openvino_computes_the_int8_file(exported: tuple[Path, Path, NetworkSpec]) -> None:
    _, int8, spec = exported
    file = NetworkFile(
        int8.read_bytes(),
        "int8.onnx",
        spec.input_shape,
        len(spec.classes),
        spec.state,
        step_interval_s(spec.input),
    )
    samples = samples_of(spec, 2)
    wanted = softmax(run_model(load_model(int8)[0], samples), 1.0)
    found = softmax(ExportedNetwork(file)(np.stack(samples)), 1.0)
    np.testing.assert_allclose(found, wanted, atol=0.03)


def test_nvidias_builder_computes_in_int8_what_the_file_says(
    exported: tuple[Path, Path, NetworkSpec],
) -> None:
    model = onnx.load(exported[1])
    built = build(model.SerializeToString())
    layers = [at for kind, _, at in layer_precisions(model) if kind == "Conv"]
    assert len(convolutions(built.layers)) == len(layers)
    assert len(float_convolutions(built.layers)) == layers.count("float")


def test_the_file_says_what_goes_in_and_out(exported: tuple[Path, Path, NetworkSpec]) -> None:
    _, int8, spec = exported
    graph = onnx.load(int8).graph
    assert [each.name for each in graph.input] == [INPUT, *spec.state]
    assert [each.name for each in graph.output] == [
        OUTPUT,
        *(f"{name}_next" for name in spec.state),
    ]
    assert spec.input.frames == STEPS
