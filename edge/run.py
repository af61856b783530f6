"""`twostream run`: opens what was asked for, joins it, and closes it well."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from edge.bundle import load_bundle
from edge.devices import open_device
from edge.errors import SourceError
from edge.frames import Frame
from edge.overlay import OverlayView
from edge.report import best, label_record, summary_lines, summary_record, summary_table
from edge.runtime import Label, Recogniser, RunConfig, recognise
from edge.sink import JsonLines, VideoWriter
from edge.source import Source, open_source
