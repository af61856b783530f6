"""`twostream build --remote`: engines built and verified on a board, from here.

The board gets the files that the manifest lists and nothing else, in
~/.cache/twostream/bundles/NAME-SHA; what is there already is not sent again. Its engines come back
as a tar archive, which is not trusted: plain files of engines/ alone, by names that a bundle may
use, bounded in number and size, and none in its place before all are here. What is in them is
machine code, as good as the board that it comes from.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shlex
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from edge.bundle import FILE_NAME, MANIFEST, MAX_FILE_BYTES, Bundle, load_bundle, sha256
from edge.errors import BundleError, DeviceError
from edge.log import read_line
from edge.ssh import Session, check_target, open_session

logger = logging.getLogger(__name__)

ENGINES = "engines"
MAX_ENGINE_FILES = 64
MAX_ENGINE_BYTES = 4 << 30  # of all together

_HOME = '"$HOME"/.cache/twostream/bundles'
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20


class _CutShort(Exception):
    """The archive ends before its end mark."""


class _Refused(Exception):
    """The archive holds what it must not."""


def build_remote(bundle_path: Path, target: str, options: list[str]) -> list[str]:
    """Build a bundle's engines on `target` (HOST or USER@HOST), verify them there, bring them here.

    options: of `twostream build`, passed on as they are. The board's own lines are logged as they
    come, with its name in front. Returns the closing lines. Raises BundleError or DeviceError; then
    no engine here was touched.
    """
    host = check_target(target)
    bundle = load_bundle(bundle_path)
    manifest = bundle.manifest_bytes()
    for name in bundle.manifest.files:
        bundle.read(name)
    folder = _local_folder(bundle, manifest)
    there = f"{_HOME}/{_remote_name(bundle, manifest)}"
    with _temporary_folder(folder) as temporary:
        _send_bundle(target, there, bundle, manifest)
        _run(target, ["build"], there, options)
        _run(target, ["verify"], there, ["--device", "cuda"])
        names = _fetch_engines(target, there, Path(temporary))
        size = sum((Path(temporary) / name).stat().st_size for name in names)
        _publish(Path(temporary), names, folder / ENGINES)
    return [
        f"{len(names)} files ({size / 1e6:.1f} MB) from {host} are in {folder / ENGINES}; they fit "
        "that board and its like alone",
        f"on {host}: twostream run {_shown(there)} SOURCE --device cuda",
    ]


def _remote_name(bundle: Bundle, manifest: bytes) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", bundle.manifest.name).strip(".-")[:64]
    return f"{name or 'bundle'}-{sha256(manifest)[:12]}"


def _shown(there: str) -> str:
    return there.replace('"$HOME"', "~")


def _local_folder(bundle: Bundle, manifest: bytes) -> Path:
    """Where the engines go: the bundle's folder, or one made of a .zip, beside it."""
    if bundle.path.is_dir():
        return bundle.path
    path = bundle.path
    folder = path.with_suffix("") if path.suffix else path.with_name(f"{path.name}-folder")
    if folder.exists():
        if load_bundle(folder).manifest_bytes() != manifest:
            raise BundleError(f"{folder}: is another bundle than {path}; rename one of them")
    else:
        try:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as temporary:
                whole = Path(temporary) / "bundle"
                whole.mkdir()
                for name in bundle.manifest.files:
                    (whole / name).write_bytes(bundle.read(name))
                (whole / MANIFEST).write_bytes(manifest)
                whole.rename(folder)
        except OSError as fault:
            raise BundleError(f"{folder}: cannot be made ({fault.strerror})") from None
    logger.info(
        "%s: a .zip takes no engines; they go with its files into the folder %s", path, folder
    )
    return folder


