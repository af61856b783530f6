"""The page of a bundle: its accuracy, how it was made, and its speed on this machine.

It is a file beside the bundle: the same inputs give the same bundle, while measured speed varies.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from edge.bundle.manifest import Bundle, Manifest, load_bundle, sha256
from edge.errors import ExportError
from edge.files import why, write_atomic
from export.figures import draw_reliability
from export.package import Exported
from export.speed import flow_speed, run_speed
from train.data.cache import CachedClip
from train.models.checkpoint import find_checkpoint, read_metadata
from train.streams import FUSED

# The rates of a decision, as said on the page.
MOMENTS = {
    "right": "bundle's actions with the right label",
    "wrong": "bundle's actions with a wrong label",
    "other": "other actions with a label",
}


Figures = dict[str, str]  # of a bundle, by what they say


def read_figures(folder: Path) -> Figures:
    """The figures of a bundle that was exported before. Raises BundleError if it is no bundle,
    ExportError if its report cannot be read."""
    bundle, file = load_bundle(folder), folder / "report.json"
    try:
        return _figures(bundle, json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ExportError(f"{file}: cannot be read ({why(error)})") from None
    except (KeyError, TypeError, ValueError):
        raise ExportError(f"{file}: is not the report of a bundle") from None


def write_page(
    exported: Exported,
    test: list[CachedClip],
    checkpoints: dict[str, Path],
    command: str,
    earlier: Figures | None = None,
) -> Path:
    """Measure the bundle's speed on the test clips, and write BUNDLE.html.

    checkpoints: files or run folders, by stream. command: the command line of the export, as shown
    on the page. earlier: of a bundle to show beside this one. Raises ExportError if the page
    cannot be written.
    """
    bundle = exported.bundle
    speed = run_speed(bundle, [clip.clip.path for clip in test])
    flow = flow_speed(bundle, test[0])
    page = bundle.path.with_name(bundle.path.name + ".html")
    template = files("export").joinpath("page.html").read_text(encoding="utf-8")
    text = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    content = text.render(
        manifest=bundle.manifest,
        moments=MOMENTS,
        threshold=threshold_text(bundle.manifest),
        report=exported.report,
        layers=exported.layers,
        reliability=_reliability_url(exported),
        speed=speed,
        flow=flow,
        command=command,
        compared=[] if earlier is None else compare(earlier, _figures(bundle, exported.report)),
        cores=len(os.sched_getaffinity(0)),
        origins=[_origin(stream, find_checkpoint(path)) for stream, path in checkpoints.items()],
    )
    with write_atomic(page, ExportError) as file:
        file.write(content.encode())
    return page


def threshold_text(manifest: Manifest) -> str:
    """The threshold of a decision that has one, and those of classes that need more."""
    decision = manifest.decision
    higher = [
        f"{name} {each}"
        for name, each in zip(manifest.classes, decision.class_thresholds or (), strict=False)
        if each != decision.threshold
    ]
    return f"{decision.threshold}" + (f" ({', '.join(higher)})" if higher else "")


def compare(earlier: Figures, now: Figures) -> list[tuple[str, str, str]]:
    """(what the figure says, earlier, now), in the order of the new bundle."""
    names = dict.fromkeys([*now, *earlier])
    return [
        (name, earlier.get(name, "not measured"), now.get(name, "not measured")) for name in names
    ]


def _figures(bundle: Bundle, report: dict[str, Any]) -> Figures:
    manifest = bundle.manifest
    figures = {"actions": str(len(manifest.classes))}
    for stream in (*manifest.streams, FUSED):
        figures[f"{stream} top-1, INT8"] = f"{report['test'][stream]['top1_int8']:.4f}"
    decision = manifest.decision
    if decision.test is not None:
        for name, text in MOMENTS.items():
            rate = getattr(decision.test, name)
            if rate.clips:
                figures[f"moments of the {text}"] = f"{rate.share:.1%}"
    if decision.footage is not None:
        minutes = decision.footage.seconds / 60
        figures["actions reported in video of none of them"] = (
            f"{decision.footage.events} in {minutes:.1f} minutes"
        )
    return figures | {
        "fusion": manifest.fusion.kind,
        "decision": "the best class, always"
        if decision.threshold is None
        else f"{decision.kind}, threshold {threshold_text(manifest)}",
        "bytes of the networks": f"{_network_bytes(bundle):,}",
    }


def _network_bytes(bundle: Bundle) -> int:
    files = {stream.file for stream in bundle.manifest.streams.values()}
    return sum((bundle.path / file).stat().st_size for file in files)


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
