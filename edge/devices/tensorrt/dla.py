"""The deep learning accelerator (DLA) of AGX Xavier, Xavier NX, AGX Orin and Orin NX.

Up to TensorRT 10.7, INT8 on the DLA needs a float network and a calibration cache: a table with one
scale per tensor. It is derived from the bundle's Q/DQ, so nothing is calibrated on the device.
TensorRT 10.8 to 11.4.0 do not support the DLA; 11.4.1 runs the Q/DQ network on it.
"""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Any

from edge.bundle.float_onnx import activation_scales, load_model
from edge.bundle.network import Precision
from edge.devices.tensorrt.version import Capabilities, cache_header, version_of
from edge.errors import DeviceError

_ACTIVATIONS = ("Clip", "Relu")
# These move or average values, so their output has the range of their input.
_RANGE_PRESERVING = (
    "Flatten",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Identity",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
)


def check_dla_version(trt: ModuleType, supported: Capabilities, precision: Precision) -> None:
    """Raises DeviceError if this TensorRT does not support the DLA, or not in this precision."""
    if supported.dla is None:
        raise DeviceError(
            f"TensorRT {trt.__version__} has no DLA: 10.7 was the last with it before 11.4.1; use "
            "the GPU or another JetPack"
        )
    if precision == "fp32":
        raise DeviceError("the DLA computes in int8 or fp16, not in fp32; use one of them")


def check_dla_core(builder: Any, core: int) -> None:
    """Raises DeviceError if the device has no such DLA core."""
    cores = getattr(builder, "num_DLA_cores", 0)
    if cores < 1:
        raise DeviceError(
            "this device has no DLA (Orin Nano and Thor have none, PCs neither); use the GPU"
        )
    if not 0 <= core < cores:
        numbers = " and ".join(str(number) for number in range(cores))
        raise DeviceError(f"DLA core {core} does not exist; this device has {numbers}")


def place_on_dla(trt: ModuleType, config: Any, core: int) -> None:
    """Run all layers on the DLA, except those that it does not support: on the GPU."""
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def tensor_scales(onnx: bytes) -> dict[str, float]:
    """The scale of each tensor of the network without Q/DQ, by name, in the order of the nodes.

    A tensor with Q/DQ has the scale of its Q/DQ. Others inherit a scale:
    - the input of an activation: that of its output. Both become one layer, and values that the
      activation clips need not be distinguished;
    - a branch of an Add: the larger of the sum's and the other branch's, so that it does not
      saturate unless they do;
    - the output of a layer that moves or averages values: that of its input.
    A tensor that inherits none, such as the logits, is not in the table: its layer runs in FP16.
    """
    model = load_model(onnx)
    scales = activation_scales(model)
    pairs = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    pairs |= {
        n.output[0]: pairs[n.input[0]]
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in pairs
    }
    layers = [
        (node.op_type, [pairs.get(name, name) for name in node.input], node.output[0])
        for node in model.graph.node
        if node.op_type not in ("Constant", "QuantizeLinear", "DequantizeLinear")
    ]
    while inherited := dict(new for layer in layers for new in _inherit(*layer, scales)):
        scales |= inherited
    order = [model.graph.input[0].name, *(output for _, _, output in layers)]
    return {name: scales[name] for name in order if name in scales}


def _inherit(
    kind: str, inputs: list[str], output: str, scales: dict[str, float]
) -> list[tuple[str, float]]:
    """The scales that tensors of one layer inherit, by name."""
    first = inputs[0]
    if kind in _ACTIVATIONS and first not in scales and output in scales:
        return [(first, scales[output])]
    if kind in _RANGE_PRESERVING and first in scales and output not in scales:
        return [(output, scales[first])]
    if kind == "Add" and output in scales:
        known = [scales[name] for name in inputs if name in scales]
        return [(name, max([scales[output], *known])) for name in inputs if name not in scales]
    return []


def calibration_cache(trt: ModuleType, onnx: bytes) -> bytes:
    """The calibration cache of a Q/DQ network, as TensorRT reads it: a header with the version,
    then lines "tensor: scale" with the scale as a big-endian float32 in hexadecimal digits."""
    scales = tensor_scales(onnx)
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    return "\n".join([cache_header(version_of(trt)), *lines, ""]).encode()


def make_calibrator(trt: ModuleType, cache: bytes) -> Any:
    """A calibrator that provides a ready calibration cache.

    table_refused: whether TensorRT asked for samples instead of using the table. The binding only
    prints an exception of get_batch and continues, with a useless engine.
    """

    class Table(trt.IInt8EntropyCalibrator2):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)  # the binding crashes without it
            self.table_refused = False

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            self.table_refused = True
            raise DeviceError("TensorRT does not accept the calibration table of this network")

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, cache: bytes) -> None:
            """Nothing to do: the scales are in the bundle."""

    return Table()
