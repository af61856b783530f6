"""FP32 ONNX files: the logits of torch, the specification inside, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from calibration.onnx_file import load_model, write_model
from edge.bundle.network import METADATA_KEY
from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.errors import ExportError
from export.graph import export_graph
from tests.support.networks import STREAMS, make_network, make_spec, moving_patterns

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stream", STREAMS)
def test_onnx_gives_the_logits_of_torch(stream: str, fp32_files: dict[str, Path]) -> None:
    network = make_network(stream)  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(fp32_files[stream])
    for sample in moving_patterns(stream, 3):  # type: ignore[arg-type]
        with torch.inference_mode():
            expected = network(torch.from_numpy(sample[None])).numpy()
        (logits,) = session.run([OUTPUT], {INPUT: sample[None]})
        np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("stream", STREAMS)
def test_the_file_has_opset_and_operators_of_tensorrt_8_5(
    stream: str, fp32_files: dict[str, Path]
) -> None:
    model, spec = load_model(fp32_files[stream])
    assert spec == make_spec(stream)  # type: ignore[arg-type]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    kinds = {node.op_type for node in model.graph.node}
    assert kinds <= {"Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm", "Constant"}
    assert not any(node.doc_string for node in model.graph.node)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, spec.channels, 224, 224]


def test_a_network_that_ignores_its_input_is_refused(tmp_path: Path) -> None:
    network = make_network("spatial")
    torch.nn.init.zeros_(network.get_parameter("classifier.weight"))
    with pytest.raises(ExportError, match="do not depend on the input"):
        export_graph(network, make_spec("spatial"), tmp_path / "dead.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    network = make_network("spatial")
    with torch.no_grad():
        network.get_parameter("classifier.bias")[0] = float("nan")
    with pytest.raises(ExportError, match="differ by nan"):
        export_graph(network, make_spec("spatial"), tmp_path / "nan.onnx")


def test_a_network_of_the_other_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be exported"):
        export_graph(make_network("spatial"), make_spec("temporal"), tmp_path / "x.onnx")


def test_writing_is_deterministic(fp32_files: dict[str, Path], tmp_path: Path) -> None:
    model, spec = load_model(fp32_files["spatial"])
    write_model(model, spec, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == fp32_files["spatial"].read_bytes()


def test_damaged_files_are_one_line_errors(fp32_files: dict[str, Path], tmp_path: Path) -> None:
    good = fp32_files["spatial"].read_bytes()
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="no such file"):
        load_model(path)
    for damaged in (b"", b"no model", good[: len(good) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ExportError) as refusal:
            load_model(path)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_foreign_models_are_refused(fp32_files: dict[str, Path], tmp_path: Path) -> None:
    model, spec = load_model(fp32_files["spatial"])
    path = tmp_path / "model.onnx"

    anonymous = onnx.ModelProto()
    anonymous.CopyFrom(model)
    del anonymous.metadata_props[:]
    onnx.save(anonymous, path)
    with pytest.raises(ExportError, match=f"no '{METADATA_KEY}' metadata"):
        load_model(path)

    older = onnx.ModelProto()
    older.CopyFrom(model)
    older.metadata_props[0].value = '{"stream": "spatial"}'
    onnx.save(older, path)
    with pytest.raises(ExportError, match="its metadata cannot be used"):
        load_model(path)

    scattered = onnx.ModelProto()
    scattered.CopyFrom(model)
    onnx.save(scattered, path, save_as_external_data=True, location="weights.bin")
    with pytest.raises(ExportError, match="is in another file"):
        load_model(path)

    with pytest.raises(ExportError, match="its specification says"):
        write_model(model, spec.model_copy(update={"classes": ("a", "b")}), path)
