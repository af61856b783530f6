"""CUDA's headers, of NVIDIA's packages nvidia-cuda-runtime and nvidia-cuda-profiler-api."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def cuda_headers() -> list[Path]:
    """The folders that hold them; empty where the packages are not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [Path(f) for f in spec.submodule_search_locations or ()]
    names = ("cuda.h", "cudaProfiler.h")
    found = [header for name in names for f in folders for header in f.glob(f"*/include/{name}")]
    return list(dict.fromkeys(header.parent for header in found))
