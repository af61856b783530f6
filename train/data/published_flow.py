"""Flow that was published with UCF101, in the folders of Feichtenhofer's archive:

    ROOT/tvl1_flow/{u,v}/v_<Class>_gNN_cNN/frame000001.jpg    from frame 1 to frame 2

Bytes, 8 bit: -20..20 px of the images are 0..255. The images have a shorter side of 256 px; they
are cut and resized as frames are, and their vectors scaled with them. `twostream flow DATA
DATA/tvl1_flow --short-side 256` writes such folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.motion.published import PublishedSpec
from edge.motion.quantise import FlowBytes, quantise
from edge.video.frames import Geometry, center_crop
from train.data.clips import Clip

FOLDER = "tvl1_flow"
BOUND_PX = 20.0  # of the images' bytes
_ABOVE = 3  # folders above a clip in which FOLDER is looked for: class, videos, data set


def published_flows(
    clip: Clip, geometry: Geometry, times_s: Sequence[float], spec: PublishedSpec
) -> Iterator[FlowBytes]:
    """The published flow of a clip at the size of `geometry`, (2, H, W) uint8 for each frame but
    the first.

    times_s: of the frames that are used. Raises DataError if there is no flow, one image cannot be
    read, or there are not as many as pairs of frames.
    """
    folders = _folders(clip)
    names = [sorted(file.name for file in folder.glob("*.jpg")) for folder in folders]
    needed = len(times_s) - 1
    # some tools repeat the last flow, so that there are as many as frames
    if names[0] != names[1] or len(names[0]) not in (needed, needed + 1):
        raise DataError(
            f"{folders[0]}: has {len(names[0])} flows of u and {len(names[1])} of v for "
            f"{len(times_s)} frames"
        )
    for name, (before_s, after_s) in zip(names[0], pairwise(times_s), strict=False):
        u, v = (_read(folder / name) for folder in folders)
        if u.shape != v.shape:
            raise DataError(f"{folders[0] / name}: u and v differ in size")
        flow = _at_size(np.stack([u, v]), geometry)
        yield quantise(flow, spec, after_s - before_s)


def _folders(clip: Clip) -> tuple[Path, Path]:
    """Of u and v."""
    name = clip.path.name if clip.path.is_dir() else clip.path.stem
    spellings = {name, *(re.sub("Hand[sS]tand", each, name) for each in ("Handstand", "HandStand"))}
    for root in clip.path.parents[:_ABOVE]:
        for spelling in sorted(spellings):
            folders = root / FOLDER / "u" / spelling, root / FOLDER / "v" / spelling
            if all(folder.is_dir() for folder in folders):
                return folders
    raise DataError(
        f"{clip.path}: has no published flow; it is looked for in {FOLDER}/u/{name} and "
        f"{FOLDER}/v/{name} of the data set"
    )


def _read(file: Path) -> NDArray[np.uint8]:
    """A plane (H, W)."""
    plane = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if plane is None:
        raise DataError(f"{file}: not an image that can be read")
    return plane  # type: ignore[return-value]


def _at_size(levels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.float32]:
    """Bytes (2, h, w) -> flow (2, H, W) float32, in px of the geometry's view."""
    top, left, view_h, view_w = center_crop(levels.shape[1:], geometry.aspect)  # type: ignore[arg-type]
    out_h, out_w = geometry.size_hw
    factors = BOUND_PX / 127.5 * out_w / view_w, BOUND_PX / 127.5 * out_h / view_h
    planes = []
    for plane, factor in zip(levels, factors, strict=True):
        view = plane[top : top + view_h, left : left + view_w].astype(np.float32)
        resized = cv2.resize(view, (out_w, out_h), interpolation=cv2.INTER_AREA)
        planes.append((resized - np.float32(127.5)) * np.float32(factor))
    return np.stack(planes)
