"""Removes the Q/DQ from a bundle's network, to run it in FP32 or FP16.

A bundle has one ONNX file per stream, with INT8 weights. The float network has the dequantised
weights, and its activations are not quantised. This is the only file of `edge` that imports onnx,
which is needed for float networks, the DLA and TensorRT 8 only.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.self_contained import check_self_contained
from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.errors import BundleError, DeviceError

HALF_LIMIT = 65504.0  # the largest float16


def import_onnx() -> ModuleType:
    """The onnx package. Raises DeviceError if it is not installed."""
    try:
        import onnx
    except ImportError:
        raise DeviceError(
            "an FP16, FP32 or DLA network, and any of TensorRT 8, needs the onnx package; run: pip "
            "install onnx"
        ) from None
    return onnx


def load_model(data: bytes) -> Any:
    """Parse an ONNX file that contains all of its weights to an onnx.ModelProto. Raises BundleError
    if it is not one, DeviceError without onnx."""
    onnx = import_onnx()
    check_self_contained(data)
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError, whose module depends on the version
        raise BundleError(f"the network is not readable ONNX ({error}); export it again") from None


def float_onnx(data: bytes, precision: Literal["fp16", "fp32"]) -> bytes:
    """Convert a Q/DQ ONNX file to one without Q/DQ. Its input and output stay float32; an FP16
    network has a cast after the input and before the output, so TensorRT needs no builder flag.

    Raises BundleError if the network cannot be converted, DeviceError without onnx.
    """
    onnx = import_onnx()
    model = load_model(data)
    _remove_quantisation(onnx, model)
    if precision == "fp16":
        _halve(onnx, model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BundleError(f"the network has no {precision} variant ({reason}); use int8") from None
    return model.SerializeToString(deterministic=True)


def activation_scales(model: Any) -> dict[str, float]:
    """The scale of each tensor with Q/DQ, by name, in the order of the nodes: the tensor's value is
    the quantised value times the scale.

    Raises BundleError if a tensor's scale is not one constant.
    """
    known = constants(import_onnx(), model)
    scales = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            values = _constant(node, 1, known)
            if values.size != 1:
                raise BundleError(
                    f"{node.name or node.output[0]} has {values.size} scales, not one per tensor; "
                    "calibrate and export the bundle again"
                )
            scales[node.input[0]] = float(values.reshape(()))
    return scales


def constants(onnx: ModuleType, model: Any) -> dict[str, NDArray[Any]]:
    """The values of the initializers and Constant nodes of an onnx.ModelProto, by name."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensors[node.output[0]] = attribute.t
    return {name: onnx.numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


def _constant(node: Any, index: int, known: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """An input of a Q/DQ node. Raises BundleError if it is not constant."""
    if node.input[index] not in known:
        raise BundleError(
            f"{node.name or node.output[0]}: {node.input[index]} is not a constant; calibrate and "
            "export the bundle again"
        )
    return known[node.input[index]]


def _remove_quantisation(onnx: ModuleType, model: Any) -> None:
    """Remove each Q/DQ pair from the activations, and replace INT8 weights by float32 initializers,
    named as the outputs of their DequantizeLinear."""
    graph = model.graph
    known = constants(onnx, model)
    quantised = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    skipped: dict[str, str] = {}  # output of a Q/DQ pair -> its input
    weights = []
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = skipped.get(name, name)
        if node.op_type == "DequantizeLinear":
            if node.input[0] in quantised:
                skipped[node.output[0]] = quantised[node.input[0]]
            elif node.input[0] in known:
                values = dequantise(node, known)
                weights.append(onnx.numpy_helper.from_array(values, node.output[0]))
            else:
                raise BundleError(
                    f"{node.name or node.output[0]} has an input that is not quantised; calibrate "
                    "and export the bundle again"
                )
        elif node.op_type == "QuantizeLinear":
            quantised[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    kept += [
        onnx.helper.make_node("Identity", [skipped[output.name]], [output.name])
        for output in graph.output
        if output.name in skipped
    ]
    used = {name for node in kept for name in node.input}
    initializers = [t for t in (*graph.initializer, *weights) if t.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)


def dequantise(node: Any, known: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The output of a DequantizeLinear, an onnx.NodeProto, whose inputs are constants. Raises
    BundleError if one is not, or if there are more or fewer scales than channels."""
    values = _constant(node, 0, known).astype(np.float32)
    scale = _constant(node, 1, known).astype(np.float32)
    zero = np.zeros_like(scale)
    if len(node.input) > 2:
        zero = _constant(node, 2, known).astype(np.float32)
    if scale.ndim == 1:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)  # ONNX's default
        if scale.shape[0] not in (1, values.shape[axis]):
            raise BundleError(
                f"{node.name or node.output[0]} has {scale.shape[0]} scales for "
                f"{values.shape[axis]} channels; calibrate and export the bundle again"
            )
        rest = [i for i in range(values.ndim) if i != axis % values.ndim]
        scale, zero = np.expand_dims(scale, rest), np.expand_dims(zero, rest)
    return ((values - zero) * scale).astype(np.float32)


def _halve(onnx: ModuleType, model: Any) -> None:
    """Convert all tensors to float16, with a cast after the input and before the output."""
    graph = model.graph
    bounds = {name for node in graph.node if node.op_type == "Clip" for name in node.input[1:]}
    for tensor in graph.initializer:
        _halve_tensor(onnx, tensor, tensor.name, tensor.name in bounds)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in (a for a in node.attribute if a.name == "value"):
                _halve_tensor(onnx, attribute.t, node.output[0], node.output[0] in bounds)
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in (INPUT, OUTPUT):
                    names[index] = f"{name}_half"
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    make = onnx.helper.make_node
    graph.node.insert(0, make("Cast", [INPUT], [f"{INPUT}_half"], "input_cast", to=half))
    graph.node.append(make("Cast", [f"{OUTPUT}_half"], [OUTPUT], "logits_cast", to=single))


def _halve_tensor(onnx: ModuleType, tensor: Any, name: str, is_bound: bool) -> None:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return
    values = onnx.numpy_helper.to_array(tensor)
    if is_bound:
        values = np.clip(values, -HALF_LIMIT, HALF_LIMIT)  # no float16 is beyond it
    elif not (np.abs(values) <= HALF_LIMIT).all():
        raise BundleError(f"{name} has values that FP16 cannot hold; use int8 or fp32")
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name))