def _temporary_folder(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Made before any work on the board, so that a folder that takes nothing is told at once."""
    engines = folder / ENGINES
    if engines.is_symlink() or (engines.exists() and not engines.is_dir()):
        raise BundleError(f"{engines}: is not a plain folder; remove it")
    try:
        return tempfile.TemporaryDirectory(dir=folder, prefix=".engines-")
    except OSError as fault:
        raise BundleError(
            f"{folder}: cannot be written ({fault.strerror}); copy the bundle to a folder of yours"
        ) from None


def _send_bundle(target: str, there: str, bundle: Bundle, manifest: bytes) -> None:
    """Copy what is not there yet, and see that there is a `twostream`."""
    wanted = dict(bundle.manifest.files) | {MANIFEST: sha256(manifest)}
    host = check_target(target)
    look = (
        f"exec 2>&1; mkdir -p {there} && cd {there} || exit 3; "
        f"type -P twostream > /dev/null && echo command; sha256sum {shlex.join(wanted)}"
    )
    with open_session(target, look) as session:
        said = list(session.lines())
        if session.finish() == 3:
            raise DeviceError(f"{host}: {' '.join(said)}; make room or permissions there")
    if "command" not in said:
        raise DeviceError(
            f"{host}: a login shell there finds no `twostream`; install it on the board, and put "
            "its environment on PATH in ~/.profile: "
            "echo 'export PATH=$HOME/twostream/.venv/bin:$PATH' >> ~/.profile"
        )
    missing = [name for name, digest in wanted.items() if f"{digest}  {name}" not in said]
    name = bundle.manifest.name
    logger.info("%s: %d of %d files of %s to send", host, len(missing), len(wanted), name)
    if missing:
        contents = ((n, manifest if n == MANIFEST else bundle.read(n)) for n in missing)
        _send(target, there, contents)


def _send(target: str, there: str, contents: Iterable[tuple[str, bytes]]) -> None:
    # Each file is moved into its place whole.
    script = (
        f"exec 2>&1; set -e; incoming=$(mktemp -d {_HOME}/.incoming-XXXXXX); "
        "trap 'rm -rf \"$incoming\"' EXIT; "
        f'tar -xf - --no-same-owner -C "$incoming"; mv -f "$incoming"/* {there}/'
    )
    with open_session(target, script) as session:
        try:
            with tarfile.open(fileobj=session.stdin, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
                for name, data in contents:
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
            session.stdin.close()
        except OSError:  # the other end has gone; its last words and its code say why
            pass
        said = [line for line in session.lines() if line]
        if session.finish() != 0:
            raise DeviceError(
                f"{session.host}: the bundle cannot be copied there ({_last(said)}); make room"
            )


def _run(target: str, command: list[str], there: str, options: list[str]) -> None:
    """`twostream COMMAND FOLDER OPTIONS`, its lines logged as they come."""
    words = ["twostream", *command]
    # Python holds back what it prints into a pipe, for minutes here.
    script = (
        "exec 2>&1 < /dev/null; export PYTHONUNBUFFERED=1; "
        f"exec {shlex.join(words)} {there} {shlex.join(options)}"
    )
    last = ""
    with open_session(target, script) as session:
        for line in session.lines():
            level, text = read_line(line)
            logger.log(level, "%s: %s", session.host, text)
            last = line.strip() or last
        code = session.finish()
    if code != 0:
        reason = last.removeprefix("twostream: ") or "it says nothing"
        raise DeviceError(f"{session.host}: {' '.join(words)} fails (code {code}): {reason}")


def _fetch_engines(target: str, there: str, into: Path) -> list[str]:
    """Receive engines/ into a folder. The names of its files; DeviceError, BundleError if not all
    of it came."""
    script = (
        f"cd {there} && exec tar -cf - --format=ustar --owner=0 --group=0 --numeric-owner "
        f"--exclude='*.part' {ENGINES} < /dev/null"
    )
    with open_session(target, script) as session:
        try:
            names = _receive(session.stdout, into)
        except _Refused as fault:
            raise BundleError(
                f"{session.host}: what it sends as engines is refused: {fault}; nothing was "
                "changed here"
            ) from None
        except _CutShort:
            names = []
        except OSError as fault:
            raise BundleError(
                f"{into.parent}: cannot be written ({fault.strerror}); make room"
            ) from None
        code = session.finish()
        if code != 0 or not names:
            raise DeviceError(
                f"{session.host}: its engines cannot be read ({_last_of(session)}); see "
                f"{_shown(there)}/{ENGINES} there"
            )
    return names


def _receive(stream: IO[bytes], into: Path) -> list[str]:
    """Write the files of a tar archive, whose names and kinds are checked, to a folder."""
    names: list[str] = []
    total = 0
    while (block := stream.read(_BLOCK)) != bytes(_BLOCK):
        if len(block) < _BLOCK:
            raise _CutShort
        member = _header(block)
        if member.isdir() and member.name == ENGINES:
            continue
        name = _file_name(member)
        total += member.size
        if name in names or len(names) == MAX_ENGINE_FILES or total > MAX_ENGINE_BYTES:
            raise _Refused(f"too much, or a file twice, at {name}")
        names.append(name)
        with (into / name).open("xb") as file:
            _copy(stream, file, member.size)
            os.fsync(file.fileno())
    while stream.read(_CHUNK):  # the padding, which tar needs to be rid of
        if (total := total + _CHUNK) > MAX_ENGINE_BYTES:
            raise _Refused("it does not end")
    return names


def _header(block: bytes) -> tarfile.TarInfo:
    # A header by itself: tarfile's own reader would hold whatever a long name or an extended
    # header claims as its size in memory.
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "replace")  # type: ignore[arg-type]
    except tarfile.HeaderError as fault:
        raise _Refused(f"a damaged archive ({fault})") from None


def _file_name(member: tarfile.TarInfo) -> str:
    """The name within engines/ of a plain file directly there."""
    folder, _, name = member.name.partition("/")
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
    if not plain or folder != ENGINES or not re.fullmatch(FILE_NAME, name):
        raise _Refused(f"{member.name!r} is not a plain file of {ENGINES}/")
    if not 0 <= member.size <= MAX_FILE_BYTES:
        raise _Refused(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB")
    return name


def _copy(stream: IO[bytes], file: IO[bytes], size: int) -> None:
    """`size` bytes, and the padding to a whole block."""
    left = size
    while left:
        data = stream.read(min(left, _CHUNK))
        if not data:
            raise _CutShort
        file.write(data)
        left -= len(data)
    padding = -size % _BLOCK
    if len(stream.read(padding)) < padding:
        raise _CutShort


def _publish(temporary: Path, names: list[str], engines: Path) -> None:
    """Move whole files into place; the .json that describe them last."""
    try:
        engines.mkdir(exist_ok=True)
        for name in sorted(names, key=lambda name: (name.endswith(".json"), name)):
            (temporary / name).replace(engines / name)
    except OSError as fault:
        raise BundleError(f"{engines}: cannot be written ({fault.strerror})") from None


def _last_of(session: Session) -> str:
    return _last([line.strip() for line in session.said().split("\n") if line.strip()])


def _last(lines: list[str]) -> str:
    return lines[-1] if lines else "it says nothing"
