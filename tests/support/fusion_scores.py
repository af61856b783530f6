"""Clip logits of the whole of UCF101's first test list, by the authors of Hidden-Two-Stream."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.paths import REPOSITORY

FUSION_ROOT = Path(os.environ.get("FUSION_ROOT", REPOSITORY.parent / "shared" / "fusion"))
CLIP_LOGITS = FUSION_ROOT / "ucf101-split1-logits.npz"
