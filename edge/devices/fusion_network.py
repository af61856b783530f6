"""The network of a recurrent fusion: on the host with both devices, by OpenVINO in float.

Logits come down from a GPU anyway, since temperature, window and threshold are computed on the
host. A step is some 100,000 products (0.03 ms on a core), depends on the step before, and is
different for each source. As an engine it would need an upload, launches and a download for each
frame, and a build, a place in the cache and a check of its own. And so both devices give the same
fused scores for the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.devices.inference import NetworkFile, StatefulNetwork
from edge.errors import DeviceError

if TYPE_CHECKING:  # a process that only computes networks needs none of these
    from edge.bundle.manifest import Bundle, RecurrentLogits
    from edge.bundle.parity import ParityRun


def fusion_file(bundle: Bundle) -> NetworkFile | None:
    """The network of a bundle's fusion; None if its fusion has none. Raises BundleError if the file
    cannot be read."""
    spec, classes = bundle.manifest.fusion, len(bundle.manifest.classes)
    if spec.kind != "recurrent":
        return None
    name = f"{bundle.path}: {spec.file}"
    shape = (1, len(spec.inputs) * classes)
    return NetworkFile(bundle.read(spec.file), name, shape, classes, spec.state)


def open_stateful(file: NetworkFile) -> StatefulNetwork:
    """Raises BundleError if the file does not fit, DeviceError if OpenVINO is not installed."""
    try:
        from edge.devices import openvino
    except DeviceError as error:
        raise DeviceError(
            f"{file.name}: a recurrent fusion is computed on the host; {error}"
        ) from None
    return openvino.open_stateful(file)


def open_fusion_network(bundle: Bundle) -> StatefulNetwork | None:
    """The network of a bundle's fusion, for any number of sources; None if its fusion has none.
    Raises as `fusion_file` and `open_stateful` do."""
    file = fusion_file(bundle)
    return None if file is None else open_stateful(file)


def side_by_side(
    spec: RecurrentLogits, logits: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The network's input (..., S C) of logits (..., C) by stream."""
    return np.concatenate([logits[name] for name in spec.inputs], axis=-1)


def run_sequence(network: StatefulNetwork, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits (T, C) of snippets (T, S C) in turn, from the first state on."""
    state, rows = network.first_state(), []
    for values in inputs:
        logits, state = network.step(values, state)
        rows.append(logits)
    return np.stack(rows)


def parity_inputs(bundle: Bundle, run: ParityRun) -> NDArray[np.float32]:
    """The inputs (N, S C) of the parity samples: the maker's INT8 logits. The bundle has a
    recurrent fusion."""
    spec = bundle.manifest.fusion
    assert spec.kind == "recurrent"
    return side_by_side(spec, {name: run.logits[name, "int8"] for name in spec.inputs})
