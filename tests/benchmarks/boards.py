"""What a frame would cost on boards that are not here: A PREDICTION, not a measurement.

    python -m tests.benchmarks.boards --json FILE

Kernels as in kernels.py: launches, bytes and machine instructions. Networks layer by layer: the
larger of bytes over bandwidth (int8 in, out and weights) and operations over the INT8 rate, of
which a small network reaches a part (USED), and a launch each. The same arithmetic with this CPU's
own rates, both measured, stands beside what OpenVINO takes here: how far it is off here says what
it is worth there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.commands.self_check.choice import choose_way
from edge.devices import open_device
from edge.devices.inference import NetworkFile
from edge.devices.openvino import compile_network
from edge.inputs.builder import input_dtype, input_shape
from tests.benchmarks.kernels import BOARDS, LAUNCH_S, Board, cost, frame_launches
from tests.benchmarks.result import write_result
from tests.support.paths import REPOSITORY

USED = 0.35  # of the INT8 rate, by convolutions as small as these: a guess


@dataclass(frozen=True)
class Layer:
    """A convolution or a matrix product: operations, and bytes in int8."""

    operations: float
    bytes: float

    def seconds(self, bandwidth: float, rate: float, launch_s: float) -> float:
        return launch_s + max(self.bytes / bandwidth, self.operations / rate)


def layers(data: bytes) -> list[Layer]:
    """Of an INT8 network; everything else is taken to be fused into them."""
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data))
    graph = model.graph
    shapes = {
        value.name: [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        weights, out = shapes[node.input[1]], shapes[node.output[0]]
        into = shapes[node.input[0]]
        if node.op_type == "Conv":  # weights are (out, in / groups, h, w)
            products = np.prod(out) * np.prod(weights[1:])
        else:
            products = np.prod(weights)
        moved = np.prod(into) + np.prod(out) + np.prod(weights)
        found.append(Layer(2.0 * float(products), float(moved)))
    return found


def predict(board: Board, networks: dict[str, list[Layer]]) -> dict[str, float]:
    """Milliseconds of the stages of a frame of 320 x 240, one after the other."""
    launches = frame_launches((240, 320))
    flow = ("halve", "upsample", "linearise", "iterate")
    costs = [cost(launch, board) for launch in launches]
    found = {
        "TV-L1 fast": 1e3 * sum(c.seconds for c in costs if c.kernel in flow),
        "other kernels": 1e3 * sum(c.seconds for c in costs if c.kernel not in flow),
    }
    for stream, parts in networks.items():
        rate = USED * board.int8_ops
        found[stream] = 1e3 * sum(p.seconds(board.bandwidth, rate, LAUNCH_S) for p in parts)
    return found | {"sum": sum(found.values())}


def this_cpu(bundle: Bundle, networks: dict[str, list[Layer]]) -> dict[str, dict[str, float]]:
    """Predicted and measured ms of each network on one core of this machine."""
    device = open_device("cpu", bundle, choose=choose_way)
    bandwidth, rate = _copy_rate(), _int8_rate()
    print(f"this core: {bandwidth / 1e9:.1f} GB/s, {rate / 1e9:.0f} G INT8 operations a second")
    found = {}
    for stream, parts in networks.items():
        spec = bundle.manifest.streams[stream].input
        shape = (1, *input_shape(spec, bundle.manifest.geometry.size_hw))
        tensor = np.zeros(shape, input_dtype(spec))
        times = []
        for _ in range(60):
            began_s = time.perf_counter()
            device.logits(stream, tensor, [0.0])
            times.append(time.perf_counter() - began_s)
        predicted = sum(p.seconds(bandwidth, USED * rate, 0.0) for p in parts)
        measured = float(np.median(times))
        found[stream] = {
            "predicted_ms": round(1e3 * predicted, 3),
            "measured_ms": round(1e3 * measured, 3),
            "predicted_of_measured": round(predicted / measured, 2),
        }
    device.close()
    return found


def _copy_rate() -> float:
    """Bytes a second of one core, read and written, beyond its caches."""
    source = np.ones(64 << 20, np.uint8)
    target = np.empty_like(source)
    times = []
    for _ in range(5):
        began_s = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - began_s)
    return 2 * source.nbytes / min(times)


def _int8_rate() -> float:
    """Operations a second of one core in a convolution large enough to show what it can do."""
    side, channels = 56, 256
    make, tensor = onnx.helper.make_node, onnx.helper.make_tensor
    weights = np.ones((channels, channels, 3, 3), np.int8)
    constants = [
        onnx.numpy_helper.from_array(weights, "w"),
        tensor("scale", onnx.TensorProto.FLOAT, [], [0.01]),
        tensor("zero", onnx.TensorProto.INT8, [], [0]),
    ]
    pair = ["scale", "zero"]
    nodes = [
        make("QuantizeLinear", [INPUT, *pair], ["q"]),
        make("DequantizeLinear", ["q", *pair], ["x"]),
        make("DequantizeLinear", ["w", *pair], ["v"]),
        make("Conv", ["x", "v"], ["y"], pads=[1, 1, 1, 1]),
        make("ReduceMean", ["y"], [OUTPUT], axes=[2, 3], keepdims=0),
    ]
    shape = (1, channels, side, side)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "rate",
        [value(INPUT, onnx.TensorProto.FLOAT, shape)],
        [value(OUTPUT, onnx.TensorProto.FLOAT, (1, channels))],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    network = compile_network(NetworkFile(model.SerializeToString(), "rate", shape, channels))
    tensor_in = np.ones(shape, np.float32)
    times = []
    for _ in range(10):
        began_s = time.perf_counter()
        network.infer(tensor_in)
        times.append(time.perf_counter() - began_s)
    return 2.0 * side * side * channels * channels * 9 / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=REPOSITORY / "edge" / "bundles" / "ucf101-mini"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    networks: dict[str, list[Layer]] = {
        name: layers(bundle.read(stream.file)) for name, stream in bundle.manifest.streams.items()
    }
    for stream, parts in networks.items():
        operations, moved = (sum(getattr(p, n) for p in parts) for n in ("operations", "bytes"))
        print(
            f"{stream}: {len(parts)} layers, {operations / 1e9:.2f} G operations, "
            f"{moved / 1e6:.1f} MB"
        )
    boards = {board.name: predict(board, networks) for board in BOARDS}
    print("PREDICTED ms a frame, nothing overlapping:")
    for name, times in boards.items():
        print(f"  {name:22}", "  ".join(f"{part} {ms:.2f}" for part, ms in times.items()))
    here = this_cpu(bundle, networks)
    print(f"the same arithmetic on one core here: {here}")
    if arguments.json:
        rounded = {n: {p: round(ms, 3) for p, ms in t.items()} for n, t in boards.items()}
        write_result(arguments.json, {"predicted_ms": rounded, "this_cpu": here})


if __name__ == "__main__":
    main()
