"""What was decided for one device: the precision and the processor of each stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edge.bundle.network import Stream
from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.key import GPU, device_digest
from edge.errors import DeviceError
from edge.files import make_private, why, write_atomic
from edge.spec import Spec


class _Tuning(Spec):
    """Everything in choice-DEVICE.json; no field has a default."""

    schema_version: Literal[1]
    tensorrt: str
    gpu: GPU
    streams: dict[Stream, BuildConfig]


def read_tuning(folder: Path, gpu: GPU, tensorrt_version: str) -> dict[Stream, BuildConfig] | None:
    """What `twostream build` last decided for this device; None where it never did.

    Raises DeviceError for a file that does not say: running in another precision than was chosen
    would go unnoticed.
    """
    path = _path(folder, gpu, tensorrt_version)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeviceError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        choice = _Tuning.model_validate_json(data)
    except ValidationError:
        raise DeviceError(f"{path}: is damaged; delete it or run: twostream build") from None
    if (choice.tensorrt, choice.gpu) != (tensorrt_version, gpu) or len(choice.streams) != 2:
        raise DeviceError(f"{path}: is of another device; delete it or run: twostream build")
    return choice.streams


def write_tuning(
    folder: Path, gpu: GPU, tensorrt_version: str, choice: Mapping[Stream, BuildConfig]
) -> None:
    """Keep what was decided, for both streams. Raises DeviceError where it cannot be written."""
    path = _path(folder, gpu, tensorrt_version)
    data = _Tuning(schema_version=1, tensorrt=tensorrt_version, gpu=gpu, streams=dict(choice))
    try:
        make_private(folder)
        with write_atomic(path) as file:
            file.write(data.model_dump_json(indent=1).encode())
    except OSError as error:
        raise DeviceError(f"{path}: cannot be written ({why(error)})") from None


def _path(folder: Path, gpu: GPU, tensorrt_version: str) -> Path:
    digest = device_digest(tensorrt_version, gpu.name, gpu.compute_capability, gpu.multiprocessors)
    return folder / f"choice-{digest}.json"
