"""Files and folders: written whole or not at all, never through somebody else's link."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edge.errors import DeviceError, TwostreamError

TEMPORARY = ".part"
SECRET = 0o600  # the mode of a file that holds passwords
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)  # the last in /proc
_NO_FOLDER_SYNC = (errno.EACCES, errno.EINVAL, errno.ENOTSUP)


@contextmanager
def write_atomic(
    path: Path, error: type[TwostreamError] | None = None, mode: int = 0o666
) -> Iterator[IO[bytes]]:
    """with write_atomic(path, DataError) as file: file.write(data)

    A reader sees the old file or the new one, whole, through a crash and a power cut, too; of two
    that write at once the last wins. Missing folders are made. mode: less what the umask takes.
    Where the block raises, `path` is as it was and nothing is left beside it.

    Raises `error` with one line that names the file and the remedy where the file system refuses;
    without it, the OSError.
    """
    try:
        _refuse_special(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _create_beside(path, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as fault:
        if error is None:
            raise
        raise error(f"{path}: cannot be written ({why(fault)})") from None


def open_growing(path: Path) -> int:
    """An empty file that others may read while it grows, as a descriptor; what it held is lost.

    Raises OSError, also where `path` is a link, has a second name, or is no file: what would be
    overwritten then is not what the name says.
    """
    try:
        # a pipe without a reader would be waited for
        descriptor = os.open(path, _FLAGS | os.O_NONBLOCK, 0o666)
    except OSError as fault:
        if fault.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_plain(path) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _not_plain(path)
    os.ftruncate(descriptor, 0)
    return descriptor


def read_start(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file. Raises OSError, also where it is no plain one: a pipe
    would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_plain(path)
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def make_private(folder: Path) -> None:
    """Make a folder, and what is missing above it, for this user alone. Raises OSError."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)


def check_private(folder: Path) -> None:
    """Raises DeviceError if others than this user could have put something into a folder of the
    user's cache; one that is not there is in order."""
    for place in (folder.parent, folder):
        try:
            status = place.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DeviceError(f"{place}: cannot be read ({error.strerror})") from None
        mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        # the folder around it may be what the umask made it; it holds nothing that is run
        if mine and place != folder and status.st_mode & _OTHERS_WRITE:
            place.chmod(0o700)
        elif not mine or status.st_mode & _OTHERS_WRITE:
            raise DeviceError(
                f"{place}: engines are code, and others than you can write there; remove it, or "
                "set XDG_CACHE_HOME to a folder of your own"
            )


def user_cache() -> Path:
    """Where this user's own files that can be made again are kept; it may not exist yet."""
    return _user_folder("XDG_CACHE_HOME", ".cache") / "twostream"


def user_config() -> Path:
    """Where this user's programs keep their configuration; it may not exist yet."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def why(fault: OSError) -> str:
    """The reason in words, and what to do about it where that is known."""
    said = fault.strerror or str(fault)
    if fault.errno in _FULL:
        return f"{said}; make room there"
    if fault.errno in _FORBIDDEN:
        return f"{said}; choose a folder that you may write to"
    return said


def _user_folder(variable: str, usual: str) -> Path:
    configured = Path(os.environ.get(variable, ""))
    return configured if configured.is_absolute() else Path.home() / usual


def _create_beside(path: Path, mode: int) -> tuple[Path, int]:
    """A new file in the same folder, and its descriptor. A name that is taken is left alone, be it
    another writer's or a link that somebody planted."""
    while True:
        mark = f"{os.getpid()}-{secrets.token_hex(4)}"
        temporary = path.with_name(f"{path.name}.{mark}{TEMPORARY}")
        with suppress(FileExistsError):
            return temporary, os.open(temporary, _FLAGS | os.O_EXCL, mode)


def _refuse_special(path: Path) -> None:
    """Renaming would put a file in the place of a device, a pipe or a socket."""
    with suppress(FileNotFoundError):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            raise _not_plain(path)


def _not_plain(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a plain file; remove it or give another name", path)


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk, as far as the folder may be read and its file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as fault:
        if fault.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
