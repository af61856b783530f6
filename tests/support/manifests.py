"""Manifests of bundles that hold nothing of use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edge.bundle.manifest import MANIFEST, sha256
from edge.motion.spec import PRESETS

FILES = {"spatial.onnx": b"spatial", "temporal.onnx": b"temporal", "parity.npz": b"parity"}


MOTION = "streams.temporal.input.motion"


_RATE = {"share": 0.5, "low": 0.25, "high": 0.75, "moments": 200, "clips": 12}
REACHED = {"right": _RATE, "wrong": _RATE, "other": _RATE}


def manifest() -> dict[str, Any]:
    return {
        "schema_version": 4,
        "name": "test",
        "classes": ["Diving", "Drumming"],
        "geometry": {"aspect": [4, 3], "size_hw": [224, 224], "interpolation": "area"},
        "streams": {
            "spatial": {
                "file": "spatial.onnx",
                "backbone": "any",
                "input": {"kind": "rgb", "frames": 1, "interval_s": 0.04},
                "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
                "temperature": 1.0,
                "weight": 1.0,
            },
            "temporal": {
                "file": "temporal.onnx",
                "backbone": "any",
                "input": {
                    "kind": "flow",
                    "stack": 10,
                    "layout": "grouped",
                    "motion": PRESETS["fast"].model_dump(by_alias=True),
                },
                "normalisation": {"mean": [0.5], "std": [0.25]},
                "temperature": 1.0,
                "weight": 1.0,
            },
        },
        "fusion": {
            "kind": "arithmetic",
            "temperature": 0.5,
        },
        "decision": {
            "kind": "margin",
            "window_s": 1.0,
            "threshold": 4.5,
            "class_thresholds": None,
            "hold": 0.6,
            "false_alarm_rate": 0.05,
            "validation": REACHED,
            "test": None,
            "footage": {"videos": 3, "seconds": 90.5, "events": 0},
        },
        "parity": {"file": "parity.npz", "size_hw": [240, 320], "tolerance": 0.05},
        "accepted_loss": None,
        "files": {name: sha256(data) for name, data in FILES.items()},
    }


def write(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def set_key(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with `a.b.c` set, or removed where value is None."""
    content = json.loads(json.dumps(content))
    *parents, last = key.split(".")
    section = content
    for name in parents:
        section = section[name]
    if value is None:
        del section[last]
    else:
        section[last] = value
    return content


def with_network(demo: Path, folder: Path, data: bytes) -> Path:
    """The demo's bundle with this as its spatial network."""
    shutil.copytree(demo, folder)
    (folder / "spatial.onnx").write_bytes(data)
    content = json.loads((folder / MANIFEST).read_text())
    content["files"]["spatial.onnx"] = sha256(data)
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder
