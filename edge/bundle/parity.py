"""Parity samples: a short run of frames, and the flow and logits that a device must reproduce.

parity.npz holds, for T frames of a camera's size:

    frames              (T, 3/2 h w) uint8, I420 at `parity.size_hw` of the manifest, limited range
    times_s             (T, 1) float32, rising
    vectors             (M, 7) float32, only where a motion method needs them: number of the frame,
                        box (left, top, right, bottom, px of the frame), velocity (u, v, px/s)
    flow_K              (T - 1, 2, H, W) uint8, the flows of the K-th motion method, as bytes
    STREAM_input        (N, 256) float32, some values of the network's input, see `input_points`
    STREAM_int8, _fp32  (N, C) float32, logits for the last N = T - history frames: of the file in
                        the bundle, and of the same network in float (see float_onnx.py)
    fused               (N, C) float32, of a recurrent fusion alone: its logits for STREAM_int8, one
                        row after another

All were computed by the CPU device when the bundle was written.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import UNREADABLE_ZIP, Bundle, RecurrentLogits, StreamSpec
from edge.errors import BundleError
from edge.files import write_atomic
from edge.inputs.builder import input_dtype, normalised, open_input
from edge.motion.method import need_vectors
from edge.motion.preprocessor import Step
from edge.spec import Spec
from edge.video.frames import (
    Frame,
    default_matrix,
    pack_i420,
    resize_to_model,
    unpack_i420,
)
from edge.video.motion_vectors import no_vectors, pack_vectors, unpack_vectors

# Values per input: enough to detect an error of one level in a tenth of the values.
INPUT_POINTS = 256
_MAX_BYTES = 1 << 28  # of all arrays, unpacked
# The header of a .npy file is a Python literal, which numpy evaluates. Only the form that
# `write_parity` writes is accepted.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<size>..)(?P<text>\{'descr': '(?P<kind>\|u1|<f4)', "
    rb"'fortran_order': False, 'shape': \((?P<shape>\d{1,9}(?:, \d{1,9}){1,4})\), \} *\n)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ParityRun:
    """See the module's docstring for shapes. flows: by the spec of their method. inputs: by stream.
    logits: by stream and "int8" or "fp32". fused: None without a recurrent fusion."""

    frames: tuple[Frame, ...]
    flows: Mapping[Spec, NDArray[np.uint8]]
    inputs: Mapping[str, NDArray[np.float32]]
    logits: Mapping[tuple[str, str], NDArray[np.float32]]
    fused: NDArray[np.float32] | None = None

    @property
    def samples(self) -> int:
        """N, the number of frames with logits."""
        return len(next(iter(self.logits.values())))

    @property
    def times_s(self) -> tuple[float, ...]:
        """The stream times of these N frames."""
        return tuple(frame.time_s for frame in self.frames[-self.samples :])


def write_parity(path: Path, run: ParityRun) -> None:
    """Write parity.npz, always the same bytes for the same run. Raises BundleError if it cannot be
    written."""
    arrays: dict[str, NDArray[Any]] = {
        "frames": np.stack([pack_i420(frame) for frame in run.frames]),
        "times_s": np.array([[frame.time_s] for frame in run.frames], np.float32),
    }
    if need_vectors(run.flows):
        arrays["vectors"] = pack_vectors([frame.vectors or no_vectors() for frame in run.frames])
    arrays |= {f"flow_{number}": flow for number, flow in enumerate(run.flows.values())}
    arrays |= {f"{stream}_input": values for stream, values in run.inputs.items()}
    arrays |= {f"{stream}_{kind}": values for (stream, kind), values in run.logits.items()}
    arrays |= {} if run.fused is None else {"fused": run.fused}
    with (
        write_atomic(path, BundleError) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for key, values in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, values, allow_pickle=False)
            # with a fixed date, which np.savez cannot set
            archive.writestr(
                zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)),
                buffer.getvalue(),
                zipfile.ZIP_DEFLATED,
            )


def load_parity(bundle: Bundle) -> ParityRun:
    """Read a bundle's parity samples. Raises BundleError if they do not match the manifest, or if
    the bundle has schema 2, whose samples cover only the networks."""
    manifest, name = bundle.manifest, bundle.manifest.parity.file
    if bundle.schema < 3:
        raise BundleError(
            f"{bundle.path}: its parity samples are of schema {bundle.schema} and cover only the "
            "networks; export it again"
        )
    fault = BundleError(f"{bundle.path}: {name} does not hold this bundle's parity samples")
    height, width = manifest.parity.size_hw
    motions, precisions = manifest.motions, ("int8", "fp32")
    try:
        with zipfile.ZipFile(io.BytesIO(bundle.read(name))) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _MAX_BYTES:
                raise BundleError(
                    f"{bundle.path}: {name} holds {size >> 20} MiB of parity samples, "
                    f"{_MAX_BYTES >> 20} are allowed; export it with fewer"
                )

            def read(key: str, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
                return _read_array(archive.read(f"{key}.npy"), key, shape, kind)

            packed = read("frames", (height * width * 3 // 2,), np.uint8)
            times_s = read("times_s", (1,), np.float32)[:, 0]
            vectors = read("vectors", (7,), np.float32) if need_vectors(motions) else None
            flow_shape = (2, *manifest.geometry.size_hw)
            flows = {m: read(f"flow_{k}", flow_shape, np.uint8) for k, m in enumerate(motions)}
            inputs = {s: read(f"{s}_input", (INPUT_POINTS,), np.float32) for s in manifest.streams}
            logits = {
                (stream, kind): read(f"{stream}_{kind}", (len(manifest.classes),), np.float32)
                for stream in manifest.streams
                for kind in precisions
            }
            recurrent = isinstance(manifest.fusion, RecurrentLogits)
            fused = read("fused", (len(manifest.classes),), np.float32) if recurrent else None
    except (*UNREADABLE_ZIP, KeyError):
        raise fault from None
    count, samples = len(packed), len(packed) - manifest.history
    if len(times_s) != count or samples < 1 or (np.diff(times_s) <= 0).any():
        raise fault
    if any(len(flow) != count - 1 for flow in flows.values()):
        raise fault
    of_samples = [*inputs.values(), *logits.values(), *([] if fused is None else [fused])]
    if any(len(values) != samples for values in of_samples):
        raise fault
    size_hw, matrix = manifest.parity.size_hw, default_matrix(height)
    frames = [
        unpack_i420(planes, size_hw, float(time_s), index, matrix)
        for index, (planes, time_s) in enumerate(zip(packed, times_s, strict=True))
    ]
    if vectors is not None:
        each = unpack_vectors(vectors, count)
        frames = [replace(f, vectors=v) for f, v in zip(frames, each, strict=True)]
    return ParityRun(tuple(frames), flows, inputs, logits, fused)


def network_inputs(bundle: Bundle, run: ParityRun, stream: str) -> NDArray[Any]:
    """The inputs (N, channels, H, W) of one network for the frames with logits, as a device takes
    them, to check the network alone. They are built on the host from the run's frames and flows.
    """
    manifest = bundle.manifest
    spec = manifest.streams[stream]
    builder = open_input(spec.input, manifest.geometry.size_hw, spec.normalisation)
    out = np.empty((run.samples, *builder.shape), input_dtype(spec.input))
    for index, frame in enumerate(run.frames):
        flows = {method: flow[index - 1] for method, flow in run.flows.items()} if index else {}
        builder.push(Step(resize_to_model(frame, manifest.geometry), flows))
        if index >= manifest.history:
            builder.fill(out[index - manifest.history])
    return out


def input_points(stream: StreamSpec, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Values spread over each input, normalised: (N, channels, H, W), as `network_inputs` gives
    them, -> (N, INPUT_POINTS)."""
    flat = inputs.reshape(len(inputs), -1)
    indices = np.arange(INPUT_POINTS, dtype=np.uint64) * 2654435761 % flat.shape[1]
    points = np.ascontiguousarray(flat[:, indices.astype(np.int64)])
    return normalised(stream.input, stream.normalisation, points)


def _read_array(data: bytes, key: str, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    """Read an array (N, *shape), N >= 1, from a .npy file. Its header must match `shape`, `kind`
    and the size of the data. Raises ValueError if it does not, or if values are not finite."""
    header = _HEADER.match(data)
    if header is None or int.from_bytes(header["size"], "little") != len(header["text"]):
        raise ValueError(f"{key} has an unexpected header")
    stored = tuple(map(int, header["shape"].split(b", ")))
    dtype = np.dtype(kind)
    if header["kind"].decode() != dtype.str or stored[0] < 1 or stored[1:] != shape:
        raise ValueError(f"{key} has shape {stored} and type {header['kind']!r}")
    if math.prod(stored) * dtype.itemsize != len(data) - header.end():
        raise ValueError(f"{key} is incomplete")
    values = np.frombuffer(data, dtype, offset=header.end()).reshape(stored)
    if dtype == np.float32 and not np.isfinite(values).all():
        raise ValueError(f"{key} is not finite")
    return values
