"""Sends the files of recorded events, whole or in part (RFC 9110, section 14), as players ask."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from edge.outputs.events.event_store import CLIP, PICTURE, RECORD, EventStore
from edge.outputs.web.answers import HEADERS, plain, whole
from edge.outputs.web.connections import ANSWER_S, Connection

PREFIX = "/event/"
_KINDS = {CLIP: "video/mp4", PICTURE: "image/jpeg", RECORD: "application/json"}
_CHUNK_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int
    size: int
    kind: str


async def send_event_file(
    request: web.BaseRequest, connection: Connection, store: EventStore | None, path: str
) -> web.StreamResponse:
    """Answer a request for PREFIX + ID/NAME. A slow client has ANSWER_S for each chunk."""
    file = None if store is None else _open_file(store, path)
    if file is None:
        return plain(HTTPStatus.NOT_FOUND, "there is no such event; it may have been deleted")
    try:
        try:
            part = request.http_range
            begin, end, _ = part.indices(file.size)
        except ValueError:
            begin, end = 0, 0
        partial = "Range" in request.headers
        if partial and begin >= end:
            answer = whole("text/plain", b"", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            answer.headers["Content-Range"] = f"bytes */{file.size}"
            return answer
        headers = HEADERS | {"Content-Type": file.kind, "Accept-Ranges": "bytes"}
        headers["Content-Length"] = str(end - begin)
        if partial:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
        status = HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        if request.method != "HEAD":
            await _send(response, connection, file, begin, end)
        return response
    finally:
        os.close(file.descriptor)


async def _send(
    response: web.StreamResponse, connection: Connection, file: _File, begin: int, end: int
) -> None:
    """The bytes from begin to end."""
    while begin < end:
        data = os.pread(file.descriptor, min(_CHUNK_BYTES, end - begin), begin)
        if not data:
            raise ConnectionError("the file has become shorter")
        begin += len(data)
        connection.end_within(ANSWER_S)
        await response.write(data)


def _open_file(store: EventStore, path: str) -> _File | None:
    """The file that a path names; None: there is none. No link is followed."""
    event_id, _, name = path.removeprefix(PREFIX).partition("/")
    folder = store.find(event_id) if name in _KINDS else None
    if folder is None:
        return None
    try:
        descriptor, size = open_regular(folder / name)
    except OSError:
        return None
    return _File(descriptor, size, _KINDS[name])


def open_regular(path: Path) -> tuple[int, int]:
    """The descriptor of a regular file, for reading, and its size in bytes. No link is followed.
    Raises OSError, also for what is no file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no file")
    return descriptor, status.st_size
