"""NVIDIA's parser and builder take the INT8 models, and compute in INT8 what should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from calibration.lint import float_layers, lint
from calibration.onnx_file import load_model
from calibration.placement import activations, place
from calibration.ranges import clipping_range, measure_magnitudes
from tests.networks import STREAMS, moving_patterns
from tests.rtx import build

pytestmark = pytest.mark.slow
CONVOLUTIONS = 49


@pytest.fixture(scope="module")
def all_int8(fp32_files: dict[str, Path]) -> dict[str, onnx.ModelProto]:
    """Both networks with no layer left in float, however far the scores move."""
    models = {}
    for stream in STREAMS:
        model, _ = load_model(fp32_files[stream])
        seen = measure_magnitudes(model, moving_patterns(stream, 2), activations(model))
        models[stream] = place(model, {name: clipping_range(m) for name, m in seen.items()})
    return models


@pytest.mark.parametrize("stream", STREAMS)
def test_every_convolution_is_int8(stream: Any, all_int8: dict[str, onnx.ModelProto]) -> None:
    built = build(all_int8[stream].SerializeToString())
    assert len(built.int8) == CONVOLUTIONS
    assert built.float == ()


@pytest.mark.parametrize("stream", STREAMS)
def test_every_convolution_of_the_shipped_bundle_is_int8(stream: Any, demo_bundle: Path) -> None:
    built = build((demo_bundle / f"{stream}.onnx").read_bytes())
    assert len(built.int8) == CONVOLUTIONS
    assert built.float == ()


@pytest.mark.parametrize("stream", STREAMS)
def test_only_the_layers_kept_float_are_float(
    stream: Any, int8_models: dict[str, onnx.ModelProto]
) -> None:
    kept = float_layers(int8_models[stream])
    built = build(int8_models[stream].SerializeToString())
    assert len(built.int8) == CONVOLUTIONS - len(kept)
    assert len(built.float) == len(kept)


def test_fp32_is_float(fp32_files: dict[str, Path]) -> None:
    built = build(fp32_files["spatial"].read_bytes())
    assert built.int8 == ()
    assert len(built.float) == CONVOLUTIONS


def test_a_misplaced_pair_is_float_without_a_word(all_int8: dict[str, onnx.ModelProto]) -> None:
    """What lint is for: TensorRT builds such a model and says nothing."""
    broken = onnx.ModelProto()
    broken.CopyFrom(all_int8["spatial"])
    convolution = [node for node in broken.graph.node if node.op_type == "Conv"][7]
    convolution.input[1] = convolution.input[1].removesuffix("_dq")
    original = next(n for n in broken.graph.node if n.output[0] == f"{convolution.input[1]}_dq")
    original.output[0] = "nobody_reads_this"
    weight = next(t for t in broken.graph.initializer if t.name == original.input[0])
    values = onnx.numpy_helper.to_array(weight).astype("float32") * 0.01
    broken.graph.initializer.append(onnx.numpy_helper.from_array(values, convolution.input[1]))
    built = build(broken.SerializeToString())
    assert len(built.float) == 1
    assert convolution.name in built.float[0]
    assert lint(broken) == [f"{convolution.name}: its weights are not quantised"]
