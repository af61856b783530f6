"""INT8 by others and by us, on the same clips: score difference, size and speed.

    python -m tests.benchmarks.quantisers work/temporal.fp32.onnx --data ../shared/ucf101 \\
        --json out/quantisers.json

Calibrated on the same training clips, compared with FP32 on the test clips of the networks' own
classes, scores as onnxruntime computes the Q/DQ as it is written. onnxruntime: `quantize_static` as
it is by default, and with the settings that TensorRT takes. modelopt, where it is installed,
changes onnxruntime in its process, so that one network is measured a run.
Speed is OpenVINO's, one image at a time, as a ratio to the FP32 network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from calibration.lint import layer_precisions, lint
from calibration.onnx_file import load_model
from calibration.quantise import calibrate
from calibration.samples import Samples, draw_samples
from calibration.sensitivity import compare_scores
from edge.bundle.network import NetworkSpec
from edge.bundle.tensor_names import INPUT
from edge.devices.inference import NetworkFile
from edge.devices.openvino import compile_network
from train.data.cache import fill_cache, open_cache
from train.data.dataset import open_dataset
from train.data.snippets import evenly_spaced, tensor_at
from train.json_file import write_json

CLIPS, MOMENTS = 64, 3
Inputs = Sequence[NDArray[np.float32]]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Samples) -> None:
        self._rows: Iterator[NDArray[np.float32]] = iter(samples)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        row = next(self._rows, None)
        return None if row is None else {INPUT: row[None]}


def onnxruntime_default(file: Path, samples: Samples, folder: Path) -> onnx.ModelProto:
    """uint8 activations, int8 weights, one scale a tensor, quantised bias: its own defaults."""
    return _by_onnxruntime(file, samples, folder)


def onnxruntime_for_tensorrt(file: Path, samples: Samples, folder: Path) -> onnx.ModelProto:
    """Symmetric int8, one scale an output channel, float bias."""
    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    return _by_onnxruntime(
        file,
        samples,
        folder,
        per_channel=True,
        activation_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Add", "MatMul", "Gemm"],
        extra_options=symmetric,
    )


def _by_onnxruntime(file: Path, samples: Samples, folder: Path, **settings: Any) -> onnx.ModelProto:
    prepared, out = folder / "prepared.onnx", folder / "out.onnx"
    quant_pre_process(file, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, out, _Reader(samples), **settings)
    return onnx.load(out)


def modelopt(file: Path, samples: Samples, folder: Path) -> onnx.ModelProto:
    """NVIDIA's, by its default for INT8 (entropy)."""
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found]

    data = {INPUT: np.stack(list(samples))}
    quantize(str(file), calibration_data=data, output_path=str(folder / "modelopt.onnx"))
    return onnx.load(folder / "modelopt.onnx")


def ours(file: Path, samples: Samples, folder: Path) -> onnx.ModelProto:
    return calibrate(load_model(file)[0], samples, "auto").model


QUANTISERS: dict[str, Callable[[Path, Samples, Path], onnx.ModelProto]] = {
    "onnxruntime, default": onnxruntime_default,
    "onnxruntime, for TensorRT": onnxruntime_for_tensorrt,
    "modelopt": modelopt,
    "twostream": ours,
}


def measure(file: Path, data: Path, cache: Path) -> dict[str, Any]:
    fp32, spec = load_model(file)
    split = open_dataset(data, spec.split)
    store, history = open_cache(cache, spec), spec.input.history
    samples = draw_samples(spec, split.train, CLIPS, 1, store)
    clips = [clip for clip in split.test if clip.label in spec.classes]
    inputs = [
        tensor_at(clip, index, spec)
        for clip in fill_cache(store, clips, history)
        for index in evenly_spaced(clip, history, MOMENTS)
    ]
    rows: dict[str, Any] = {}
    plain = _median_ms(fp32, spec, inputs)
    for name, quantiser in QUANTISERS.items():
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            try:
                model = quantiser(file, samples, Path(folder))
            except ImportError:
                rows[name] = "not installed"
                continue
            seconds = time.perf_counter() - started
        difference = compare_scores(fp32, model, inputs)
        layers = layer_precisions(model)
        rows[name] = {
            "mean_score_difference": round(difference.mean, 5),
            "largest": round(difference.largest, 4),
            "same_top1": round(difference.same_top1, 4),
            "megabytes": round(model.ByteSize() / 1e6, 2),
            "time_of_fp32": round(_median_ms(model, spec, inputs) / plain, 2),
            "float_layers": sum(precision == "float" for _, _, precision in layers),
            "faults_for_tensorrt": len(lint(model).faults),
            "hints_for_tensorrt": len(lint(model).hints),
            "seconds_to_make": round(seconds, 1),
        }
    return {
        "stream": spec.stream,
        "backbone": spec.backbone,
        "samples": len(inputs),
        "fp32_megabytes": round(fp32.ByteSize() / 1e6, 2),
        "quantisers": rows,
    }


def _median_ms(model: onnx.ModelProto, spec: NetworkSpec, inputs: Inputs) -> float:
    shape = (1, spec.channels, *spec.geometry.size_hw)
    file = NetworkFile(model.SerializeToString(), "it", shape, len(spec.classes))
    network = compile_network(file)
    times = []
    for sample in inputs[:40]:
        started = time.perf_counter()
        network(sample[None])
        times.append(time.perf_counter() - started)
    return float(np.median(times[5:]) * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("work/cache"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    network = measure(arguments.file, arguments.data, arguments.cache)
    print(f"{network['stream']} {network['backbone']}, {network['fp32_megabytes']} MB in FP32")
    for name, row in network["quantisers"].items():
        text = row if isinstance(row, str) else ", ".join(f"{k} {v}" for k, v in row.items())
        print(f"  {name:26} {text}")
    if arguments.json:
        write_json(arguments.json, network)


if __name__ == "__main__":
    main()
