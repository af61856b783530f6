"""What a clip's files hold, as a hash: the name of its frames in a cache.

A file is read once; a note beside the cache keeps its hash for as long as its place, size, inode
and time of change stay the same. The time of change (ctime) cannot be set, unlike that of
modification.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edge.errors import DataError
from edge.files import make_private, why, write_atomic
from edge.video.image_folder import list_images


def files_of(path: Path) -> list[Path]:
    """The files of a clip: a video, or the pictures of a folder in their order.

    Raises OSError, or SourceError for a folder without pictures.
    """
    return list_images(path) if path.is_dir() else [path]


def hash_files(files: list[Path]) -> str:
    """The SHA-256 of the files' bytes, one after another. Raises OSError."""
    digest = hashlib.sha256()
    for name in files:
        with name.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


class ContentHashes:
    """The hashes of clips' files, noted in a folder of a cache."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "content"

    def of(self, path: Path) -> str:
        """The SHA-256 of a video, or of a folder's pictures one after another.

        Raises OSError if a file cannot be read, SourceError as `files_of`, DataError if the note
        cannot be written.
        """
        files = files_of(path)
        state = [[stat.st_size, stat.st_ino, stat.st_ctime_ns] for stat in map(Path.stat, files)]
        place = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape"))
        note = self._folder / f"{place.hexdigest()[:32]}.json"
        try:
            entry = json.loads(note.read_text(encoding="utf-8"))
            if entry["state"] == state:
                return str(entry["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not noted yet, or not whole
        sha256 = hash_files(files)
        try:
            make_private(self._folder)
            with write_atomic(note) as file:
                file.write(json.dumps({"state": state, "sha256": sha256}).encode())
        except OSError as error:
            raise DataError(
                f"{self._folder}: cannot be written ({why(error)}); give another --cache"
            ) from None
        return sha256
