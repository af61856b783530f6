"""`twostream build --remote`: builds and verifies engines on another machine.

Only the files listed in the manifest are sent, to ~/.cache/twostream/bundles/NAME-SHA; files that
are already there are not sent again. The engines stay in the remote user's cache, where runs on
that machine find them: an engine is machine code, so no machine uses one that it has not built.
Only text comes back.
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
from edge.text import counted

logger = logging.getLogger(__name__)

_HOME = '"$HOME"/.cache/twostream/bundles'


def build_remote(bundle_path: Path, target: str, options: list[str]) -> list[str]:
    """Build a bundle's engines on `target` (HOST or USER@HOST) and verify them there.

    options: of `twostream build`, passed on. Lines from the remote machine are logged with its name
    in front. Returns the closing lines. Raises BundleError or DeviceError.
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
        f"the engines are in the user's cache on {host}, and work on that machine alone",
        f"on {host}: twostream run {_shown(there)} SOURCE --device cuda",
    ]


def _remote_name(bundle: Bundle, manifest: bytes) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", bundle.manifest.name).strip(".-")[:64]
    return f"{name or 'bundle'}-{sha256(manifest)[:12]}"


def _shown(there: str) -> str:
    return there.replace('"$HOME"', "~")


def _send_bundle(target: str, there: str, bundle: Bundle, manifest: bytes) -> None:
    """Check that `twostream` is installed there, and copy the missing files."""
    digests = dict(bundle.manifest.files) | {MANIFEST: sha256(manifest)}
    host = check_target(target)
    look = (
        f"exec 2>&1; mkdir -p {there} && cd {there} || exit 3; "
        f"type -P twostream > /dev/null && echo command; sha256sum {shlex.join(digests)}"
    )
    with open_session(target, look) as session:
        answer = list(session.lines())
        if session.finish() == 3:
            raise DeviceError(
                f"{host}: {' '.join(answer)}; free disk space or fix permissions there"
            )
    if "command" not in answer:
        raise DeviceError(
            f"{host}: a login shell there finds no `twostream`; install it on the board, and add "
            "its environment to PATH in ~/.profile: "
            "echo 'export PATH=$HOME/twostream/.venv/bin:$PATH' >> ~/.profile"
        )
    missing = [name for name, digest in digests.items() if f"{digest}  {name}" not in answer]
    name = bundle.manifest.name
    files = counted(len(digests), "file")
    logger.info("%s: %d of %s of %s to send", host, len(missing), files, name)
    if missing:
        contents = ((n, manifest if n == MANIFEST else bundle.read(n)) for n in missing)
        _send(target, there, contents)


def _send(target: str, there: str, contents: Iterable[tuple[str, bytes]]) -> None:
    # Each file is moved into place once it is complete.
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
        except OSError:  # the connection closed; its output and exit code tell why
            pass
        output = [line for line in session.lines() if line]
        if session.finish() != 0:
            raise DeviceError(
                f"{session.host}: the bundle cannot be copied there ({_last(output)}); free disk "
                "space there"
            )


def _run(target: str, command: list[str], there: str, options: list[str]) -> None:
    """Run `twostream COMMAND FOLDER OPTIONS` and log its output."""
    words = ["twostream", *command]
    # Python buffers what it prints into a pipe, here for minutes.
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
        reason = last.removeprefix("twostream: ") or "no output"
        raise DeviceError(f"{session.host}: {' '.join(words)} fails (code {code}): {reason}")


def _last(lines: list[str]) -> str:
    return lines[-1] if lines else "no output"
