"""Finds the videos in a folder: files by what is in them, and folders of numbered pictures.

    known endings of video              taken; whether they can be read is seen when they are
    known endings of other files        passed over: text, sound, subtitles, pictures, previews
    other endings, or none              opened; taken if a first frame can be decoded
    hidden files and folders            passed over, also the `._x` that macOS leaves
    linked folders                      followed once, so that a circle ends

What might have been meant as a video and cannot be used is returned with the reason.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from edge.errors import SourceError
from edge.files import read_start
from edge.video.file_decoder import NoVideoError
from edge.video.image_folder import (
    PICTURES,
    count_pictures,
    is_flow_folder,
    is_folder,
    list_images,
)
from edge.video.isolation import Death, map_apart
from edge.video.video_file import VideoFile


def _endings(text: str) -> frozenset[str]:
    return frozenset(f".{ending}" for ending in text.split())


_VIDEOS = _endings(
    "264 265 3g2 3gp asf avi divx dv f4v flv h264 h265 hevc ivf m1v m2t m2ts m2v m4v mkv mov mp4 "
    "mpe mpeg mpg mpv mts mxf ogm ogv qt tod ts vob webm wmv xvid"
)
# Cameras write previews and lists beside their videos (.lrv and .lrf are small copies of them).
_OTHERS = _endings(
    "aac ac3 aiff amr ape flac m4a m4b mka mp2 mp3 oga opus wav wma "
    "ass cfg csv htm html idx ini json jsonl log md nfo pdf py rst sh smi srt ssa sub sup toml tsv "
    "ttml txt url vtt xml xmp yaml yml "
    "bdm bif bup cpi ctg db dop ifo lrf lrv mpl thm tid "
    "7z bz2 gz h5 hdf5 mat md5 npy npz onnx pickle pkl pt rar sha256 tar tgz xz zip zst "
    "arw avif cr2 dng exr heic heif ico jp2 nef ppm pgm psd svg "
    "docx odt pptx xls xlsx"
)
_ANIMATIONS = _endings("gif apng")
_UNFINISHED = _endings("crdownload download part partial tmp")
_TEXT_TOO = (".ts",)  # TypeScript and Qt's translations end so
_SNIFFED = 4096  # bytes
_SHOWN = 3  # names in one line


@dataclass(frozen=True, slots=True)
class Findings:
    """videos: files and folders of pictures, sorted. left_out: what might have been meant as a
    video and cannot be used, with the reason."""

    videos: tuple[Path, ...]
    left_out: Mapping[Path, str] = field(default_factory=dict)


def find_videos(root: Path) -> Findings:
    """The videos in a folder and all below it; `root` itself where it holds a clip's pictures, or
    is a video."""
    walk = _Walk(root)
    walk.run()
    for path, verdict in zip(walk.unknown, map_apart(_probe, walk.unknown), strict=True):
        if isinstance(verdict, Death):
            walk.left_out[path] = verdict.reason
        elif verdict is None:
            walk.videos.append(path)
        elif verdict:
            walk.left_out[path] = verdict
    with_videos = {path.parent for path in walk.videos}
    for place in walk.pictures:
        if place in with_videos:  # thumbnails
            continue
        if (reason := _fault_of_pictures(place)) is None:
            walk.videos.append(place)
        else:
            walk.left_out[place] = reason
    return Findings(tuple(sorted(walk.videos)), dict(sorted(walk.left_out.items())))


def fault_of(path: Path) -> str | None:
    """Why a file or a folder of pictures cannot be a video, judged from outside; None: it may."""
    try:
        status = path.stat()
    except OSError as error:
        if os.path.islink(path) and not isinstance(error, PermissionError):
            return "is a link that leads nowhere"
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(status.st_mode):
        return _fault_of_pictures(path)
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if not os.access(path, os.R_OK):
        return "no permission to read it"
    return None if status.st_size else "is empty (0 bytes)"


def left_out_line(root: Path, left_out: Mapping[Path, str]) -> str:
    """What is left out in one line: how many, and the first names with their reasons."""
    names = [f"{relative(path, root)} ({why})" for path, why in left_out.items()]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{root}: {len(names)} left out: {', '.join(names[:_SHOWN])}{more}"


def relative(path: Path, root: Path) -> str:
    """The name of what was found below `root`; of the root its own, of what is elsewhere the whole
    path."""
    if path == root:
        return path.name
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


class _Walk:
    """Folders, and what is in them by its name. pictures: folders that may be clips."""

    def __init__(self, root: Path) -> None:
        self.videos: list[Path] = []
        self.unknown: list[Path] = []
        self.pictures: list[Path] = []
        self.left_out: dict[Path, str] = {}
        self._root = root
        self._seen = {_identity(parent) for parent in root.resolve().parents}

    def run(self) -> None:
        if not self._root.is_dir():
            self._take(self._root)
            return
        # Links last: a folder is found under its own name, if it is below the root.
        folders, links = deque([self._root]), deque[Path]()
        while folders or links:
            folder = (folders or links).popleft()
            try:
                identity = _identity(folder)
                if identity in self._seen:
                    continue
                self._seen.add(identity)
                with os.scandir(folder) as entries:
                    inside = [Path(each.path) for each in entries if not _is_passed_over(each)]
            except OSError as error:
                self.left_out[folder] = f"cannot be read ({error.strerror})"
                continue
            below = [path for path in sorted(inside) if not self._take(path)]
            for path in below:
                (links if os.path.islink(path) else folders).append(path)
            self._take_pictures(folder, bool(below))

    def _take(self, path: Path) -> bool:
        """Sort a file in by its name; False for a folder."""
        if os.path.isdir(path):  # no error where it may not be looked at
            return False
        ending = path.suffix.lower()
        if (fault := fault_of(path)) is not None:
            self.left_out[path] = fault
        elif ending in _ANIMATIONS:
            self.left_out[path] = "is an animated picture; make it a video"
        elif ending in _UNFINISHED:
            self.left_out[path] = "is not finished; remove it, or rename it if it is whole"
        elif ending not in _VIDEOS:
            self.unknown.append(path)
        elif ending not in _TEXT_TOO or not _is_text(path):
            self.videos.append(path)
        return True

    def _take_pictures(self, folder: Path, has_folders: bool) -> None:
        pictures, numbered = count_pictures(folder)
        # one picture without a number, or some beside other folders, show something else
        alone = not has_folders and pictures > 0 and (numbered > 0 or pictures > 1)
        if (alone or numbered > 1) and not is_flow_folder(folder):
            self.pictures.append(folder)


def _is_passed_over(entry: os.DirEntry[str]) -> bool:
    """Whether it is hidden, or its ending says that it is no video. Of a clip's pictures there may
    be thousands: they are not looked at one by one here."""
    ending = os.path.splitext(entry.name)[1].lower()
    return entry.name[0] == "." or (
        (ending in PICTURES or ending in _OTHERS) and not is_folder(entry)
    )


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _fault_of_pictures(folder: Path) -> str | None:
    try:
        list_images(folder)
    except SourceError as error:
        return str(error).removeprefix(f"{folder}: ").removeprefix(f"{folder}/")
    return None


def _is_text(path: Path) -> bool:
    start = read_start(path, _SNIFFED)
    try:
        start.decode()
    except UnicodeDecodeError as error:
        # a character may be cut in two at the end
        return error.start >= _SNIFFED - 3 and b"\0" not in start
    return b"\0" not in start


def _probe(path: Path) -> str | None:
    """None for a video; else why it is none, "" where nobody would take it for one."""
    try:
        if _is_text(path) or cv2.haveImageReader(str(path)):
            return ""
        with VideoFile(path, quiet=True):
            return None
    except NoVideoError:  # a piece of music
        return ""
    except (SourceError, OSError):
        return "is not a video that can be read"
