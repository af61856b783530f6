"""Histograms of the magnitudes of activations over the calibration samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numba import njit
from numpy.typing import NDArray

from calibration.steps import run_steps
from edge.bundle.tensor_names import INPUT
from edge.errors import ExportError

BINS = 4096


@njit(nogil=True, cache=True, error_model="numpy")
def _count(values, scale, counts):  # type: ignore[no-untyped-def]
    for value in values:
        counts[min(int(abs(value) * scale), len(counts) - 1)] += 1


@dataclass
class HistogramObserver:
    """A histogram of |value| of a tensor: BINS bins of equal width from 0 to `limit`.

    A value above the limit doubles it, and pairs of bins are merged, so that memory does not grow
    with the number of samples. largest: the largest |value|.
    """

    limit: float = 2.0**-20
    largest: float = 0.0

    def __post_init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape; they must be finite."""
        self.largest = max(self.largest, float(np.abs(values).max()))
        while self.largest >= self.limit:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
            self.limit *= 2
        _count(values.reshape(-1), np.float32(BINS / self.limit), self.counts)


def collect_histograms(
    model: onnx.ModelProto,
    samples: Iterable[NDArray[np.float32]],
    tensors: Iterable[str],
    name_of: Callable[[int], str] = "sample {}".format,
) -> dict[str, HistogramObserver]:
    """Run an FP32 model on samples (channels, H, W), and return the histogram of each named tensor.

    name_of: the name of a sample, by its number from 0, for messages. Raises ExportError if there
    is no sample, or a tensor has values that are not finite or is always 0.
    """
    names = sorted(tensors)
    observers = {name: HistogramObserver() for name in names}
    count = 0
    for values in collect_activations(model, samples, names):
        for name in names:
            if not np.isfinite(values[name]).all():
                raise ExportError(
                    f"tensor {name} has infinite values or NaN on {name_of(count)}; "
                    "the weights or the sample are damaged"
                )
            observers[name].add(values[name])
        count += 1
    if count == 0:
        raise ExportError("no calibration samples were given")
    for name, observer in observers.items():
        if observer.largest == 0:
            raise ExportError(
                f"tensor {name} is 0 on all {count} calibration samples (the first is "
                f"{name_of(0)}), so it has no range"
            )
    return observers


def collect_activations(
    model: onnx.ModelProto, samples: Iterable[NDArray[np.float32]], names: list[str]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The named tensors for each sample, each with the sample's steps as its batch; see
    `run_steps`."""
    session = _session_with_outputs(model, names)
    inner = [name for name in names if name != INPUT]
    for sample in samples:
        values = np.ascontiguousarray(sample, np.float32)
        found = run_steps(session, inner, values)
        shape = session.get_inputs()[0].shape[1:]
        yield dict(zip(inner, found, strict=True)) | {INPUT: values.reshape(-1, *shape)}


def _session_with_outputs(model: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    available = {value.name for value in (*model.graph.input, *model.graph.output)}
    for name in names:
        if name not in available:
            extended.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        extended.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
