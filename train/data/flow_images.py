"""Flow as images, in the folders that other two-stream projects read.

    OUT/flow.json                                        its settings; all flow in OUT has the same
    OUT/{u,v}/v_<Class>_gNN_cNN/frame000001.jpg          flow from frame 1 to frame 2, as bytes

The images have the size that training uses here, or keep each clip's shape with a shorter side of
so many pixels: 256 in most other projects.

The flow is that of a live run: the same resized frames, method, bound and rounding. JPEG changes
values by about one level; training uses the cache, which is lossless.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge.errors import DataError
from edge.motion.method import need_vectors
from edge.motion.preprocessor import Preprocessor
from edge.spec import Spec
from edge.video.frames import Geometry
from train.data.cache import replace_folder
from train.data.clips import Clip
from train.data.decode import read_frames
from train.json_file import write_json

QUALITY = 95  # of JPEG
FORMAT = 1
_ASPECT_MAX = 100  # of a geometry


class ShortSide(Spec):
    """The size of flow that keeps the shape of each clip."""

    short_side_px: int = Field(ge=32, le=512, multiple_of=2)
    interpolation: Literal["area"]

    def geometry(self, size_hw: tuple[int, int]) -> Geometry:
        """Of a clip of this size, to within a hundredth of its shape. Raises DataError if it is
        too long a strip."""
        aspect, short = Fraction(size_hw[1], size_hw[0]), self.short_side_px
        wide = max(aspect, 1 / aspect)
        if wide * short > 1024:
            height, width = size_hw
            raise DataError(f"{width} x {height} is too long for a shorter side of {short} px")
        near = wide.limit_denominator(int(_ASPECT_MAX / wide))
        long = 2 * round(wide * short / 2)
        sides, size = (near.numerator, near.denominator), (short, long)
        if aspect < 1:
            sides, size = sides[::-1], size[::-1]
        return Geometry(aspect=sides, size_hw=size, interpolation=self.interpolation)


def open_flow_folder(out: Path, geometry: Geometry | ShortSide, flow: Spec) -> None:
    """Create the folder, or check that its flow has the same settings.

    flow: the spec of the motion method. Raises DataError if the settings differ, the folder holds
    other files, or it cannot be read or written.
    """
    note = out / "flow.json"
    sections = {"geometry": geometry, "flow": flow}
    settings = {name: s.model_dump(mode="json", by_alias=True) for name, s in sections.items()}
    settings["format"] = {"version": FORMAT, "jpeg_quality": QUALITY}
    try:
        if note.exists():
            _compare(note, json.loads(note.read_text(encoding="utf-8")), settings)
            return
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out}: holds other files; give a new folder for the flow")
    except OSError as error:
        raise DataError(f"{out}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise DataError(f"{note}: is damaged; give a new folder for the flow") from None
    write_json(note, settings)


def _compare(note: Path, saved: object, settings: dict[str, dict[str, object]]) -> None:
    """Raises DataError if a saved setting differs. saved: parsed JSON."""
    for section, values in settings.items():
        saved_values = saved.get(section) if isinstance(saved, dict) else None
        for key, value in values.items():
            old = saved_values.get(key) if isinstance(saved_values, dict) else None
            if old != value:
                raise DataError(
                    f"{note}: the flow there has {section}.{key} {old}, now it is {value}; "
                    "give a new folder for the flow"
                )


def folder_names(clips: Sequence[Clip]) -> list[str]:
    """The name of each clip's folders: those of UCF101 as they are published, others with their
    class and group. Clips that would share one keep their ending, or get a number from their name,
    so that no clip's name depends on the order."""
    short = Counter(_stem(clip) for clip in clips)
    whole = Counter(_joined(clip.name) for clip in clips)
    names = []
    for clip in clips:
        name = _stem(clip)
        if short[name] > 1:
            name = _joined(clip.name)
            if whole[name] > 1 or name in short:
                name += "-" + hashlib.sha256(clip.name.encode()).hexdigest()[:8]
        names.append(name)
    return names


def _joined(name: str) -> str:
    return name.replace("/", "_")


def _stem(clip: Clip) -> str:
    name = clip.name.rpartition("/")[2] if "/v_" in clip.name else _joined(clip.name)
    return name if clip.path.is_dir() else name.removesuffix(clip.path.suffix)


def is_extracted(name: str, out: Path) -> bool:
    """Whether the flow of the clip whose folders have this name has been written completely."""
    return (out / "u" / name).is_dir() and (out / "v" / name).is_dir()


def extract_clip(
    clip: Clip, name: str, out: Path, geometry: Geometry | ShortSide, flow: Spec
) -> int:
    """Write the flow of one clip into folders called `name` and return the number of flows.

    Several processes may write the same clip at the same time: a folder gets its name once it is
    complete. Raises DataError if the clip cannot be read, or the flow cannot be written.
    """
    # unique to this process on this machine
    unique = f".{name}.{os.uname().nodename}.{os.getpid()}.part"
    partial = {axis: out / axis / unique for axis in ("u", "v")}
    try:
        for folder in partial.values():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        count = 0
        for count, levels in enumerate(_flows(clip, geometry, flow), 1):
            for axis, plane in zip(("u", "v"), levels, strict=True):
                _write(partial[axis] / f"frame{count:06}.jpg", plane)
        if not count:
            raise DataError(f"{clip.path}: has fewer than two frames")
        for axis, folder in partial.items():
            replace_folder(folder, out / axis / name)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from None
    finally:
        for folder in partial.values():
            shutil.rmtree(folder, ignore_errors=True)
    return count


def _flows(clip: Clip, geometry: Geometry | ShortSide, flow: Spec) -> Iterator[NDArray[np.uint8]]:
    """(2, H, W) for each frame but the first."""
    preprocessor: Preprocessor | None = None
    for frame in read_frames(clip.path, need_vectors([flow])):
        if preprocessor is None:
            view = geometry
            if isinstance(view, ShortSide):
                view = view.geometry(frame.size_hw)
            preprocessor = Preprocessor(view, [flow])
        yield from preprocessor.push(frame).flows.values()


def _write(path: Path, plane: object) -> None:
    encoded, data = cv2.imencode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])  # type: ignore[call-overload]
    assert encoded
    path.write_bytes(data.tobytes())


def extract_or_explain(
    job: tuple[Clip, str], out: Path, geometry: Geometry | ShortSide, flow: Spec
) -> int | str:
    """Like `extract_clip` of (clip, name), but returns an error as text: one bad clip does not stop
    the run."""
    try:
        return extract_clip(*job, out, geometry, flow)
    except DataError as error:
        return str(error)
