"""A folder of bundles side by side, of which one is current.

    FOLDER/3f2a...e1/    a bundle; its name is the sha256 of its bundle.json, which has the sha256
                         of every other file
    FOLDER/current       a link to the bundle in use, replaced in one step
    FOLDER/previous      a link to the bundle in use before, for `twostream bundle rollback`

A bundle is there as a whole or not at all, also after a crash; what a killed install has left is
removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.manifest import MANIFEST, Bundle, load_bundle, sha256
from edge.errors import BundleError
from edge.files import TEMPORARY, sync_folder, why, write_atomic

CURRENT, PREVIOUS = "current", "previous"
_LOCK = ".lock"
_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BundleStore:
    folder: Path

    @contextmanager
    def changing(self) -> Iterator[Path]:
        """A temporary folder in the store, which is made where it is missing; of one process at a
        time. Raises BundleError where another one changes the store now, and for what the file
        system refuses in the block."""
        temporary = self.folder / f".{secrets.token_hex(4)}{TEMPORARY}"
        if self.folder.exists() and not self.folder.is_dir():
            raise BundleError(f"{self.folder}: is not a folder; give --into one")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / _LOCK, "ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BundleError(
                        f"{self.folder}: another install is at work there; wait for its end"
                    ) from None
                for left in self.folder.glob(f".*{TEMPORARY}"):
                    _remove(left)
                temporary.mkdir()
                yield temporary
        except OSError as fault:
            raise BundleError(f"{fault.filename or self.folder}: {why(fault)}") from None
        finally:
            _remove(temporary)

    def add(self, bundle: Bundle, temporary: Path) -> tuple[Path, bool]:
        """Copy a bundle into the store; returns where it is, and whether it is new. One that is
        there and damaged is replaced. temporary: from `changing`.

        Raises BundleError if a file is not what the manifest says, or cannot be written.
        """
        place = self.folder / sha256(bundle.manifest_bytes())
        copy = temporary / "bundle"
        for name in bundle.manifest.files:  # also of one that is there: a damaged file is told
            with write_atomic(copy / name, BundleError) as file:
                file.write(bundle.read(name))
        if place.exists() and not damage(place):
            return place, False
        with write_atomic(copy / MANIFEST, BundleError) as file:
            file.write(bundle.manifest_bytes())
        if place.exists():
            place.rename(temporary / "damaged")
        copy.rename(place)
        sync_folder(self.folder)
        return place, True

    def use(self, place: Path) -> None:
        """Make a bundle of the store the current one, and the current one the previous."""
        before = self.linked(CURRENT)
        if before == place:
            return
        if before is not None:
            self._link(PREVIOUS, before)
        self._link(CURRENT, place)

    def linked(self, name: str) -> Path | None:
        """Where CURRENT or PREVIOUS leads; None if it is not there or leads elsewhere."""
        with suppress(OSError):
            target = os.readlink(self.folder / name)
            if _NAME.fullmatch(target) and (self.folder / target).is_dir():
                return self.folder / target
        return None

    def places(self) -> list[Path]:
        """The folders of all bundles, the newest last."""
        try:
            found = [each for each in self.folder.iterdir() if _NAME.fullmatch(each.name)]
        except FileNotFoundError:
            return []
        except OSError as fault:
            raise BundleError(f"{self.folder}: cannot be read ({why(fault)})") from None
        return sorted(found, key=lambda each: each.lstat().st_mtime)

    def remove(self, place: Path) -> None:
        """Remove a bundle that was just added and is not used."""
        _remove(place)

    def _link(self, name: str, place: Path) -> None:
        link = self.folder / f".{name}-{secrets.token_hex(4)}{TEMPORARY}"
        link.symlink_to(place.name)
        link.replace(self.folder / name)
        sync_folder(self.folder)


def damage(place: Path) -> str:
    """What is wrong with the files of an installed bundle, in one line; "" if nothing is."""
    try:
        bundle = load_bundle(place)
        for name in bundle.manifest.files:
            bundle.read(name)
    except BundleError as fault:
        return str(fault)
    if sha256(bundle.manifest_bytes()) != place.name:
        return f"{place}: {MANIFEST} is not the one that was installed"
    return ""


def _remove(path: Path) -> None:
    """Remove a folder, or what has its name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
