"""What an engine belongs to. One that was built for anything else is never run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields

from edge.bundle.network import Precision


@dataclass(frozen=True, slots=True)
class EngineKey:
    """onnx_sha256: of the bundle's Q/DQ file, also where the engine is made of a variant of it;
    file and precision together say which variant. tensorrt: "10.3.0". gpu: the GPU's own name.
    compute_capability: "8.7". multiprocessors: of the GPU, for all Orins have one name.
    dla_core: None for the GPU.
    """

    onnx_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    multiprocessors: int
    precision: Precision
    dla_core: int | None

    def differences(self, other: EngineKey) -> list[str]:
        """Where `other`, an engine that is there, differs from this one, which is wanted:
        "tensorrt 10.3.0, built with 8.6.2", one entry a part."""
        found = []
        for field in fields(self):
            wanted, built = getattr(self, field.name), getattr(other, field.name)
            if wanted != built:
                found.append(f"{field.name} {_short(wanted)}, built with {_short(built)}")
        return found

    def digest(self) -> str:
        return _digest(asdict(self))

    def device_digest(self) -> str:
        return device_digest(self.tensorrt, self.gpu, self.compute_capability, self.multiprocessors)


def device_digest(tensorrt: str, gpu: str, compute_capability: str, multiprocessors: int) -> str:
    """Names what all engines of one device and TensorRT share."""
    return _digest([tensorrt, gpu, compute_capability, multiprocessors])


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:12]  # a sha256
    return "none" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class GPU:
    """name: as the driver gives it. compute_capability: "8.7". multiprocessors: as many as are on:
    an AGX Orin, an Orin NX and an Orin Nano have one name and differ in nothing else."""

    name: str
    compute_capability: str
    multiprocessors: int
