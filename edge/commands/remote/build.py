"""`twostream build --remote`: engines built and verified on a board, from here.

The board gets the files that the manifest lists and nothing else, in
~/.cache/twostream/bundles/NAME-SHA; what is there already is not sent again. Its engines stay in
the cache of its user, where its own runs find them: an engine is machine code, and no machine uses
one that it has not built. Nothing but lines of text comes back.
"""

from __future__ import annotations

import io
import logging
import re
import shlex
import tarfile
from collections.abc import Iterable
from pathlib import Path

from edge.bundle.manifest import MANIFEST, Bundle, load_bundle, sha256
from edge.commands.remote.ssh import check_target, open_session
from edge.errors import DeviceError
from edge.log import read_line

logger = logging.getLogger(__name__)

_HOME = '"$HOME"/.cache/twostream/bundles'


def build_remote(bundle_path: Path, target: str, options: list[str]) -> list[str]:
    """Build a bundle's engines on `target` (HOST or USER@HOST) and verify them there.

    options: of `twostream build`, passed on as they are. The board's own lines are logged as they
    come, with its name in front. Returns the closing lines. Raises BundleError or DeviceError.
    """
    host = check_target(target)
    bundle = load_bundle(bundle_path)
    manifest = bundle.manifest_bytes()
    for name in bundle.manifest.files:
        bundle.read(name)
    there = f"{_HOME}/{_remote_name(bundle, manifest)}"
    _send_bundle(target, there, bundle, manifest)
    _run(target, ["build"], there, options)
    _run(target, ["verify"], there, ["--device", "cuda"])
    return [
        f"the engines stay on {host}, in the cache of its user, and fit that board alone",
        f"on {host}: twostream run {_shown(there)} SOURCE --device cuda",
    ]


def _remote_name(bundle: Bundle, manifest: bytes) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", bundle.manifest.name).strip(".-")[:64]
    return f"{name or 'bundle'}-{sha256(manifest)[:12]}"


def _shown(there: str) -> str:
    return there.replace('"$HOME"', "~")


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


def _last(lines: list[str]) -> str:
    return lines[-1] if lines else "it says nothing"
