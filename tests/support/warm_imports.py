"""Imported by the process that `tests.support.warm_command` forks: what `twostream` imports, with
the kernels that it loads."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from edge.video.frames import Geometry

for name in (
    "av",
    "openvino",
    "edge.cli",
    "edge.commands.bench.command",
    "edge.commands.doctor.report",
    "edge.commands.run.run",
    "edge.commands.verify",
    "edge.devices.cpu",
    "export.package",
    "train.training.job",
):
    import_module(name)
for entry in entry_points(group="twostream.commands"):
    entry.load()
GEOMETRY = Geometry(aspect=(4, 3), size_hw=(64, 64), interpolation="area")
Preprocessor(GEOMETRY, [PRESETS["fast"]]).warm_up()
