"""Downloads files over HTTP; a target is complete or absent.

Received bytes are kept beside the target as `<name>.part`. If the file's SHA-256 is known, a later
attempt, in this process or after a kill, requests the rest: the hash proves the joined bytes.
Otherwise every attempt starts at zero, so that bytes of two versions are never joined.
"""

import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

from continuum.disk_errors import FULL, disk_remedy
from continuum.errors import IntegrityError, StageFailedError
from continuum.runs.address import Address
from continuum.runs.files import sha256_file

TIMEOUT_S = 60.0
"""Read timeout."""
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_RETRY_AFTER_S = 60.0
MAX_REDIRECTS = 20
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
    address: Address,
    target: Path,
    *,
    on_progress: OnProgress,
    sha256: str | None = None,
    advice: str = "",
    pauses_s: Sequence[float] = PAUSES_S,
) -> None:
    """Download a file to `target`.

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
            lambda: _attempt(address, part, on_progress, resume=sha256 is not None),
            what=str(address),
            pauses_s=pauses_s,
            num_arrived=lambda: _size_bytes(part),
        )
        found = sha256_file(part) if sha256 is not None else None
        if found == sha256:
            part.replace(target)
            return
        part.unlink()
    raise IntegrityError(f"{address}: SHA-256 mismatch: got {found}, expected {sha256}{advice}")


def reason_of(error: BaseException) -> str:
    """The reason of an error, as the operating system states it if possible."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def disk_error(path: Path, error: OSError) -> StageFailedError:
    """The error of a file that cannot be written."""
    remedy = disk_remedy(error, path) if error.errno in FULL else "check permissions and the disk"
    return StageFailedError(f"{path}: cannot write ({reason_of(error)}); {remedy} and run again")


def _attempt(address: Address, part: Path, on_progress: OnProgress, *, resume: bool) -> bool:
    """Download the missing bytes; return True if they were joined to earlier ones."""
    offset = _size_bytes(part) if resume else 0
    headers = {
        "User-Agent": "continuum",
        "Accept-Encoding": "identity",  # lengths and ranges are of the file's own bytes
        **({"Range": f"bytes={offset}-"} if offset else {}),
    }
    # The text of an error of the library may hold the URL, so no error is raised `from` it.
    try:
        with _response(address, headers) as response:
            _check_answer(address, response)
            place = response.headers.get("Content-Range", "")
            if response.status_code == 416 or (offset and response.status_code == 200):
                part.unlink(missing_ok=True)
                offset = 0
            if response.status_code == 416:
                raise TransientError("the server has fewer bytes than before")
            if response.status_code == 206 and not place.startswith(f"bytes {offset}-"):
                part.unlink(missing_ok=True)
                raise TransientError("the server sent another range than requested")
            _receive(address, response, part, offset, on_progress)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise _unreachable(address, error) from None
    except (ImportError, ValueError) as error:  # an invalid proxy address
        raise StageFailedError(
            f"{address}: cannot use the proxy of the environment ({address.hide(str(error))}); "
            "correct HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
        ) from None
    return offset > 0


@contextmanager
def _response(address: Address, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
    """The answer to a request, after redirects; its body is not read yet.

    Raises:
        StageFailedError: a redirect is not followed.
    """
    # The system's certificates and SSL_CERT_FILE, not those of a package.
    trust = ssl.create_default_context()
    with httpx.Client(timeout=TIMEOUT_S, verify=trust) as client:
        request = client.build_request("GET", address.url, headers=headers)
        history: list[httpx.Response] = []
        while True:
            response = client.send(request, stream=True)
            try:
                if response.next_request is None:
                    response.history = history
                    yield response
                    return
            finally:
                response.close()
            history.append(response)
            request = response.next_request
            _check_redirect(address, history, request.url)


def _check_redirect(address: Address, history: Sequence[httpx.Response], url: httpx.URL) -> None:
    """Refuse a redirect that is never followed.

    Args:
        history: The redirects, the last one to `url`.
    """
    location, seen = history[-1].headers["Location"], [it.url for it in history]
    to = address.hide(location if "://" in location else str(url))
    if url.scheme not in {"http", "https"}:
        problem, advice = f"{to}, which is not an http or https URL", ""
    elif (seen[-1].scheme, url.scheme) == ("https", "http"):
        problem = f"an unencrypted address ({to})"
        advice = "; if that is intended, use that address with its sha256"
    elif len(seen) > MAX_REDIRECTS:
        is_loop = len(set(seen)) < len(seen)
        problem = f"{to}, the last of {len(seen)} redirects{' in a loop' if is_loop else ''}"
        advice = "; open the address in a browser to see what it asks for"
    else:
        return
    raise StageFailedError(f"{address}: redirected to {problem}{advice}")


def _check_answer(address: Address, response: httpx.Response) -> None:
    status, where = response.status_code, ""
    if response.history:
        where = f" from {address.hide(str(response.url))}, where it redirects"
    if status in TRANSIENT_STATUS:
        after_s = response.headers.get("Retry-After", "")
        delay_s = min(float(after_s), MAX_RETRY_AFTER_S) if after_s.isdecimal() else 0.0
        raise TransientError(f"HTTP status {status}{where}", retry_after_s=delay_s)
    if status in {401, 403, 407}:
        advice = "access denied; download it by other means and use `path`"
        if lost := _left_behind(address, response):
            advice = f"{lost}; use the address that needs none, or that of the file itself"
        elif address.has_credentials:
            advice = "access denied; check the credentials in the URL"
    elif status in {404, 410}:
        advice = "not found; check the address in a browser"
    else:
        advice = "open the address in a browser to see why"
    if status not in {200, 206, 416}:
        raise StageFailedError(f"{address}: HTTP status {status}{where}; {advice}")
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    is_the_files_own = httpx.URL(address.url).path.endswith((".gz", ".zst"))
    if encoding not in {"identity", ""} and not is_the_files_own:
        raise StageFailedError(
            f"{address}: the server ignores Accept-Encoding and compresses the file ({encoding}); "
            "download it by other means and use `path`"
        )


def _left_behind(address: Address, response: httpx.Response) -> str:
    """The credentials that a redirect to another host dropped; empty if there are none."""
    last = response.url
    is_elsewhere = bool(response.history) and response.history[0].url.netloc != last.netloc
    # A server may repeat the query; httpx never sends a user and password to another host.
    is_repeated = address.hide(str(last)) != str(last)
    if not (is_elsewhere and address.has_credentials) or is_repeated:
        return ""
    return f"access denied; the credentials in the URL were not sent on to {last.netloc.decode()}"


def _receive(
    address: Address, response: httpx.Response, part: Path, offset: int, on_progress: OnProgress
) -> None:
    stated = response.headers.get("Content-Length", "")
    length = int(stated) if stated.isdecimal() else None
    free = shutil.disk_usage(part.parent).free
    if length is not None and length + SPARE_BYTES > free:
        raise StageFailedError(
            f"{address}: not enough disk space: {length:,} bytes needed, {free:,} free in "
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


def _unreachable(address: Address, error: Exception) -> Exception:
    reason = address.hide(reason_of(error))
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return StageFailedError(
            f"{address}: certificate verification failed ({reason}); set SSL_CERT_FILE to the "
            "certificates of your network, or check the system clock"
        )
    if "location header" in reason:
        return StageFailedError(f"{address}: redirected to an invalid address ({reason})")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return StageFailedError(f"{address}: invalid address ({reason})")
    return TransientError(f"the connection failed ({reason})")


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
