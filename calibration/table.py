"""Calibration caches of TensorRT up to 10.16, from the scales of a Q/DQ network.

They are for a DLA or another builder that takes a float network and a calibration cache; `twostream
build` needs none. A cache is text: a line with TensorRT's version, then a line "tensor: scale" for
each tensor, the scale as eight hexadecimal digits of a big-endian float32. TensorRT does not check
which network it is for, so FILE.json beside it has the SHA-256 of the Q/DQ network and of the
cache, the stream and the version.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

from pydantic import ValidationError

from calibration.onnx_file import load_model
from edge.bundle.manifest import sha256
from edge.devices.tensorrt.dla import tensor_scales
from edge.devices.tensorrt.version import cache_header
from edge.errors import ExportError
from edge.files import write_atomic
from edge.spec import Spec

_VERSION = re.compile(r"(8|9|10)\.([0-9]{1,2})(\.[0-9]{1,2}){0,2}")


class _Owner(Spec):
    onnx_sha256: str
    stream: str
    tensorrt: str
    table_sha256: str


def write_table(network: Path, version: str, path: Path) -> None:
    """Write the calibration cache of a Q/DQ file, and FILE.json.

    version: of TensorRT, such as 10.3.0. Raises ExportError if the network has no Q/DQ or an
    invalid scale, the version has no calibration caches, or a file cannot be written.
    """
    if not _VERSION.fullmatch(version) or tuple(map(int, version.split(".")[:2])) > (10, 16):
        raise ExportError(f"TensorRT {version!r}: tables are for 8.0 to 10.16; give such as 10.3.0")
    _, spec = load_model(network)
    data = network.read_bytes()
    scales = tensor_scales(data)
    if not scales:
        raise ExportError(f"{network}: has no Q/DQ; give the INT8 file of twostream calibrate")
    for tensor, scale in scales.items():
        if not (math.isfinite(scale) and scale > 0):
            raise ExportError(f"{network}: the scale of {tensor} is {scale}; calibrate it again")
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    table = "\n".join([cache_header(tuple(map(int, version.split(".")))), *lines, ""]).encode()
    owner = _Owner(
        onnx_sha256=sha256(data), stream=spec.stream, tensorrt=version, table_sha256=sha256(table)
    )
    with write_atomic(path, ExportError) as file:
        file.write(table)
    with write_atomic(_owner_file(path), ExportError) as file:
        file.write((owner.model_dump_json(indent=2) + "\n").encode())


def read_table(path: Path, network: Path, version: str | None = None) -> dict[str, float]:
    """The scales of a calibration cache, by tensor.

    network: the Q/DQ file that it must belong to. version: of TensorRT that it must be for; None
    for any. Raises ExportError if it is damaged, or belongs to another network, stream or version.
    """
    try:
        table, text = path.read_bytes(), _owner_file(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{error.filename}: {error.strerror}; write the table again") from None
    try:
        owner = _Owner.model_validate_json(text)
    except ValidationError:
        raise ExportError(f"{_owner_file(path)}: does not say whose table this is") from None
    _, spec = load_model(network)
    if owner.stream != spec.stream:
        raise ExportError(f"{path}: is of the {owner.stream} stream; {network} is {spec.stream}")
    network_sha256 = sha256(network.read_bytes())
    if owner.onnx_sha256 != network_sha256:
        raise ExportError(
            f"{path}: belongs to the network with sha256 {owner.onnx_sha256}; {network} has "
            f"{network_sha256}"
        )
    if version is not None and version != owner.tensorrt:
        raise ExportError(f"{path}: is for TensorRT {owner.tensorrt}, not {version}")
    if sha256(table) != owner.table_sha256:
        raise ExportError(
            f"{path}: is damaged (sha256 {sha256(table)}, written with {owner.table_sha256})"
        )
    return _scales(table, path)


def _scales(table: bytes, path: Path) -> dict[str, float]:
    scales: dict[str, float] = {}
    for number, line in enumerate(table.decode(errors="replace").splitlines()[1:], 2):
        name, colon, digits = line.rpartition(": ")
        if not colon or not re.fullmatch("[0-9a-f]{8}", digits):
            raise ExportError(f"{path}:{number}: not a tensor and its scale")
        (scale,) = struct.unpack(">f", bytes.fromhex(digits))
        if not (math.isfinite(scale) and scale > 0):
            raise ExportError(f"{path}:{number}: the scale of {name} is {scale}")
        scales[name] = scale
    return scales


def _owner_file(path: Path) -> Path:
    return path.with_name(path.name + ".json")
