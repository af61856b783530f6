"""The stand-ins for a GPU and TensorRT in the process in which a run checks itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

# Not in every Python: the stand-in for nvcc is one, too.
_SITE = """import sys
if any("self_check" in word for word in sys.orig_argv):
    import tests.support.cuda.plugged
"""


def plug_children(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """In every process that is started from now on. folder: for a sitecustomize.py."""
    (folder / "sitecustomize.py").write_text(_SITE, encoding="utf-8")
    patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{REPOSITORY}")
