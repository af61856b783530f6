"""Flow as images, in the folders that other two-stream projects read.

    OUT/flow.json                                        its settings; all flow in OUT has the same
    OUT/{u,v}/v_<Class>_gNN_cNN/frame000001.jpg          flow from frame 1 to frame 2, as bytes

The flow is that of a live run: the same resized frames, method, bound and rounding. JPEG changes
values by about one level; training uses the cache, which is lossless.
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
            _compare(note, json.loads(note.read_text()), settings)
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


def clip_folder(clip: Clip) -> str:
    """The name of the folders of a clip's flow."""
    return clip.name.rpartition("/")[2] if "/v_" in clip.name else clip.name.replace("/", "_")


def is_extracted(clip: Clip, out: Path) -> bool:
    """Whether the flow of a clip has been written completely."""
    name = _stem(clip)
    return (out / "u" / name).is_dir() and (out / "v" / name).is_dir()


def extract_clip(clip: Clip, out: Path, geometry: Geometry, flow: Spec) -> int:
    """Write the flow of one clip and return the number of flows.

    Several processes may write the same clip at the same time: a folder gets its name once it is
    complete. Raises DataError if the clip cannot be read, or the flow cannot be written.
    """
    name = _stem(clip)
    # unique to this process on this machine
    unique = f".{name}.{os.uname().nodename}.{os.getpid()}.part"
    partial = {axis: out / axis / unique for axis in ("u", "v")}
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
    encoded, data = cv2.imencode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])  # type: ignore[call-overload]
    assert encoded
    path.write_bytes(data.tobytes())


def _stem(clip: Clip) -> str:
    name = clip_folder(clip)
    return name if clip.path.is_dir() else name.rpartition(".")[0]


def extract_or_explain(clip: Clip, out: Path, geometry: Geometry, flow: Spec) -> int | str:
    """Like `extract_clip`, but returns an error as text: one bad clip does not stop the run."""
    try:
        return extract_clip(clip, out, geometry, flow)
    except DataError as error:
        return str(error)
