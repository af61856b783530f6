"""Imported by the process that `tests.support.warm_command` forks: what `twostream` imports, with
the kernels that it loads."""

from __future__ import annotations

from importlib.metadata import entry_points

import av  # noqa: F401
import openvino  # noqa: F401

import edge.devices.cpu  # noqa: F401
from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from edge.video.frames import Geometry

GEOMETRY = Geometry(aspect=(4, 3), size_hw=(64, 64), interpolation="area")
for entry in entry_points(group="twostream.commands"):
    entry.load()
Preprocessor(GEOMETRY, [PRESETS["fast"]]).warm_up()
