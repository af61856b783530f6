"""What an engine was built from and for. An engine with another key is never run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields

from edge.bundle.network import Precision


@dataclass(frozen=True, slots=True)
class GPU:
    """name: from the driver. compute_capability: "8.7". multiprocessors: the enabled ones; AGX
    Orin, Orin NX and Orin Nano have the same name and differ in nothing else."""

    name: str
    compute_capability: str
    multiprocessors: int

    def digest(self, tensorrt: str) -> str:
        """In the names of the files that the engines of this GPU and TensorRT version share, 16
        hexadecimal digits."""
        return _digest([tensorrt, self.name, self.compute_capability, self.multiprocessors])


@dataclass(frozen=True, slots=True)
class EngineKey:
    """onnx_sha256: of the bundle's Q/DQ file, also for an FP16 or FP32 engine. tensorrt: "10.3.0".
    gpu, compute_capability, multiprocessors: see GPU. float_weights: see
    builder.needs_float_weights. dla_core: None for the GPU."""

    onnx_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    multiprocessors: int
    precision: Precision
    float_weights: bool
    dla_core: int | None

    def differences(self, other: EngineKey) -> list[str]:
        """How `other`, the key of a stored engine, differs from this one, one entry per field:
        "tensorrt 10.3.0, built with 8.6.2"."""
        differences = []
        for field in fields(self):
            needed, stored = getattr(self, field.name), getattr(other, field.name)
            if needed != stored:
                differences.append(f"{field.name} {_short(needed)}, built with {_short(stored)}")
        return differences

    def digest(self) -> str:
        """In the names of the engine's files, 16 hexadecimal digits."""
        return _digest(asdict(self))

    def device_digest(self) -> str:
        """See GPU.digest."""
        gpu = GPU(self.gpu, self.compute_capability, self.multiprocessors)
        return gpu.digest(self.tensorrt)


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:12]  # a sha256
    return "none" if value is None else str(value)
