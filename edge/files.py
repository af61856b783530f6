"""Writes files atomically and without following links, and finds the user's folders."""

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

    A reader sees the complete old or new file, even after a crash or a power cut; of two concurrent
    writers the last wins. Missing folders are created. mode: reduced by the umask. If the block
    raises, `path` is unchanged and no temporary file is left.

    Raises `error` with one line that names the file and the remedy if the file system refuses;
    without `error`, the OSError.
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
        sync_folder(path.parent)
    except OSError as fault:
        if error is None:
            raise
        raise error(f"{path}: cannot be written ({why(fault)})") from None


def open_growing(path: Path) -> int:
    """Truncate or create a file that others may read while it grows; returns its descriptor.

    Raises OSError, also if `path` is a symbolic link, has a second hard link or is not a regular
    file, since another file would then be overwritten.
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
    """The first `size` bytes of a file. Raises OSError, also if it is not a regular file: a
    pipe would block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_plain(path)
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents with access for this user only. Raises OSError."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)


def check_private(folder: Path) -> None:
    """Raises DeviceError if another user could have written to this folder of the user's cache. A
    folder that does not exist is fine."""
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


def read_private(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a file in a folder of the user's cache. Raises OSError if it cannot
    be read, DeviceError if another user could have written it."""
    check_private(path.parent)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not mine or status.st_mode & _OTHERS_WRITE:
            raise DeviceError(f"{path}: others than you can write to it; remove it")
        return file.read(limit)


def user_cache() -> Path:
    """The folder of this user's caches; it may not exist yet."""
    return _user_folder("XDG_CACHE_HOME", ".cache") / "twostream"


def user_data() -> Path:
    """The folder of what this user has installed; it may not exist yet."""
    return _user_folder("XDG_DATA_HOME", ".local/share") / "twostream"


def user_config() -> Path:
    """The folder of this user's configuration files; it may not exist yet."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def why(fault: OSError) -> str:
    """The reason in words, with a remedy where one is known."""
    reason = fault.strerror or str(fault)
    if fault.errno in _FULL:
        return f"{reason}; make room there"
    if fault.errno in _FORBIDDEN:
        return f"{reason}; choose a folder that you may write to"
    return reason


def _user_folder(variable: str, usual: str) -> Path:
    configured = Path(os.environ.get(variable, ""))
    return configured if configured.is_absolute() else Path.home() / usual


def _create_beside(path: Path, mode: int) -> tuple[Path, int]:
    """Create a new file in the same folder; returns its path and descriptor. An existing file or
    link is never opened."""
    while True:
        mark = f"{os.getpid()}-{secrets.token_hex(4)}"
        temporary = path.with_name(f"{path.name}.{mark}{TEMPORARY}")
        with suppress(FileExistsError):
            return temporary, os.open(temporary, _FLAGS | os.O_EXCL, mode)


def _refuse_special(path: Path) -> None:
    """Raises OSError for a folder, device, pipe or socket, which a rename would replace."""
    with suppress(FileNotFoundError):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            raise _not_plain(path)


def _not_plain(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a plain file; remove it or give another name", path)


def sync_folder(folder: Path) -> None:
    """Sync the folder, so that the new name survives a power cut, where the system allows it."""
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
