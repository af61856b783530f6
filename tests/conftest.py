"""Where the shared data is, and what several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def ucf101() -> Path:
    """The UCF101 tree, whole or in part."""
    root = Path(os.environ.get("UCF101_ROOT", REPOSITORY.parent / "shared" / "ucf101"))
    if not (root / "UCF-101").is_dir():
        pytest.skip(f"no UCF101 clips at {root}; set UCF101_ROOT")
    return root.resolve()


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    """The bundle that the repository ships."""
    return REPOSITORY / "edge" / "bundles" / "ucf101-mini"
