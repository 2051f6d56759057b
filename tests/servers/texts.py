"""A loopback server of text files with the manners, good and bad, of real ones."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PIECE_BYTES = 4096


@dataclass(frozen=True)
class SeenRequest:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def first_byte(self) -> int:
        """Where the asked-for range begins; 0 without one."""
        asked = self.headers.get("Range", "bytes=0-")
        return int(asked.removeprefix("bytes=").partition("-")[0])


@dataclass
class TextServer:
    """What is served, and how badly. Attributes may be changed while it runs."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[SeenRequest] = field(default_factory=list)
    drop_after: list[int] = field(default_factory=list)
    """For each of the next responses: close the connection after so many bytes of the body."""
    unavailable: int = 0
    """How many requests are still answered with 503."""
    status: int | None = None
    """Answer everything with this."""
    redirects: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    """Between pieces of 4 KiB."""
    understands_range: bool = True
    range_shift: int = 0
    """Answer ranges with bytes so much further on."""
    says_length: bool = True
    claimed_length: int | None = None
    content_encoding: str | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    texts: TextServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class' name
        pass

    def do_GET(self) -> None:
        texts = self.texts
        self.close_connection = True
        texts.requests.append(SeenRequest("GET", self.path, dict(self.headers.items())))
        if self.path in texts.redirects:
            self._finish(302, {"Location": texts.redirects[self.path]})
        elif texts.unavailable > 0:
            texts.unavailable -= 1
            self._finish(503, {"Retry-After": "0"})
        elif texts.status is not None:
            self._finish(texts.status, {})
        elif self.path not in texts.files:
            self._finish(404, {})
        else:
            self._serve(texts.files[self.path])

    def _serve(self, body: bytes) -> None:
        texts = self.texts
        asked = self.headers.get("Range") if texts.understands_range else None
        start = 0 if asked is None else texts.requests[-1].first_byte + texts.range_shift
        if asked is not None and start >= len(body):
            self._finish(416, {"Content-Range": f"bytes */{len(body)}"})
            return
        payload, headers = body[start:], {}
        if texts.content_encoding:
            headers["Content-Encoding"] = texts.content_encoding
        if asked is not None:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if texts.says_length:
            headers["Content-Length"] = str(texts.claimed_length or len(payload))
        self._head(206 if asked is not None else 200, headers)
        self._send(payload)

    def _send(self, payload: bytes) -> None:
        limit = self.texts.drop_after.pop(0) if self.texts.drop_after else len(payload)
        try:
            for start in range(0, min(limit, len(payload)), PIECE_BYTES):
                self.wfile.write(payload[start : min(start + PIECE_BYTES, limit)])
                if self.texts.pause_s:
                    time.sleep(self.texts.pause_s)
        except OSError:  # the client has gone
            self.close_connection = True

    def _finish(self, status: int, headers: dict[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is part of the tests."""


@contextmanager
def serve_texts(
    files: dict[str, bytes] | None = None, *, certificate: tuple[Path, Path] | None = None
) -> Iterator[TextServer]:
    """A running server of `files` (by URL path, with its slash), on a free port.

    With `certificate`, the files of a certificate and its key, it speaks https.
    """
    handler = type("Handler", (_Handler,), {})
    server = _QuietServer(("127.0.0.1", 0), handler)
    scheme = "http" if certificate is None else "https"
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    texts = TextServer(f"{scheme}://127.0.0.1:{server.server_address[1]}", dict(files or {}))
    handler.texts = texts  # type: ignore[attr-defined]  # declared on _Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield texts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
