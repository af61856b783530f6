"""An HTTP server of a folder, which can also break off, lead elsewhere or never end."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any


class HttpFiles:
    """with HttpFiles(folder) as server: server.url + "/bundle.zip"

    /cut/NAME breaks off in the middle; /slow/NAME stops there until `go_on` is set; /big states
    more than it sends; /away leads to another server, /round to itself. asked: paths, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[str]()
        self.go_on = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        _, *way, name = handler.path.split("/")
        if name in ("round", "away"):
            handler.send_response(302)
            handler.send_header("Location", "/round" if name == "round" else "file:///etc/passwd")
            handler.end_headers()
            return
        file = self.folder / name
        if name == "big":
            data, stated = b"x", 1 << 40
        elif not file.is_file():
            handler.send_error(404)
            return
        else:
            data, stated = file.read_bytes(), file.stat().st_size
        handler.send_response(200)
        handler.send_header("Content-Length", str(stated))
        handler.end_headers()
        half = len(data) // 2
        handler.wfile.write(data[:half])
        handler.wfile.flush()
        if "slow" in way:
            self.go_on.wait()
        if "cut" not in way:
            handler.wfile.write(data[half:])

    def __enter__(self) -> HttpFiles:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
