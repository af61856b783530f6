"""The deep learning accelerator of AGX Xavier, Xavier NX, AGX Orin and Orin NX.

TensorRT to 10.7 takes INT8 for it in the old way only: a float network and a table with one scale
a tensor, the calibration cache. Ours is derived from the Q/DQ of the bundle, so nothing is measured
on the device. TensorRT 10.8 to 11.4.0 has no DLA; 11.4.1 takes the Q/DQ network itself.
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
# They move values or average them: what comes out has the range of what went in.
_PRESERVING = (
    "Flatten",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Identity",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
)


def check_dla_version(trt: ModuleType, library: Capabilities, precision: Precision) -> None:
    """Raises DeviceError if this TensorRT has no DLA, or none in this precision."""
    if library.dla is None:
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
    """All layers on the DLA; those that it cannot run, on the GPU."""
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def tensor_scales(onnx: bytes) -> dict[str, float]:
    """A scale for each tensor of the network without Q/DQ, in the order of the nodes.

    A tensor with Q/DQ has its scale. The others inherit one:
    - before an activation: the activation's, for both become one layer and what the activation
      cuts off need not be told apart;
    - a branch of an Add: the larger of the sum's and the other branch's, so that neither can
      saturate it where they do not saturate themselves;
    - after a layer that moves or averages values: that of what went in.
    What still has none (the logits) has none in the table either: its layer runs in FP16.
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
    """The scales that one layer gives to tensors without one."""
    first = inputs[0]
    if kind in _ACTIVATIONS and first not in scales and output in scales:
        return [(first, scales[output])]
    if kind in _PRESERVING and first in scales and output not in scales:
        return [(output, scales[first])]
    if kind == "Add" and output in scales:
        known = [scales[name] for name in inputs if name in scales]
        return [(name, max([scales[output], *known])) for name in inputs if name not in scales]
    return []


def calibration_cache(trt: ModuleType, onnx: bytes) -> bytes:
    """The table as TensorRT reads it: a header with its version, then "tensor: scale", the scale
    as the eight hexadecimal digits of a big-endian float32."""
    scales = tensor_scales(onnx)
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    return "\n".join([cache_header(version_of(trt)), *lines, ""]).encode()


def make_calibrator(trt: ModuleType, cache: bytes) -> Any:
    """A calibrator that has its table already. `asked_for_data` tells that TensorRT did not take
    it: the binding prints an exception of get_batch and goes on, with an engine of no worth."""

    class Table(trt.IInt8EntropyCalibrator2):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)  # without it the binding crashes
            self.asked_for_data = False

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            self.asked_for_data = True
            raise DeviceError("TensorRT does not take the calibration table of this network")

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, cache: bytes) -> None:
            """Nothing: the bundle holds the scales."""

    return Table()
