"""Reads a clip stored as a folder of numbered pictures: frame000001.jpg, frame000002.jpg, ...

The order is that of the number at the end of each name, padded with zeros or not. Flow that lies
beside the pictures (img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg, as of TSN) is not read.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import SourceError
from edge.video.frames import LUMA_WEIGHTS, Frame, Plane
from edge.video.jpeg import lacks_end
from edge.video.orientation import UPRIGHT, Orientation, turn
from edge.video.view import WHOLE, View, ViewCutter

RATE_FPS = 25.0  # pictures have no times; most of UCF101 has this rate
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# the number may be in brackets: "clip (7).jpg"
_NUMBERED = re.compile(r"(.*?)([0-9]+)\)?", re.DOTALL)
# how the two parts of flow are named, the last thing before the number
_FLOW_PAIRS = (("x", "y"), ("u", "v"))
_SHOWN = 4  # names in one message


@dataclass(frozen=True, slots=True)
class NumberedImage:
    """A picture of a clip. time_s: from the first one, as the numbers say."""

    path: Path
    time_s: float


def list_images(folder: Path) -> list[Path]:
    """The pictures of a clip in order. Raises SourceError as `timed_images` does."""
    return [image.path for image in timed_images(folder)]


def timed_images(folder: Path) -> list[NumberedImage]:
    """The pictures of a clip in order; a number that is missing is a gap in time.

    Raises SourceError if there are none, or they are not one clip: pictures without a number, with
    the same one, or of several names.
    """
    numbered: dict[str, list[tuple[int, Path]]] = {}
    for path in _pictures(folder):
        match = _NUMBERED.fullmatch(path.stem)
        if match is None:
            raise SourceError(
                f"{path}: has no number at the end of its name; number the pictures of a clip, or "
                "move it elsewhere"
            )
        numbered.setdefault(match[1], []).append((int(match[2]), path))
    if not numbered:
        raise SourceError(f"{folder}: has no pictures ({', '.join(PICTURES)})")
    pictures = sorted(_of_one_name(folder, numbered))
    for (number, path), (after, other) in pairwise(pictures):
        if number == after:
            raise SourceError(
                f"{folder}: {path.name} and {other.name} have the same number; keep one"
            )
    first, step = pictures[0][0], _step([number for number, _ in pictures])
    return [NumberedImage(path, (number - first) / step / RATE_FPS) for number, path in pictures]


def count_pictures(folder: Path) -> tuple[int, int]:
    """(pictures in a folder, those of them with a number), hidden ones apart."""
    stems = [path.stem for path in _pictures(folder)]
    return len(stems), sum(_NUMBERED.fullmatch(stem) is not None for stem in stems)


def read_image_folder(folder: Path) -> Generator[Frame]:
    """The frames of a clip, 25 a second but for gaps in its numbers.

    Colours become limited-range BT.601; chroma is the mean of four pixels. 16 bits are rounded to
    8, transparency is ignored, the orientation in EXIF is obeyed.

    Raises SourceError if a picture cannot be read or has another size than the first.
    """
    size_hw: tuple[int, int] | None = None
    for index, image in enumerate(timed_images(folder)):
        picture = _read(image.path)
        height, width = picture.shape[:2]
        if size_hw not in (None, (height, width)):
            raise SourceError(f"{image.path}: is {width} x {height}, unlike the images before it")
        size_hw = height, width
        yield Frame(*_i420(picture), image.time_s, index)


class ImageFolder:
    """The same as an iterator to use in `with`; see edge.video.video_file.VideoFile."""

    live: bool = False
    frame_rate: float | None = RATE_FPS
    dropped: int = 0
    damaged: int = 0
    fault: str | None = None

    def __init__(
        self, folder: Path, orientation: Orientation = UPRIGHT, view: View = WHOLE
    ) -> None:
        """Raises SourceError as `timed_images` does."""
        self.expected_frames: int | None = len(timed_images(folder))
        self.size_hw = (0, 0)
        self.received = 0
        self.warnings: list[str] = []
        self._orientation, self._cut = orientation, ViewCutter(view, str(folder))
        self._frames = read_image_folder(folder)
        self._first: Frame | None = None
        self._stopped = False

    def __enter__(self) -> ImageFolder:
        self._first = self._next()
        self.size_hw = self._first.size_hw
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._stopped:
            raise StopIteration
        first, self._first = self._first, None
        frame = first or self._next()
        self.received += 1
        return frame

    def _next(self) -> Frame:
        return self._cut(turn(next(self._frames), self._orientation))

    def stop(self) -> None:
        """End the iteration soon. Thread-safe."""
        self._stopped = True


def is_flow_folder(folder: Path) -> bool:
    """Whether a folder is named as one part of flow, and the folder of the other part is beside
    it: flow_x/ and flow_y/, u/ and v/."""
    part = folder.name.lower()[-1:]
    others = {a: b for pair in _FLOW_PAIRS for a, b in (pair, pair[::-1])}
    if part not in others or not _is_flow_name(folder.name, part):
        return False
    stem = folder.name[:-1]
    return any(
        (folder.parent / (stem + of)).is_dir() for of in (others[part], others[part].upper())
    )


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that leads nowhere is none, nor an error."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _pictures(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if entry.name[0] != "."
                and os.path.splitext(entry.name)[1].lower() in PICTURES
                and not is_folder(entry)
            )
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({error.strerror})") from None


def _of_one_name(
    folder: Path, numbered: dict[str, list[tuple[int, Path]]]
) -> Sequence[tuple[int, Path]]:
    """The pictures that are the clip's: of the one name that is no flow."""
    flow: set[str] = set()
    for pair in _FLOW_PAIRS:
        parts = [{n for n in numbered if _is_flow_name(n, part)} for part in pair]
        if all(parts):
            flow |= parts[0] | parts[1]
    names = [name for name in numbered if name not in flow]
    if len(names) == 1:
        return numbered[names[0]]
    shown = ", ".join(f"{name or '(no name)'}: {len(numbered[name])}" for name in _first(numbered))
    if not names:
        raise SourceError(f"{folder}: holds flow ({shown}) and no pictures that it was made of")
    raise SourceError(
        f"{folder}: holds pictures of {len(numbered)} names ({shown}); "
        "put those of each clip into a folder of its own"
    )


