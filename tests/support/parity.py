"""Bundles with parity samples that the CPU device of this machine has made, for tests of devices.

The frames pan over the picture that the repository ships: texture, colour and motion as cameras
have them, for a pixel or a level that is wrong to matter.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle.manifest import Bundle, Manifest, load_bundle, sha256, write_manifest
from edge.bundle.parity import load_parity, write_parity
from edge.commands.self_check.parity import check_device
from edge.devices import open_device, take_first
from edge.video.frames import Frame
from export.parity import make_parity
from tests.support.int8 import choose_right_int8
from tests.support.paths import REPOSITORY

SIZE_HW = (240, 320)
SAMPLES = 3

Json = dict[str, Any]


def panning_frames(count: int) -> list[Frame]:
    """I420 at SIZE_HW, 25 a second, each some pixels further over the picture, and a disc that goes
    the other way."""
    height, width = SIZE_HW
    picture = cv2.imread(str(REPOSITORY / "edge" / "bundles" / "demo.jpg"))
    assert picture is not None
    picture = cv2.resize(picture, (2 * width, 2 * height), interpolation=cv2.INTER_AREA)
    frames = []
    for index in range(count):
        window = picture[40 + index : 40 + index + height, 60 + 3 * index : 60 + 3 * index + width]
        window = window.copy()
        cv2.circle(window, (width - 60 - 5 * index, height // 2), 30, (30, 60, 230), -1)
        planes = cv2.cvtColor(window, cv2.COLOR_BGR2YUV_I420).reshape(-1)
        luma, chroma = height * width, height * width // 4
        half = (height // 2, width // 2)
        y, u, v = np.split(planes, [luma, luma + chroma])
        frames.append(
            Frame(y.reshape(SIZE_HW), u.reshape(half), v.reshape(half), index / 25, index)
        )
    return frames


def with_parity(bundle: Bundle) -> Bundle:
    """The same bundle, in its place, in today's schema and with parity samples of this machine."""
    manifest = bundle.manifest
    folder, file = bundle.path, manifest.parity.file
    parity = manifest.parity.model_copy(update={"size_hw": SIZE_HW})
    manifest = manifest.model_copy(update={"parity": parity})
    frames = panning_frames(manifest.history + SAMPLES)
    write_parity(folder / file, make_parity(Bundle(folder, manifest), frames))
    files = manifest.files | {file: sha256((folder / file).read_bytes())}
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    return load_bundle(folder)


def change_manifest(bundle: Bundle, change: Callable[[Json], None]) -> Bundle:
    """The bundle, in its place, with another manifest; its parity samples are left alone."""
    raw = bundle.manifest.model_dump(mode="json", by_alias=True)
    change(raw)
    write_manifest(bundle.path, Manifest.model_validate(raw))
    return load_bundle(bundle.path)


def copy_with_parity(
    source: Path, folder: Path, change: Callable[[Json], None] | None = None
) -> Bundle:
    """A copy of a bundle, changed, and then given parity samples."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("engines"))
    bundle = load_bundle(folder)
    if change is not None:
        bundle = change_manifest(bundle, change)
    return with_parity(bundle)


def check_here(bundle: Bundle, name: str) -> list[str]:
    """What `twostream verify` finds out in a process of its own, in this one: with its patches and
    doubles. Raises DeviceError where the device is wrong."""
    choose = choose_right_int8 if name == "cpu" else take_first
    with closing(open_device(name, bundle, flow_wanted=True, choose=choose)) as device:
        return check_device(bundle, load_parity(bundle), device)


def little_flow(raw: Json) -> None:
    """Change a manifest to a flow that costs little: its kernels have tests of their own."""
    for stream in raw["streams"].values():
        if stream["input"]["kind"] == "flow":
            stream["input"]["motion"] |= {"scales": 2, "warps": 1, "iterations": 3}
