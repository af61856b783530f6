"""The precision and processor of each stream that `twostream build` chose for a device."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.key import GPU
from edge.errors import DeviceError
from edge.files import make_private, why, write_atomic
from edge.spec import Spec


class _Tuning(Spec):
    """Everything in tuning-DEVICE.json; no field has a default."""

    schema_version: Literal[1]
    tensorrt: str
    gpu: GPU
    streams: dict[str, BuildConfig]


def read_tuning(
    folder: Path, gpu: GPU, tensorrt_version: str, streams: Collection[str]
) -> dict[str, BuildConfig] | None:
    """The last choice of `twostream build` for these streams on this device, by stream; None if it
    has not run.

    Raises DeviceError if the file cannot be used: nobody would notice a run in another precision.
    """
    path = _path(folder, gpu, tensorrt_version)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeviceError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        tuning = _Tuning.model_validate_json(data)
    except ValidationError:
        raise DeviceError(f"{path}: is damaged; delete it or run: twostream build") from None
    if (tuning.tensorrt, tuning.gpu, set(tuning.streams)) != (tensorrt_version, gpu, set(streams)):
        raise DeviceError(
            f"{path}: is for another device or bundle; delete it or run: twostream build"
        )
    return tuning.streams


def write_tuning(
    folder: Path, gpu: GPU, tensorrt_version: str, streams: Mapping[str, BuildConfig]
) -> None:
    """Store the configuration of each stream. Raises DeviceError if it cannot be written."""
    path = _path(folder, gpu, tensorrt_version)
    data = _Tuning(schema_version=1, tensorrt=tensorrt_version, gpu=gpu, streams=dict(streams))
    try:
        make_private(folder)
        with write_atomic(path) as file:
            file.write(data.model_dump_json(indent=1).encode())
    except OSError as error:
        raise DeviceError(f"{path}: cannot be written ({why(error)})") from None


def _path(folder: Path, gpu: GPU, tensorrt_version: str) -> Path:
    return folder / f"tuning-{gpu.digest(tensorrt_version)}.json"
