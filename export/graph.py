"""Exports a trained network as an FP32 ONNX file."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.onnx_file import write_model
from edge.bundle.network import NetworkSpec
from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.errors import ExportError

OPSET = 17  # the newest that TensorRT 8.5 (JetPack 5) reads
TOLERANCE = 1e-4  # largest difference of a logit between torch and onnxruntime


def export_graph(
    network: nn.Module, spec: NetworkSpec, path: Path, inputs: Sequence[NDArray[np.float32]] = ()
) -> None:
    """Write `network` to `path`: input (1, channels, H, W) -> logits (1, C), batch norm folded.

    inputs: of real clips, (channels, H, W) each, on which the logits are compared besides random
    inputs. Raises ExportError if the network does not fit the specification, the logits of the file
    differ from those of the network, or they do not depend on the input.
    """
    network = network.eval()
    try:
        model = trace_graph(network, (1, spec.channels, *spec.geometry.size_hw))
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{path}: the network cannot be exported ({reason})") from None
    check_against(network, model, spec, inputs, path)
    write_model(model, spec, path)


def trace_graph(network: nn.Module, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The ONNX graph of a network in evaluation mode, for one fixed input shape.

    This is torch's tracing exporter. The newer one (dynamo=True; tried with torch 2.14) writes
    opset 18, which TensorRT 8.5 does not read, and cannot convert it to 17 because of the axes
    input of ReduceMean. It also writes the paths of source files into the model.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(shape),),
            file,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(file)


def check_against(
    network: nn.Module,
    model: onnx.ModelProto,
    spec: NetworkSpec,
    inputs: Sequence[NDArray[np.float32]],
    path: Path,
) -> None:
    """Raises ExportError unless onnxruntime and torch give the same logits, and these depend on the
    input.
    """
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    shape = (1, spec.channels, *spec.geometry.size_hw)
    batches = [rng.standard_normal(shape, np.float32) * scale for scale in (0.0, 0.5, 1.0)]
    batches += [sample[None] for sample in inputs]
    with torch.inference_mode():
        expected = [network(torch.from_numpy(batch)).numpy() for batch in batches]
    for batch, torch_logits in zip(batches, expected, strict=True):
        logits = session.run([OUTPUT], {INPUT: batch})[0]
        same_shape = logits.shape == torch_logits.shape
        difference = float(np.abs(logits - torch_logits).max()) if same_shape else np.inf
        if not difference <= TOLERANCE:  # NaN is a fault, too
            raise ExportError(
                f"{path}: ONNX and torch differ by {difference:.2g} in a logit "
                f"(allowed: {TOLERANCE:g}); are the weights finite?"
            )
    if np.ptp(np.stack(expected), axis=0).max() == 0:
        raise ExportError(f"{path}: the logits do not depend on the input; is it trained?")
