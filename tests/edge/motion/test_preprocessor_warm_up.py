"""What a run loads before its first frame."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bundle.manifest import load_bundle
from edge.compiled import Kernel
from edge.motion.codec import CODEC
from edge.motion.preprocessor import Preprocessor
from edge.video.frames import Frame, rgb_tensor
from edge.video.motion_vectors import no_vectors
from tests.support.paths import REPOSITORY


def test_the_first_frames_load_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini").manifest
    preprocessor = Preprocessor(manifest.geometry, [*manifest.motions, CODEC])
    preprocessor.warm_up()

    def late(kernel: Kernel) -> None:
        pytest.fail("a kernel is loaded while a frame waits")

    monkeypatch.setattr(Kernel, "load", late)
    monkeypatch.setattr("edge.compiled._load", late)
    for index in range(2):
        grey = np.full((480, 640), 100 + index, np.uint8)
        half = grey[::2, ::2]
        frame = Frame(grey, half, half, 0.04 * index, index, vectors=no_vectors())
        step = preprocessor.push(frame)
        rgb_tensor(step.frame, manifest.streams["spatial"].normalisation)
    assert len(step.flows) == 2
