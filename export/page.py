"""The page of a bundle: its accuracy, how it was made, and its speed on this machine.

It is a file beside the bundle: the same inputs give the same bundle, while measured speed varies.
"""

from __future__ import annotations

import base64
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from edge.bundle.manifest import sha256
from edge.errors import ExportError
from edge.files import write_atomic
from export.figures import draw_reliability
from export.package import Exported
from export.speed import flow_speed, run_speed
from train.data.cache import CachedClip
from train.models.checkpoint import find_checkpoint, read_metadata


def write_page(
    exported: Exported, test: list[CachedClip], checkpoints: dict[str, Path], command: str
) -> Path:
    """Measure the bundle's speed on the test clips, and write BUNDLE.html.

    checkpoints: files or run folders, by stream. command: the command line of the export, as shown
    on the page. Raises ExportError if the page cannot be written.
    """
    bundle = exported.bundle
    speed = run_speed(bundle, [clip.clip.path for clip in test])
    flow = flow_speed(bundle, test[0])
    page = bundle.path.with_name(bundle.path.name + ".html")
    template = files("export").joinpath("page.html").read_text(encoding="utf-8")
    text = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    content = text.render(
        manifest=bundle.manifest,
        report=exported.report,
        layers=exported.layers,
        reliability=_reliability_url(exported),
        speed=speed,
        flow=flow,
        command=command,
        cores=len(os.sched_getaffinity(0)),
        origins=[_origin(stream, find_checkpoint(path)) for stream, path in checkpoints.items()],
    )
    with write_atomic(page, ExportError) as file:
        file.write(content.encode())
    return page


def _reliability_url(exported: Exported) -> str:
    """The reliability diagram as a data URL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reliability.png"
        draw_reliability(exported.reliability, path)
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _origin(stream: str, checkpoint: Path) -> dict[str, Any]:
    metadata = read_metadata(checkpoint)
    return {
        "stream": stream,
        "file": checkpoint.name,
        "sha256": sha256(checkpoint.read_bytes()),
        "weights": metadata["weights"],
        "recipe": metadata["recipe"],
    }
