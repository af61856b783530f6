"""Parity samples: inputs with the scores they must give, so that a device can be proven right.

parity.npz holds, for N samples: `frames` (N, 3/2 H W) uint8, I420 at the model's size; `stacks`
(N, L, 2, H, W) uint8, the flows that led to each; and softmax scores (N, C) float32 named
`STREAM_fp32` and `STREAM_int8`, as the bundle's maker measured them.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import UNREADABLE_ZIP, Bundle
from edge.errors import BundleError
from edge.files import write_atomic
from edge.motion.stack import stack_tensor
from edge.video.frames import rgb_tensor, unpack_i420

_KEYS = ("frames", "stacks", "spatial_fp32", "spatial_int8", "temporal_fp32", "temporal_int8")
_MAX_BYTES = 1 << 28
# A .npy begins with Python, which numpy evaluates. What `write_parity` writes has this form alone.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<size>..)(?P<text>\{'descr': '(?P<kind>\|u1|<f4)', "
    rb"'fortran_order': False, 'shape': \((?P<shape>\d{1,9}(?:, \d{1,9}){1,4})\), \} *\n)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ParitySamples:
    """See the head of this file."""

    frames: NDArray[np.uint8]
    stacks: NDArray[np.uint8]
    spatial_fp32: NDArray[np.float32]
    spatial_int8: NDArray[np.float32]
    temporal_fp32: NDArray[np.float32]
    temporal_int8: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frames)


def write_parity(path: Path, samples: ParitySamples) -> None:
    """Write parity.npz; the same samples always give the same bytes."""
    with (
        write_atomic(path, BundleError) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for key in _KEYS:
            buffer = io.BytesIO()
            np.save(buffer, getattr(samples, key), allow_pickle=False)
            # a fixed date, which np.savez does not offer
            archive.writestr(
                zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)),
                buffer.getvalue(),
                zipfile.ZIP_DEFLATED,
            )


def load_parity(bundle: Bundle) -> ParitySamples:
    """The bundle's parity samples. Raises BundleError when they are not what the manifest says."""
    name = bundle.manifest.parity.file
    fault = BundleError(f"{bundle.path}: {name} does not hold this bundle's parity samples")
    manifest = bundle.manifest
    height, width = manifest.geometry.size_hw
    shapes = dict.fromkeys(_KEYS, (len(manifest.classes),)) | {
        "frames": (height * width * 3 // 2,),
        "stacks": (manifest.temporal.stack, 2, height, width),
    }
    try:
        with zipfile.ZipFile(io.BytesIO(bundle.read(name))) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _MAX_BYTES:
                raise BundleError(
                    f"{bundle.path}: {name} holds {size >> 20} MiB of parity samples, "
                    f"{_MAX_BYTES >> 20} are allowed; fewer will do"
                )
            arrays = {k: _read_array(archive.read(f"{k}.npy"), k, shapes[k]) for k in _KEYS}
    except (*UNREADABLE_ZIP, KeyError):
        raise fault from None
    if len({len(values) for values in arrays.values()}) != 1:
        raise fault
    return ParitySamples(**arrays)


def _read_array(data: bytes, key: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array (N, *shape) of a .npy, whose header is held against `shape` and the bytes that are
    there before anything is made of it. Raises ValueError where it is another, or not finite."""
    header = _HEADER.match(data)
    if header is None or int.from_bytes(header["size"], "little") != len(header["text"]):
        raise ValueError(f"{key} has another header than ours")
    found = tuple(map(int, header["shape"].split(b", ")))
    expected = np.dtype(np.uint8 if key in ("frames", "stacks") else np.float32)
    if header["kind"].decode() != expected.str or found[0] < 1 or found[1:] != shape:
        raise ValueError(f"{key} is {found} {header['kind']!r}")
    if math.prod(found) * expected.itemsize != len(data) - header.end():
        raise ValueError(f"{key} is not whole")
    values = np.frombuffer(data, expected, offset=header.end()).reshape(found)
    if expected == np.float32 and not np.isfinite(values).all():
        raise ValueError(f"{key} is not finite")
    return values


def spatial_inputs(bundle: Bundle, samples: ParitySamples) -> NDArray[np.float32]:
    """(N, 3, H, W), the parity frames as the spatial network takes them."""
    size_hw, normalisation = bundle.manifest.geometry.size_hw, bundle.manifest.spatial.normalisation
    frames = [unpack_i420(packed, size_hw, 0.0, 0, "bt601") for packed in samples.frames]
    return np.stack([rgb_tensor(frame, normalisation) for frame in frames])


def temporal_inputs(bundle: Bundle, samples: ParitySamples) -> NDArray[np.float32]:
    """(N, 2L, H, W), the parity stacks as the temporal network takes them."""
    temporal = bundle.manifest.temporal
    return np.stack(
        [stack_tensor(list(s), temporal.layout, temporal.normalisation) for s in samples.stacks]
    )
