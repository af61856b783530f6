"""What a run loads before its first frame."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import REPOSITORY

# In a process of its own: in this one, other tests may have loaded what is forgotten.
SCRIPT = """
import numpy as np
import edge.compiled
from edge.bundle.manifest import load_bundle
from edge.motion.codec import CODEC
from edge.motion.preprocessor import Preprocessor
from edge.video.frames import Frame, rgb_tensor
from edge.video.motion_vectors import no_vectors

manifest = load_bundle("edge/bundles/ucf101-mini").manifest
preprocessor = Preprocessor(manifest.geometry, [*manifest.motions, CODEC])
preprocessor.warm_up()

def late(*_):
    raise SystemExit("a kernel is loaded while a frame waits")

edge.compiled._load = late
for index in range(2):
    grey = np.full((480, 640), 100 + index, np.uint8)
    half = grey[::2, ::2]
    frame = Frame(grey, half, half, 0.04 * index, index, vectors=no_vectors())
    step = preprocessor.push(frame)
    rgb_tensor(step.frame, manifest.streams["spatial"].normalisation)
print(len(step.flows))
"""


@pytest.mark.slow
def test_the_first_frames_load_no_kernel() -> None:
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout == "2\n", done.stderr
