"""One HTTP request: its answer, or an error that says what to do.

The standard library's client is used because it reads proxies and certificates from the environment
at every call, holds no pool that a forked worker would share, and shows every header.
"""

import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

from continuum.errors import StageFailedError

TIMEOUT_S = 60.0
"""How long a silent server is waited for."""
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_RETRY_AFTER_S = 60.0


class TransientError(Exception):
    """What may well work when it is tried again."""

    def __init__(
        self, reason: str, *, retry_after_s: float = 0.0, must_restart: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.must_restart = must_restart
        """What has arrived so far is of no use."""


class RefusedError(StageFailedError):
    """The server answered, and said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def open_url(url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse | None:
    """The answer, with its bytes yet to be read; None for "not modified".

    Raises:
        TransientError: worth trying again.
        RefusedError: the server will not send it.
        StageFailedError: it cannot be had otherwise.
    """
    fixed = {
        "User-Agent": "continuum",
        "Accept-Encoding": "identity",  # the file's own bytes, so that lengths and ranges mean them
    }
    request = urllib.request.Request(url, headers={**fixed, **headers})
    opener = urllib.request.build_opener(_CarefulRedirects())
    try:
        response = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304:
                return None
            raise _refusal(url, error.code, error.headers) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    assert isinstance(response, http.client.HTTPResponse)
    _refuse_content_encoding(response, url)
    return response


def strong_etag(headers: Message) -> str | None:
    """The ETag, when it promises equal bytes; a weak one (`W/…`) promises less."""
    etag = headers.get("ETag")
    return etag if etag and etag.startswith('"') else None


def strong_date(headers: Message) -> str | None:
    """Last-Modified, unless the file may have changed again within that same second."""
    modified, now = headers.get("Last-Modified"), headers.get("Date")
    try:
        elapsed = parsedate_to_datetime(now or "") - parsedate_to_datetime(modified or "")
    except (TypeError, ValueError):
        return None
    return modified if elapsed.total_seconds() >= 1 else None


def content_length(headers: Message) -> int | None:
    """The number of bytes to come; None when the server does not say."""
    length = headers.get("Content-Length")
    return int(length) if length is not None and length.isdecimal() else None


def words(error: object) -> str:
    """What went wrong, in the operating system's words where there are some."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__


def _refuse_content_encoding(response: http.client.HTTPResponse, url: str) -> None:
    encoding = (response.headers.get("Content-Encoding") or "identity").lower()
    is_the_files_own = urllib.parse.urlsplit(url).path.endswith((".gz", ".zst"))
    if encoding not in {"identity", ""} and not is_the_files_own:
        response.close()
        raise StageFailedError(
            f"{url}: the server sends it compressed ({encoding}) although it was asked not to; "
            "download it by other means and use `path`"
        )


def _refusal(url: str, status: int, headers: Message) -> Exception:
    if status in TRANSIENT_STATUS:
        after = headers.get("Retry-After") or ""
        delay = min(float(after), MAX_RETRY_AFTER_S) if after.isdecimal() else 0.0
        return TransientError(f"the server answered {status}", retry_after_s=delay)
    if status == 416:
        return TransientError("the server has fewer bytes than before", must_restart=True)
    if status in {401, 403, 407}:
        advice = "it is not open to everyone; download it by other means and use `path`"
    elif status in {404, 410}:
        advice = "there is no such file; check the address in a browser"
    else:
        advice = "open the address in a browser to see why"
    return RefusedError(f"{url}: the server answered {status}; {advice}", status)


def _unreachable(url: str, error: Exception) -> Exception:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StageFailedError(
            f"{url}: the server's certificate is not trusted ({cause.verify_message}); set "
            "SSL_CERT_FILE to the certificates your network uses, or check this machine's clock"
        )
    if isinstance(cause, http.client.InvalidURL):
        return StageFailedError(f"{url}: not a usable address ({cause})")
    return TransientError(f"cannot reach the server ({words(cause)})")


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but takes no token to another host and leaves no encryption."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (old.scheme, new.scheme) == ("https", "http"):
            fp.close()
            raise StageFailedError(
                f"{req.full_url}: redirected to an unencrypted address ({newurl}); "
                "use that address itself, with its sha256, if it is right"
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and old.netloc != new.netloc:
            request.remove_header("Authorization")
        return request
