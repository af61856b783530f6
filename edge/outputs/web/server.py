"""The server of the live page, in a thread with its own event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from edge.errors import OutputError
from edge.installation import install_line
from edge.outputs.listen_address import ListenAddress
from edge.outputs.web.access import Access
from edge.outputs.web.state import LiveState

_WORKERS = 2  # for pictures and records; started with the first viewer


class WebServer:
    """with WebServer(parse_listen("--web", "8080", ""), state) as server: print(server.url)"""

    def __init__(self, address: ListenAddress, state: LiveState) -> None:
        """Raises OutputError if the port is not available or aiohttp is not installed."""
        try:
            from edge.outputs.web import connections
        except ModuleNotFoundError as error:
            raise OutputError(f"--web needs {error.name}; run: {install_line('web')}") from None
        try:
            self._listener = connections.listen(address.host, address.port)
        except OSError as error:
            raise OutputError(
                f"--web: cannot listen on {address.host}:{address.port} ({error.strerror})"
            ) from None
        port = self._listener.getsockname()[1]
        self.url = f"http://{address.url_host}:{port}/"
        self._state, self._access = state, Access(address, port)
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._over = asyncio.Event()

    def __enter__(self) -> WebServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._loop.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.result().call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        from edge.outputs.web.connections import Connections, connections_max, report_fault
        from edge.outputs.web.routes import VIEWERS_MAX, Routes

        loop, counts, most = asyncio.get_running_loop(), Counter[str](), connections_max()
        loop.set_exception_handler(
            lambda _, fault: report_fault(counts, fault["message"], fault.get("exception"))
        )
        with self._listener, ThreadPoolExecutor(_WORKERS, "live-page") as executor:
            viewers = min(VIEWERS_MAX, most // 4)
            routes = Routes(self._state, self._access, counts, executor, viewers)
            connections = Connections(routes.answer, counts, most)
            accepting = asyncio.create_task(connections.accept(self._listener))
            self._loop.set_result(loop)
            await self._over.wait()
            accepting.cancel()
            await connections.close()
