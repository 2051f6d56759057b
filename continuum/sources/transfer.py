"""Downloads files over HTTP; a target is complete or absent.

Received bytes are kept beside the target as `<name>.part`. If the file's SHA-256 is known, a later
attempt, in this process or after a kill, requests the rest: the hash proves the joined bytes.
Otherwise every attempt starts at zero, so that bytes of two versions are never joined.
"""

import shutil
import ssl
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import httpx

from continuum.errors import IntegrityError, StageFailedError
from continuum.runs.files import sha256_file

TIMEOUT_S = 60.0
"""Read timeout."""
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_RETRY_AFTER_S = 60.0
SPARE_BYTES = 1 << 20
PAUSES_S = (0.5, 1.0, 2.0)
"""Delays before each retry, counted without new bytes in between."""
T = TypeVar("T")
OnProgress = Callable[[int, int | None], None]
"""Called with the received bytes, and the total if the server states it."""


class TransientError(Exception):
    """A failure that a retry may fix."""

    def __init__(self, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


def with_retries(
    action: Callable[[], T],
    *,
    what: str,
    pauses_s: Sequence[float] = PAUSES_S,
    num_arrived: Callable[[], int] = lambda: 0,
) -> T:
    """Return the result of `action`, with retries after a `TransientError`.

    Args:
        what: Name of the action, for the final error.
        num_arrived: Number of received bytes; progress resets the count of failures.
    """
    failures, most_bytes = 0, num_arrived()
    while True:
        try:
            return action()
        except TransientError as error:
            arrived = num_arrived()
            failures = 1 if arrived > most_bytes else failures + 1
            most_bytes = max(arrived, most_bytes)
            if failures > len(pauses_s):
                raise StageFailedError(
                    f"{what}: {error}; gave up after {failures} attempts without progress. "
                    "Check the "
                    "network (and HTTPS_PROXY), then run again"
                ) from error
            time.sleep(max(pauses_s[failures - 1], error.retry_after_s))


def download(
    url: str,
    target: Path,
    *,
    on_progress: OnProgress,
    sha256: str | None = None,
    advice: str = "",
    pauses_s: Sequence[float] = PAUSES_S,
) -> None:
    """Download `url` to `target`.

    Args:
        sha256: Of the file, if known: then the bytes of an earlier attempt are reused.
        advice: Appended to the error about a wrong checksum.

    Raises:
        StageFailedError: the download or the disk failed.
        IntegrityError: the checksum is not `sha256`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for path in (target, part):
        if sha256 is not None and path.is_file() and sha256_file(path) == sha256:
            path.replace(target)
            return

    is_joined = True
    while is_joined:
        is_joined = with_retries(
            lambda: _attempt(url, part, on_progress, resume=sha256 is not None),
            what=url,
            pauses_s=pauses_s,
            num_arrived=lambda: _size_bytes(part),
        )
        found = sha256_file(part) if sha256 is not None else None
        if found == sha256:
            part.replace(target)
            return
        part.unlink()
    raise IntegrityError(f"{url}: SHA-256 mismatch: got {found}, expected {sha256}{advice}")


def reason_of(error: BaseException) -> str:
    """The reason of an error, as the operating system states it if possible."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def disk_error(path: Path, error: OSError) -> StageFailedError:
    """The error of a file that cannot be written."""
    return StageFailedError(
        f"{path}: cannot write ({reason_of(error)}); check free disk space and permissions, "
        "then run "
        "again"
    )


def _attempt(url: str, part: Path, on_progress: OnProgress, *, resume: bool) -> bool:
    """Download the missing bytes; return True if they were joined to earlier ones."""
    offset = _size_bytes(part) if resume else 0
    headers = {
        "User-Agent": "continuum",
        "Accept-Encoding": "identity",  # lengths and ranges are of the file's own bytes
        **({"Range": f"bytes={offset}-"} if offset else {}),
    }
    # The system's certificates and SSL_CERT_FILE, not those of a package.
    trust = ssl.create_default_context()
    try:
        with httpx.stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT_S, verify=trust
        ) as response:
            _check_answer(url, response)
            place = response.headers.get("Content-Range", "")
            if response.status_code == 416 or (offset and response.status_code == 200):
                part.unlink(missing_ok=True)
                offset = 0
            if response.status_code == 416:
                raise TransientError("the server has fewer bytes than before")
            if response.status_code == 206 and not place.startswith(f"bytes {offset}-"):
                part.unlink(missing_ok=True)
                raise TransientError("the server sent another range than requested")
            _receive(url, response, part, offset, on_progress)
    except (httpx.TransportError, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise _unreachable(url, error) from error
    except (ImportError, ValueError) as error:  # an invalid proxy address
        raise StageFailedError(
            f"{url}: cannot use the proxy of the environment ({error}); correct HTTPS_PROXY, "
            "HTTP_PROXY and ALL_PROXY"
        ) from error
    return offset > 0


def _check_answer(url: str, response: httpx.Response) -> None:
    for before, after in pairwise(it.url for it in (*response.history, response)):
        if (before.scheme, after.scheme) == ("https", "http"):
            raise StageFailedError(
                f"{url}: redirected to an unencrypted address ({after}); if that is intended, use "
                "that address with its sha256"
            )
    status = response.status_code
    if status in TRANSIENT_STATUS:
        after_s = response.headers.get("Retry-After", "")
        delay_s = min(float(after_s), MAX_RETRY_AFTER_S) if after_s.isdecimal() else 0.0
        raise TransientError(f"HTTP status {status}", retry_after_s=delay_s)
    if status in {401, 403, 407}:
        advice = "access denied; download it by other means and use `path`"
    elif status in {404, 410}:
        advice = "not found; check the address in a browser"
    else:
        advice = "open the address in a browser to see why"
    if status not in {200, 206, 416}:
        raise StageFailedError(f"{url}: HTTP status {status}; {advice}")
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    is_the_files_own = httpx.URL(url).path.endswith((".gz", ".zst"))
    if encoding not in {"identity", ""} and not is_the_files_own:
        raise StageFailedError(
            f"{url}: the server ignores Accept-Encoding and compresses the file ({encoding}); "
            "download it by other means and use `path`"
        )


def _receive(
    url: str, response: httpx.Response, part: Path, offset: int, on_progress: OnProgress
) -> None:
    stated = response.headers.get("Content-Length", "")
    length = int(stated) if stated.isdecimal() else None
    free = shutil.disk_usage(part.parent).free
    if length is not None and length + SPARE_BYTES > free:
        raise StageFailedError(
            f"{url}: not enough disk space: {length:,} bytes needed, {free:,} free in "
            f"{part.parent}; free some space, then run again"
        )
    done = offset
    try:
        with part.open("ab" if offset else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                file.flush()  # keeps the received bytes if the process is killed
                done += len(chunk)
                on_progress(done, None if length is None else offset + length)
    except OSError as error:
        raise disk_error(part, error) from error


def _unreachable(url: str, error: Exception) -> Exception:
    reason = reason_of(error)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return StageFailedError(
            f"{url}: certificate verification failed ({reason}); set SSL_CERT_FILE to the "
            "certificates of your network, or check the system clock"
        )
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects)):
        return StageFailedError(f"{url}: invalid address ({reason})")
    return TransientError(f"the connection failed ({reason})")


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
