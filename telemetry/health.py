"""One small HTTP port per process: `/livez` (the process runs), `/readyz` (send it work), `/metrics`, and what it tells besides.

Readiness is this process's own: it does not flip because AWS throttles or a store is away (TRAPS 4, 12); it flips to 503 as the
first act of a drain (TRAPS 11).
"""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from telemetry.metrics import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, Metrics

JSON_CONTENT_TYPE = "application/json"


class Health:
    """Serves on a daemon thread until `close`. `port` is the bound one when 0 was asked for."""

    def __init__(self, metrics: Metrics, port: int, host: str = "127.0.0.1") -> None:
        self._ready = False
        self._pages: dict[str, Callable[[], bytes]] = {}
        health = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                openmetrics = "application/openmetrics-text" in self.headers.get("Accept", "")
                status, body = health._answer(self.path, metrics, openmetrics)
                kind = OPENMETRICS_CONTENT_TYPE if openmetrics else TEXT_CONTENT_TYPE
                self.send_response(status)
                self.send_header("Content-Type", JSON_CONTENT_TYPE if self.path in health._pages else kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every second: not worth a line."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def set_ready(self, ready: bool) -> None:
        self._ready = ready

    def add_page(self, path: str, say: Callable[[], bytes]) -> None:
        """What this process alone can tell, as JSON. `say` is called in a thread of the port and must not wait."""
        self._pages[path] = say

    def _answer(self, path: str, metrics: Metrics, openmetrics: bool) -> tuple[int, bytes]:
        if path == "/livez":
            return 200, b"ok\n"
        if path == "/readyz":
            return (200, b"ready\n") if self._ready else (503, b"not ready\n")
        if path == "/metrics":
            return 200, metrics.exposition(openmetrics=openmetrics)
        if path in self._pages:
            return 200, self._pages[path]()
        return 404, b"there is /livez, /readyz and /metrics\n"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
