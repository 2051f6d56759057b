"""Files fetched over HTTP: whole or absent, resumed where the server can prove nothing changed.

What has arrived is kept beside the target as `<name>.part`, with the server's validators (ETag,
Last-Modified) in `<name>.origin.json`. A later attempt, in this process or after a kill, asks for
the rest with `If-Range`; a server that ignores it, cannot resume or has other bytes by now makes
the transfer start at zero. Bytes of two versions are never joined.
"""

import http.client
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any

from continuum.errors import IntegrityError, StageFailedError
from continuum.files import write_json
from continuum.sources.request import (
    TransientError,
    content_length,
    open_url,
    strong_date,
    strong_etag,
    words,
)

BUFFER_BYTES = 1 << 18
MAX_ATTEMPTS = 100
"""Even when every attempt brings a few more bytes."""
SPARE_BYTES = 1 << 20
OnProgress = Callable[[int, int | None], None]
"""Told the bytes that are here, and how many there will be when the server says so."""


@dataclass(frozen=True)
class RetryPolicy:
    """How patiently a transfer is tried again; an attempt that brought new bytes does not count."""

    max_failures: int = 4
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0

    def delay_s(self, num_failures: int) -> float:
        """The pause after so many failures in a row."""
        return min(self.first_delay_s * 2.0 ** max(num_failures - 1, 0), self.max_delay_s)


DEFAULT_RETRY = RetryPolicy()


@dataclass(frozen=True)
class Remote:
    """A file on a server: where it is, how to ask for it and how to know it."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """May hold a token: never shown, and not sent to another host after a redirect."""
    check: Callable[[Path], str | None] | None = None
    """What is wrong with the bytes that came, or None."""


def download(
    remote: Remote,
    target: Path,
    *,
    on_progress: OnProgress,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> None:
    """Make `target` the file at `remote.url`, using what an earlier attempt left beside it.

    Raises:
        StageFailedError: the server or the disk would not; the message says what to do.
        IntegrityError: the bytes are not the expected ones.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _Partial(target, remote.url)
    if target.is_file() and remote.check is not None and remote.check(target) is None:
        return
    was_resumed = _transfer(remote, partial, on_progress, retry)
    complaint = remote.check(target) if remote.check is not None else None
    if complaint is not None and was_resumed:
        partial.discard()
        _transfer(remote, partial, on_progress, retry)
        complaint = remote.check(target) if remote.check is not None else None
    if complaint is not None:
        partial.discard()
        raise IntegrityError(f"{remote.url}: {complaint}")


def try_again(action: Callable[[], Any], *, what: str, retry: RetryPolicy) -> Any:
    """The result of `action`, tried again after a `TransientError`."""
    failures = 0
    while True:
        try:
            return action()
        except TransientError as error:
            failures += 1
            if failures >= retry.max_failures:
                raise StageFailedError(f"{what}: {error}; tried {failures} times") from error
            time.sleep(max(retry.delay_s(failures), error.retry_after_s))


