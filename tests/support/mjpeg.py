"""A web camera on the loopback: MJPEG over HTTP, and what else web servers answer."""

from __future__ import annotations

import base64
import hashlib
import http.server
import itertools
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import cv2
import numpy as np

USER, PASSWORD = "bob", "p@ss/w:1"
_REALM, _NONCE = "camera", "0123456789abcdef"


def jpeg(number: int, size_hw: tuple[int, int]) -> bytes:
    """A grey level that tells the number, modulo 100."""
    picture = np.full((*size_hw, 3), 20 + 2 * (number % 100), np.uint8)
    encoded, data = cv2.imencode(".jpg", picture)
    assert encoded
    return data.tobytes()


def some_cut(number: int, size_hw: tuple[int, int]) -> bytes:
    """`jpeg`, but without its second half where the number is odd."""
    whole = jpeg(number, size_hw)
    return whole[: len(whole) // 2 if number % 2 else None]


def part(picture: bytes, style: str) -> bytes:
    """A part of a stream as different cameras write it."""
    head = {
        "plain": b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture),
        "no-length": b"--b\r\nContent-Type: image/jpeg\r\n\r\n",
        "lower-case": b"--b\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n"
        % len(picture),
        "extra": b"--b\r\nX-Time: 1\r\nContent-type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
        % len(picture),
        "bare-newlines": b"--b\nContent-Type: image/jpeg\nContent-Length: %d\n\n" % len(picture),
        "blank-line-first": b"\r\n--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
        % len(picture),
        "no-type": b"--b\r\nContent-Length: %d\r\n\r\n" % len(picture),
        "jpg": b"--b\r\nContent-Type: image/jpg\r\nContent-Length: %d\r\n\r\n" % len(picture),
        "png": b"--b\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(picture),
    }[style]
    return head + picture + (b"\n" if style == "bare-newlines" else b"\r\n")


class MjpegServer:
    """`with MjpegServer() as camera: camera.url`. Paths: the styles of `part`, /some-cut,
    /no-end, /basic, /digest, /html, /jpeg, /mp4, /untyped, /empty, /moved, and for other numbers
    the status: /404.

    certificate: a PEM file with key and certificate; then it speaks TLS. asked: the paths so far;
    hold: pictures stop while it is set, and the connections stay.
    """

    def __init__(
        self, size_hw: tuple[int, int] = (120, 160), frames: int | None = None, rate: float = 50,
        certificate: Path | None = None,
    ) -> None:  # fmt: skip
        self.size_hw, self.frames, self.rate = size_hw, frames, rate
        self.certificate = certificate
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.port = 0

    def __enter__(self) -> MjpegServer:
        self.start()
        return self

    def start(self) -> None:
        """On the same port as before, once it has been stopped."""
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.camera = self
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """End all streams and close the port."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "plain", credentials: str = "") -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{credentials}127.0.0.1:{self.port}/{path}"

    def parts(self, style: str) -> Iterator[bytes]:
        """The stream, in real time, until the server is stopped."""
        for number in itertools.count() if self.frames is None else range(self.frames):
            if style == "some-cut":
                yield part(some_cut(number, self.size_hw), "plain")
            elif style == "no-end":
                yield part(jpeg(number, self.size_hw)[:-2], "plain")
            else:
                yield part(jpeg(number, self.size_hw), style)
            while not self._over.wait(1 / self.rate) and self.hold.is_set():
                pass
            if self._over.is_set():
                return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(http.server.ThreadingHTTPServer):
    camera: MjpegServer
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *values: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self.server.camera.asked.append(self.path)
        path = urlsplit(self.path).path[1:]
        if path in ("basic", "digest"):
            if not (self._basic() if path == "basic" else self._digest()):
                method = "Basic" if path == "basic" else f'Digest nonce="{_NONCE}", qop="auth",'
                self._answer(401, {"WWW-Authenticate": f'{method} realm="{_REALM}"'})
                return
            path = "plain"
        types = {"html": "text/html; charset=utf-8", "jpeg": "image/jpeg", "mp4": "video/mp4",
                 "untyped": ""}  # fmt: skip
        if path.isdecimal():
            self._answer(int(path), {})
        elif path == "moved":
            self._answer(302, {"Location": "https://eve:hunter2@other.example/video"})
        elif path == "empty":
            self._answer(200, {"Content-Type": "multipart/x-mixed-replace; boundary=b"})
        elif path in types:
            body = jpeg(0, (8, 8)) if path == "jpeg" else b"<html>\n-- Log in --\n</html>\n" * 50
            self._answer(200, {"Content-Type": types[path]} if types[path] else {}, body)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            for piece in self.server.camera.parts(path):
                self.wfile.write(piece)

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _basic(self) -> bool:
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _digest(self) -> bool:
        """RFC 7616 with MD5 and qop=auth, as cameras ask for it."""
        given = dict(re.findall(r'(\w+)="?([^",]+)"?', self.headers.get("Authorization", "")))

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        secret, request = md5(f"{USER}:{_REALM}:{PASSWORD}"), md5(f"GET:{self.path}")
        middle = [_NONCE, given.get("nc", ""), given.get("cnonce", ""), "auth"]
        return given.get("response") == md5(":".join([secret, *middle, request]))
