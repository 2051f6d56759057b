"""Serve one page to the browsers of this machine."""

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from continuum.errors import ContinuumError, UsageError

HOST = "127.0.0.1"
NAMES = frozenset({HOST, "localhost"})
"""What a browser may call this server: a page of another site could have its own name for it."""


class PageServer(ThreadingHTTPServer):
    """Answers `/` with a page that is made for each request."""

    daemon_threads = True

    def __init__(self, make_page: Callable[[], bytes], port: int) -> None:
        """Listen on the loopback interface.

        Args:
            make_page: Called by one request at a time.
            port: 0 for any that is free.

        Raises:
            UsageError: the port cannot be used.
        """
        self._make_page = make_page
        self._guard = Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror}; give another, or none") from None

    @property
    def address(self) -> str:
        """The URL of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def page(self) -> tuple[HTTPStatus, str, bytes]:
        """The status, the type and the bytes of an answer."""
        with self._guard:
            try:
                return HTTPStatus.OK, "text/html", self._make_page()
            except ContinuumError as error:
                return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n".encode()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in NAMES:
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            status, kind, content = self.server.page()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class' name
        """Print nothing."""