class _Partial:
    """What has arrived of one file, and what the server said about it."""

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.data = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".origin.json")
        self._url = url

    def size_bytes(self) -> int:
        path = self.target if self.target.is_file() else self.data
        return path.stat().st_size if path.is_file() else 0

    def origin(self) -> dict[str, Any]:
        """The validators noted when the bytes began to arrive; empty when they prove nothing."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        is_ours = isinstance(note, dict) and note.get("url") == self._url
        return note if is_ours and (note.get("etag") or note.get("last_modified")) else {}

    def restart(self, headers: Message) -> None:
        """Forget the bytes first, then note whose bytes come next."""
        self.discard()
        note = {
            "url": self._url,
            "etag": strong_etag(headers),
            "size_bytes": content_length(headers),
        }
        write_json(self._note, {**note, "last_modified": strong_date(headers)})

    def finish(self) -> None:
        if self.data.is_file():
            self.data.replace(self.target)

    def discard(self) -> None:
        for path in (self.target, self.data, self._note):
            path.unlink(missing_ok=True)


def _transfer(
    remote: Remote,
    partial: _Partial,
    on_progress: OnProgress,
    retry: RetryPolicy,
) -> bool:
    """Bring the whole file; return whether any of its bytes are from an earlier attempt."""
    was_resumed = False
    failures, most_bytes = 0, partial.size_bytes()
    for _ in range(MAX_ATTEMPTS):
        try:
            was_resumed = _attempt(remote, partial, on_progress)
            partial.finish()
            return was_resumed
        except TransientError as error:
            if error.must_restart:
                partial.discard()
            size = partial.size_bytes()
            failures = 1 if size > most_bytes else failures + 1
            most_bytes = max(size, most_bytes)
            if failures >= retry.max_failures:
                raise StageFailedError(
                    f"{remote.url}: {error}; tried again {failures} times without getting further. "
                    "Check the network (and HTTPS_PROXY); running again goes on from what is here"
                ) from error
            time.sleep(max(retry.delay_s(failures), error.retry_after_s))
    raise StageFailedError(f"{remote.url}: the connection broke {MAX_ATTEMPTS} times; try later")


def _attempt(remote: Remote, partial: _Partial, on_progress: OnProgress) -> bool:
    condition = _condition(partial)
    offset = partial.size_bytes() if condition else 0
    response = open_url(remote.url, {**remote.headers, **condition})
    if response is None:
        return True
    with response:
        if response.status == 206 and not _continues(response.headers, partial, offset):
            raise TransientError("the server sent another part than asked for", must_restart=True)
        if response.status != 206:
            partial.restart(response.headers)
            offset = 0
        _receive(response, partial, offset, on_progress, remote.url)
    return offset > 0


def _condition(partial: _Partial) -> dict[str, str]:
    """Headers that ask for what is missing, provided the file is still the same."""
    origin, size = partial.origin(), partial.size_bytes()
    if not origin or size == 0:
        return {}
    etag, date = origin["etag"], origin["last_modified"]
    if partial.target.is_file() or size == origin["size_bytes"]:
        return {"If-None-Match": etag} if etag else {"If-Modified-Since": date}
    return {"Range": f"bytes={size}-", "If-Range": etag or date}


def _receive(
    response: http.client.HTTPResponse,
    partial: _Partial,
    offset: int,
    on_progress: OnProgress,
    url: str,
) -> None:
    length = content_length(response.headers)
    total = None if length is None else offset + length
    _require_space(partial.data, length, url)
    done = offset
    with _writing(partial.data, append=offset > 0) as file:
        while chunk := _read(response):
            _write(file, chunk, partial.data)
            done += len(chunk)
            on_progress(done, total)
    if total is not None and done != total:
        raise TransientError(f"the connection ended after {done:,} of {total:,} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(BUFFER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"the connection broke ({words(error)})") from error


def _writing(path: Path, *, append: bool) -> IO[bytes]:
    try:
        # Unbuffered: what a killed process has received is in the file.
        return path.open("ab" if append else "wb", buffering=0)
    except OSError as error:
        raise _disk_error(path, error) from error


def _write(file: IO[bytes], chunk: bytes, path: Path) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise _disk_error(path, error) from error


def _disk_error(path: Path, error: OSError) -> StageFailedError:
    return StageFailedError(
        f"{path}: cannot be written ({words(error)}); make room or permit it, then run again"
    )


def _require_space(path: Path, num_bytes: int | None, url: str) -> None:
    free = shutil.disk_usage(path.parent).free
    if num_bytes is not None and num_bytes + SPARE_BYTES > free:
        raise StageFailedError(
            f"{url}: {num_bytes:,} bytes are to come, but {path.parent} has room for {free:,}; "
            "make room, then run again"
        )


def _continues(headers: Message, partial: _Partial, offset: int) -> bool:
    """Whether a 206 holds exactly the bytes that follow ours, of the very same file."""
    origin = partial.origin()
    unit, _, place = (headers.get("Content-Range") or "").partition(" ")
    span, _, total = place.partition("/")
    if unit != "bytes" or not span.startswith(f"{offset}-"):
        return False
    if origin["size_bytes"] is not None and total not in {"*", str(origin["size_bytes"])}:
        return False
    if origin["etag"]:
        return bool(strong_etag(headers) == origin["etag"])
    return bool(headers.get("Last-Modified") == origin["last_modified"])
