"""Exports a trained network as an FP32 ONNX file."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.onnx_file import write_model
from calibration.steps import run_steps
from edge.bundle.network import NetworkSpec
from edge.bundle.tensor_names import INPUT, OUTPUT, next_state
from edge.errors import ExportError
from train.models.online import OnlineNetwork

OPSET = 17  # the newest that TensorRT 8.5 (JetPack 5) reads
NO_STATE: Mapping[str, tuple[int, ...]] = MappingProxyType({})
TOLERANCE = 1e-4  # largest difference of a logit between torch and onnxruntime


def export_graph(
    network: nn.Module, spec: NetworkSpec, path: Path, inputs: Sequence[NDArray[np.float32]] = ()
) -> None:
    """Write `network` to `path`: input (1, channels, H, W) -> logits (1, C), batch norm folded; a
    network with state as one step, with its state going in and out.

    inputs: of real clips, as `tensor_at` builds them, on which the logits are compared besides
    random inputs. Raises ExportError if the network does not fit the specification, the logits
    of the file differ from those of the network, or they do not depend on the input.
    """
    network = network.eval()
    try:
        model = trace_graph(network, spec.input_shape, spec.state)
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{path}: the network cannot be exported ({reason})") from None
    check_against(network, model, spec, inputs, path)
    write_model(model, spec, path)


class _Step(nn.Module):
    def __init__(self, network: OnlineNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.network.step(*tensors)


def trace_graph(
    network: nn.Module, shape: tuple[int, ...], state: Mapping[str, tuple[int, ...]] = NO_STATE
) -> onnx.ModelProto:
    """The ONNX graph of a network in evaluation mode, for one fixed input shape. state: shapes of
    the tensors of an OnlineNetwork's state, by name, in the order of its step.

    This is torch's tracing exporter. The newer one (dynamo=True; tried with torch 2.14) writes
    opset 18, which TensorRT 8.5 does not read, and cannot convert it to 17 because of the axes
    input of ReduceMean. It also writes the paths of source files into the model.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # sizes are constants, as meant
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            _Step(network).eval() if isinstance(network, OnlineNetwork) else network,
            tuple(torch.zeros(each) for each in (shape, *state.values())),
            file,
            input_names=[INPUT, *state],
            output_names=[OUTPUT, *map(next_state, state)],
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
    shape = (spec.input.frames, *spec.input_shape[1:]) if spec.state else spec.input_shape[1:]
    samples = [rng.standard_normal(shape, np.float32) * scale for scale in (0.0, 0.5, 1.0)]
    samples += inputs
    with torch.inference_mode():
        expected = [network(torch.from_numpy(sample[None])).numpy() for sample in samples]
    for sample, torch_logits in zip(samples, expected, strict=True):
        logits = run_steps(session, [OUTPUT], sample)[0][-1:]
        same_shape = logits.shape == torch_logits.shape
        difference = float(np.abs(logits - torch_logits).max()) if same_shape else np.inf
        if not difference <= TOLERANCE:  # NaN is a fault, too
            raise ExportError(
                f"{path}: ONNX and torch differ by {difference:.2g} in a logit "
                f"(allowed: {TOLERANCE:g}); are the weights finite?"
            )
    if np.ptp(np.stack(expected), axis=0).max() == 0:
        raise ExportError(f"{path}: the logits do not depend on the input; is it trained?")
