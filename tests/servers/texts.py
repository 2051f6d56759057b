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
    stated_length: str | None = None
    """Instead of the true one; empty for none."""
    content_encoding: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one request a connection, and may break off within the body."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class' name
        pass

    def seen(self) -> SeenRequest:
        self.close_connection = True
        return SeenRequest(self.command, self.path, dict(self.headers.items()))

    def answer(
        self, status: int, headers: dict[str, str], body: bytes = b"", *, pause_s: float = 0.0
    ) -> None:
        """Send `body`, or as much of it as `drops` says next; its length unless one is stated."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        drops = self.drops() if body and self.command == "GET" else []
        limit = drops.pop(0) if drops else len(body)
        try:
            for start in range(0, limit if self.command == "GET" else 0, PIECE_BYTES):
                self.wfile.write(body[start : min(start + PIECE_BYTES, limit)])
                time.sleep(pause_s)
        except OSError:  # the client has gone
            self.close_connection = True

    def drops(self) -> list[int]:
        """For each of the next bodies: after how many bytes the connection is closed."""
        raise NotImplementedError


class _TextHandler(Handler):
    texts: TextServer

    def drops(self) -> list[int]:
        return self.texts.drop_after

    def do_GET(self) -> None:
        texts = self.texts
        texts.requests.append(self.seen())
        if self.path in texts.redirects:
            self.answer(302, {"Location": texts.redirects[self.path]})
        elif texts.unavailable > 0:
            texts.unavailable -= 1
            self.answer(503, {"Retry-After": "0"})
        elif texts.status is not None or self.path not in texts.files:
            self.answer(texts.status or 404, {})
        else:
            self._serve(texts.files[self.path])

    def _serve(self, body: bytes) -> None:
        texts = self.texts
        asked = self.headers.get("Range") if texts.understands_range else None
        start = 0 if asked is None else texts.requests[-1].first_byte + texts.range_shift
        if asked is not None and start >= len(body):
            self.answer(416, {"Content-Range": f"bytes */{len(body)}"})
            return
        headers = {"Content-Encoding": texts.content_encoding}
        if asked is not None:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if texts.stated_length is not None:
            headers["Content-Length"] = texts.stated_length
        self.answer(200 if asked is None else 206, headers, body[start:], pause_s=texts.pause_s)


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is part of the tests."""


@contextmanager
def serving(
    handler: type[Handler], *, port: int = 0, certificate: tuple[Path, Path] | None = None
) -> Iterator[str]:
    """The URL of a server that runs: on a free port, unless one is given.

    With `certificate`, the files of a certificate and its key, it speaks https.
    """
    server = _QuietServer(("127.0.0.1", port), handler)
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve_texts(
    files: dict[str, bytes] | None = None, *, certificate: tuple[Path, Path] | None = None
) -> Iterator[TextServer]:
    """A running server of `files` (by URL path, with its slash)."""

    class Bound(_TextHandler):
        texts = TextServer("", dict(files or {}))

    with serving(Bound, certificate=certificate) as Bound.texts.url:
        yield Bound.texts
