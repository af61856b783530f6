"""Moments of a clip, through the very path that runs live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.errors import SourceError
from edge.motion.preprocessor import Preprocessor
from edge.motion.stack import FlowRing, stack_tensor
from edge.sources.gst_source import Source, open_source
from edge.video.frames import Frame, Matrix, pack_i420, rgb_tensor, unpack_i420
from edge.video.image_folder import list_images, read_image_folder

# n moments as bytes: packed I420 (n, 3/2 H W), or the flows of stacks (n, L, 2, H, W), a quarter of
# what their tensors take
Moments = NDArray[np.uint8]


def tensors(moments: Moments, matrix: Matrix, spec: NetworkSpec) -> Iterator[NDArray[np.float32]]:
    """The network's inputs (channels, H, W)."""
    for content in moments:
        if spec.layout is None:
            frame = unpack_i420(content, spec.geometry.size_hw, 0.0, 0, matrix)
            yield rgb_tensor(frame, spec.normalisation)
        else:
            yield stack_tensor(list(content), spec.layout, spec.normalisation)


def read_moments(
    spec: NetworkSpec, path: Path, count: int, preprocessor: Preprocessor
) -> tuple[Moments, Matrix]:
    """What the network would be given at `count` evenly spread moments of a clip, and the matrix of
    its colours.

    Flow is measured for the stacks alone, and nothing is decoded after the last of them. Raises
    SourceError where the clip cannot be read or is too short for a stack.
    """
    flows = spec.stack or 0
    contents: list[NDArray[np.uint8]] = []
    matrix: Matrix = "bt601"
    ring = FlowRing(max(flows, 1))
    with _open(path) as source:
        moments = _moments(source.expected_frames or 0, flows, count)
        for frame in source if moments else ():
            if not any(moment - flows <= frame.index <= moment for moment in moments):
                preprocessor.clear()
                ring.clear()
                continue
            step = preprocessor.push(frame)
            if step.flow is not None:
                ring.push(step.flow)
            if frame.index in moments:
                contents.append(np.stack(ring.flows) if flows else pack_i420(step.frame))
                matrix = step.frame.matrix
            if frame.index >= moments[-1]:
                break
        preprocessor.clear()
        if not contents:
            raise SourceError(
                f"{path}: announces {source.expected_frames} frames and gives {source.received}; "
                f"a sample needs {flows + 1}"
            )
    return np.stack(contents), matrix


@contextmanager
def _open(path: Path) -> Iterator[Source | _Stills]:
    if path.is_dir():
        yield _Stills(path)
        return
    with open_source(str(path)) as source:
        yield source


class _Stills:
    """A folder of pictures, counted as a source counts its frames."""

    def __init__(self, folder: Path) -> None:
        self.expected_frames = self.received = len(list_images(folder))
        self._folder = folder

    def __iter__(self) -> Iterator[Frame]:
        return read_image_folder(self._folder)


def _moments(frames: int, flows: int, count: int) -> list[int]:
    """Frame indices in the middle of equal parts of what a full stack of flows can end at."""
    room = max(frames - flows, 0)
    middles = {flows + int((part + 0.5) * room / count) for part in range(count)}
    return sorted(middles) if room else []