def _first(names: dict[str, list[tuple[int, Path]]]) -> list[str]:
    return sorted(names)[:_SHOWN]


def _is_flow_name(name: str, part: str) -> bool:
    """Whether a name without its number, such as `flow_x_`, ends with the word of a flow's part."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return bool(words) and words[-1] in (part, f"flow{part}")


def _step(numbers: list[int]) -> int:
    """The most common difference of two neighbours; of several the smallest."""
    steps = Counter(after - before for before, after in pairwise(numbers))
    return min(steps, key=lambda step: (-steps[step], step)) if steps else 1


def _read(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) BGR"""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    if lacks_end(data):
        raise SourceError(f"{path}: its end is missing; copy it again, or remove it")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # too large
        picture = None
    if picture is None:
        raise SourceError(f"{path}: not a readable image")
    return picture  # type: ignore[return-value]


def _to_limited_range() -> NDArray[np.float32]:
    """(3, 4): Y, U, V in limited range from (B, G, R, 1)."""
    red, blue = LUMA_WEIGHTS["bt601"]
    luma = np.array([blue, 1 - red - blue, red])
    of_blue = (np.array([1, 0, 0]) - luma) / (2 * (1 - blue)) * 224 / 255
    of_red = (np.array([0, 0, 1]) - luma) / (2 * (1 - red)) * 224 / 255
    rows = np.stack([luma * 219 / 255, of_blue, of_red])
    return np.hstack([rows, [[16], [128], [128]]]).astype(np.float32)


_TO_YUV = _to_limited_range()


def _i420(picture: NDArray[np.uint8]) -> tuple[Plane, Plane, Plane]:
    """Y (H, W), U and V (ceil(H/2), ceil(W/2)) of (H, W, 3) BGR."""
    height, width = picture.shape[:2]
    yuv = cv2.transform(picture, _TO_YUV)
    # a last row or column without a neighbour is its own
    even = cv2.copyMakeBorder(yuv, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half_wh = ((width + 1) // 2, (height + 1) // 2)
    chroma = cv2.resize(even, half_wh, interpolation=cv2.INTER_AREA)
    y, u, v = yuv[..., 0], chroma[..., 1], chroma[..., 2]
    return tuple(np.ascontiguousarray(plane) for plane in (y, u, v))  # type: ignore[return-value]
