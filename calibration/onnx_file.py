"""Reads, checks and writes ONNX files with their network's specification."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from calibration.placement import FLOAT_LAYERS
from edge.bundle.network import METADATA_KEY, NetworkSpec, parse_network
from edge.bundle.self_contained import check_self_contained
from edge.bundle.tensor_names import INPUT, OUTPUT, next_state
from edge.errors import BundleError, ExportError
from edge.files import write_atomic


def load_model(path: Path) -> tuple[onnx.ModelProto, NetworkSpec]:
    """A network and its specification.

    Raises ExportError as `read_model` does, and if the file has no specification or other shapes
    than its specification.
    """
    model = read_model(path)
    spec = read_spec(model, path)
    check_model(model, spec, path)
    return model, spec


def read_model(path: Path) -> onnx.ModelProto:
    """Any ONNX network in one file. Raises ExportError if the file is missing, is not ONNX, or has
    weights in other files.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such file; give an ONNX file that twostream export wrote")
    try:
        data = path.read_bytes()
        check_self_contained(data)
        return onnx.load_model_from_string(data)
    except BundleError as error:
        raise ExportError(f"{path}: {error}") from None
    except (DecodeError, OSError) as error:
        raise ExportError(f"{path}: not an ONNX file ({error})") from None


def read_spec(model: onnx.ModelProto, path: Path) -> NetworkSpec:
    """The specification in a model's metadata. `path` is for messages only. Raises ExportError if
    it is missing or invalid.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise ExportError(
            f"{path}: has no {METADATA_KEY!r} metadata; give a file that twostream export wrote"
        )
    try:
        return parse_network(metadata[METADATA_KEY])
    except ValueError as error:
        raise ExportError(f"{path}: its metadata cannot be used ({error})") from None


def write_model(model: onnx.ModelProto, spec: NetworkSpec, path: Path) -> None:
    """Write a model with its specification, atomically. The same arguments give the same bytes.
    Raises ExportError if the model is invalid or the file cannot be written.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    kept = [entry for entry in model.metadata_props if entry.key == FLOAT_LAYERS]
    del written.metadata_props[:]
    written.metadata_props.extend(kept)
    entry = written.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()
    check_model(written, spec, path)
    with write_atomic(path, ExportError) as file:
        file.write(written.SerializeToString(deterministic=True))


def check_model(model: onnx.ModelProto, spec: NetworkSpec, path: Path) -> None:
    """Raises ExportError unless the model is valid ONNX with the input and output of its
    specification: `input` (1, channels, H, W) float32 -> `logits` (1, C); and those of its state.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{path}: not a valid ONNX model ({reason})") from None
    signature = [_signature(value) for value in (*model.graph.input, *model.graph.output)]
    expected = [
        (INPUT, spec.input_shape),
        *spec.state.items(),
        (OUTPUT, (1, len(spec.classes))),
        *((next_state(name), shape) for name, shape in spec.state.items()),
    ]
    if signature != expected:
        raise ExportError(
            f"{path}: has input and output {signature}, its specification says {expected}"
        )


def _signature(value: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...]]:
    dims = value.type.tensor_type.shape.dim
    return value.name, tuple(dim.dim_value for dim in dims)  # 0 where a size is not fixed
