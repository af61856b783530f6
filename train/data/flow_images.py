"""Flow as images, in the folders that other two-stream projects read.

    OUT/flow.json                                        how it was made: nothing else is mixed in
    OUT/{u,v}/v_<Class>_gNN_cNN/frame000001.jpg          flow from picture 1 to picture 2, in bytes

The flow is that of the runtime: the same resized frames, TV-L1, bound and rounding. JPEG loses a
level or so of it; training here uses the cache, which loses nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2

from edge.errors import DataError
from edge.motion.preprocessor import Preprocessor
from edge.spec import Spec
from edge.video.frames import Geometry
from train.data.cache import replace_folder
from train.data.clips import Clip
from train.data.decode import read_frames
from train.json_file import write_json

QUALITY = 95  # of JPEG
FORMAT = 1


def open_flow_folder(out: Path, geometry: Geometry, flow: Spec) -> None:
    """Create the folder, or check that its flow has the same settings. Raises DataError if not."""
    note = out / "flow.json"
    sections = {"geometry": geometry, "flow": flow}
    wanted = {name: s.model_dump(mode="json", by_alias=True) for name, s in sections.items()}
    wanted["format"] = {"version": FORMAT, "jpeg_quality": QUALITY}
    try:
        if note.exists():
            _compare(note, json.loads(note.read_text()), wanted)
            return
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out}: holds other files; give a new folder for the flow")
    except OSError as error:
        raise DataError(f"{out}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise DataError(f"{note}: is damaged; give a new folder for the flow") from None
    write_json(note, wanted)


def _compare(note: Path, found: object, wanted: dict[str, dict[str, object]]) -> None:
    for section, values in wanted.items():
        there = found.get(section) if isinstance(found, dict) else None
        for key, value in values.items():
            old = there.get(key) if isinstance(there, dict) else None
            if old != value:
                raise DataError(
                    f"{note}: the flow there has {section}.{key} {old}, asked is {value}; "
                    "give a new folder for the flow"
                )


def clip_folder(clip: Clip) -> str:
    """The name of a clip's folders."""
    return clip.name.rpartition("/")[2] if "/v_" in clip.name else clip.name.replace("/", "_")


def is_extracted(clip: Clip, out: Path) -> bool:
    """Whether the flow of a clip is there and complete."""
    name = _stem(clip)
    return (out / "u" / name).is_dir() and (out / "v" / name).is_dir()


def extract_clip(clip: Clip, out: Path, geometry: Geometry, flow: Spec) -> int:
    """Write the flow of one clip and return the number of flows.

    Safe to be done twice, also at once: a folder gets its name when it is whole. Raises DataError
    if the clip cannot be read or the flow not be written.
    """
    name = _stem(clip)
    # a name of its own for each process of each machine
    mark = f".{name}.{os.uname().nodename}.{os.getpid()}.part"
    partial = {axis: out / axis / mark for axis in ("u", "v")}
    try:
        for folder in partial.values():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        preprocessor = Preprocessor(geometry, [flow])
        count = 0
        for frame in read_frames(clip.path):
            for levels in preprocessor.push(frame).flows.values():  # (2, H, W), of all but frame 0
                count += 1
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


def _write(path: Path, plane: object) -> None:
    done, data = cv2.imencode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])  # type: ignore[call-overload]
    assert done
    path.write_bytes(data.tobytes())


def _stem(clip: Clip) -> str:
    name = clip_folder(clip)
    return name if clip.path.is_dir() else name.rpartition(".")[0]


def extract_or_say(clip: Clip, out: Path, geometry: Geometry, flow: Spec) -> int | str:
    """Like `extract_clip`, but returns errors as text: one bad clip must not stop the others."""
    try:
        return extract_clip(clip, out, geometry, flow)
    except DataError as error:
        return str(error)
