"""NVIDIA's parser and builder take the INT8 models, and compute in INT8 what should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration.histogram import collect_histograms
from calibration.lint import float_layers, lint
from calibration.onnx_file import load_model
from calibration.placement import activations, place
from calibration.ranges import clipping_range
from edge.devices.tensorrt.layers import convolutions, float_convolutions
from edge.errors import BundleError
from tests.support.engines import break_weight, network_of
from tests.support.networks import STREAMS, moving_patterns
from tests.support.rtx import build

pytestmark = pytest.mark.slow
CONVOLUTIONS = 49


@pytest.fixture(scope="module")
def all_int8(fp32_files: dict[str, Path]) -> dict[str, onnx.ModelProto]:
    """Both networks with no layer left in float, however far the scores move."""
    models = {}
    for stream in STREAMS:
        model, _ = load_model(fp32_files[stream])
        seen = collect_histograms(model, moving_patterns(stream, 2), activations(model))
        models[stream] = place(model, {name: clipping_range(m, "mse") for name, m in seen.items()})
    return models


@pytest.mark.parametrize("stream", STREAMS)
def test_every_convolution_is_int8(stream: Any, all_int8: dict[str, onnx.ModelProto]) -> None:
    built = build(all_int8[stream].SerializeToString())
    assert len(convolutions(built.layers)) == CONVOLUTIONS
    assert float_convolutions(built.layers) == []


@pytest.mark.parametrize("stream", STREAMS)
def test_only_the_layers_kept_float_are_float(
    stream: Any, int8_models: dict[str, onnx.ModelProto]
) -> None:
    kept = float_layers(int8_models[stream])
    built = build(int8_models[stream].SerializeToString())
    assert len(convolutions(built.layers)) == CONVOLUTIONS
    assert len(float_convolutions(built.layers)) == len(kept)


def test_fp32_is_float(fp32_files: dict[str, Path]) -> None:
    built = build(fp32_files["spatial"].read_bytes())
    assert len(float_convolutions(built.layers)) == CONVOLUTIONS


def test_a_misplaced_pair_is_float_without_a_word(all_int8: dict[str, onnx.ModelProto]) -> None:
    """What lint is for: TensorRT builds such a model and says nothing."""
    broken = onnx.ModelProto()
    broken.CopyFrom(all_int8["spatial"])
    name = break_weight(broken, 7, "unquantised")
    built = build(broken.SerializeToString())
    (found,) = float_convolutions(built.layers)
    assert name in found
    assert lint(broken).faults == (f"{name}: its weights are not quantised",)


@pytest.mark.parametrize("stream", STREAMS)
def test_scales_in_fp16_are_refused(stream: str, demo_bundle: Path) -> None:
    """Why what has no Q/DQ stays in FP32: channels with small weights would get a scale of 0."""
    model = network_of(demo_bundle, stream)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 19))
    with pytest.raises(BundleError, match="Scale coefficients must all be positive"):
        build(model.SerializeToString())
