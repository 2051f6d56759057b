"""Downloads over real sockets: dropped, resumed, changed, refused."""

import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum.errors import IntegrityError, StageFailedError
from continuum.runs.address import address_of
from continuum.sources.transfer import download
from tests.servers.texts import TextServer, serve_texts

BODY = b"".join(b"line %06d of a book\n" % number for number in range(5000))
OTHER = BODY.upper()
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = (0.01, 0.01)


@pytest.fixture
def texts() -> Iterator[TextServer]:
    with serve_texts({"/book.txt": BODY}) as server:
        yield server


def fetch(texts: TextServer, folder: Path, *, sha256: str | None = SHA256) -> bytes:
    get(f"{texts.url}/book.txt", folder / "book", sha256)
    return (folder / "book").read_bytes()


def get(url: str, target: Path, sha256: str | None = None) -> None:
    download(address_of(url), target, on_progress=lambda *_: None, sha256=sha256, pauses_s=QUICK)


def test_a_dropped_connection_is_resumed_where_it_broke(texts: TextServer, tmp_path: Path) -> None:
    texts.drop_after = [40_000, 20_000]
    assert fetch(texts, tmp_path) == BODY
    assert [request.first_byte for request in texts.requests] == [0, 40_000, 60_000]


def test_without_a_sha256_every_attempt_begins_at_zero(texts: TextServer, tmp_path: Path) -> None:
    texts.drop_after = [40_000]
    (tmp_path / "book.part").write_bytes(OTHER[:50_000])
    assert fetch(texts, tmp_path, sha256=None) == BODY
    assert [request.first_byte for request in texts.requests] == [0, 0]


def test_bytes_of_two_versions_are_never_kept(texts: TextServer, tmp_path: Path) -> None:
    (tmp_path / "book.part").write_bytes(OTHER[:40_000])
    assert fetch(texts, tmp_path) == BODY
    assert [request.first_byte for request in texts.requests] == [40_000, 0]


@pytest.mark.parametrize("size", [len(BODY), 2 * len(BODY)])
def test_a_part_as_long_as_the_file_or_longer_is_no_obstacle(
    size: int, texts: TextServer, tmp_path: Path
) -> None:
    (tmp_path / "book.part").write_bytes((BODY if size == len(BODY) else OTHER * 2)[:size])
    assert fetch(texts, tmp_path) == BODY
    assert len(texts.requests) == (0 if size == len(BODY) else 2)


def test_a_server_without_ranges_sends_the_file_again(texts: TextServer, tmp_path: Path) -> None:
    texts.understands_range, texts.drop_after = False, [40_000]
    assert fetch(texts, tmp_path) == BODY


def test_another_part_than_asked_for_is_not_joined(texts: TextServer, tmp_path: Path) -> None:
    texts.range_shift, texts.drop_after = 1, [40_000]
    assert fetch(texts, tmp_path) == BODY
    assert [request.first_byte for request in texts.requests] == [0, 40_000, 0]


def test_a_file_without_a_stated_length_arrives(texts: TextServer, tmp_path: Path) -> None:
    texts.stated_length = ""
    assert fetch(texts, tmp_path) == BODY


def test_an_overloaded_server_is_asked_again(texts: TextServer, tmp_path: Path) -> None:
    texts.unavailable = 2
    assert fetch(texts, tmp_path / "whole") == BODY
    texts.requests, texts.unavailable = [], 99
    with pytest.raises(StageFailedError, match="HTTP status 503; gave up after 3 attempts"):
        fetch(texts, tmp_path)
    assert len(texts.requests) == 3


def test_a_connection_that_always_breaks_at_one_place_is_given_up(
    texts: TextServer, tmp_path: Path
) -> None:
    texts.understands_range, texts.drop_after = False, [40_000] * 99
    with pytest.raises(StageFailedError, match="received 40000 bytes, expected 110000"):
        fetch(texts, tmp_path)
    assert len(texts.requests) <= 4


def test_a_complete_file_with_the_stated_hash_needs_no_server(
    texts: TextServer, tmp_path: Path
) -> None:
    for _ in range(2):
        fetch(texts, tmp_path)
    assert len(texts.requests) == 1


def test_wrong_bytes_are_an_integrity_error_and_are_not_kept(
    texts: TextServer, tmp_path: Path
) -> None:
    with pytest.raises(
        IntegrityError,
        match=r"book\.txt: SHA-256 mismatch: got .*, expected "
        r"0{64}",
    ):
        fetch(texts, tmp_path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "use `path`"), (403, "use `path`"), (404, "not found"), (410, "not found")],
)
def test_a_refusal_says_what_to_do(
    status: int, advice: str, texts: TextServer, tmp_path: Path
) -> None:
    texts.status = status
    with pytest.raises(StageFailedError, match=f"HTTP status {status}; .*{advice}"):
        fetch(texts, tmp_path)
    assert len(texts.requests) == 1


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(StageFailedError, match=r"Connection refused.*Check the network"):
            get(f"http://127.0.0.1:{port}/book.txt", tmp_path / "b")


def test_a_file_larger_than_the_disk_is_refused_at_once(texts: TextServer, tmp_path: Path) -> None:
    texts.stated_length = str(10**17)
    with pytest.raises(StageFailedError, match="100,000,000,000,000,000 bytes needed"):
        fetch(texts, tmp_path)


def test_an_unasked_compression_is_refused(texts: TextServer, tmp_path: Path) -> None:
    texts.content_encoding = "br"
    with pytest.raises(StageFailedError, match=r"compresses the file \(br\)"):
        fetch(texts, tmp_path)


def test_a_redirect_is_followed(texts: TextServer, tmp_path: Path) -> None:
    texts.redirects["/here"] = f"{texts.url}/book.txt"
    get(f"{texts.url}/here", tmp_path / "b", SHA256)


def test_redirects_without_an_end_are_an_error(texts: TextServer, tmp_path: Path) -> None:
    texts.redirects["/here"] = f"{texts.url}/here"
    with pytest.raises(
        StageFailedError, match=r"redirected to .*, the last of 21 redirects in a loop"
    ):
        get(f"{texts.url}/here", tmp_path / "b")


def test_a_proxy_of_the_environment_is_used(
    texts: TextServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://books.invalid/book.txt"
    texts.files[address] = OTHER
    monkeypatch.setenv("http_proxy", texts.url)
    monkeypatch.setenv("no_proxy", "")
    get(address, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == OTHER


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://x"])
def test_a_proxy_that_cannot_be_used_is_named(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(StageFailedError, match=r"the proxy .*correct HTTPS_PROXY"):
        get("http://books.invalid/book.txt", tmp_path / "b")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_encryption_is_by_trusted_certificates_and_is_not_left(
    texts: TextServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    with serve_texts({"/book.txt": BODY}, certificate=(certificate, key)) as secure:
        with pytest.raises(
            StageFailedError, match=r"certificate verification failed .*set SSL_CERT_FILE"
        ):
            fetch(secure, tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(secure, tmp_path) == BODY
        secure.redirects["/away"] = f"{texts.url}/book.txt"
        texts.requests.clear()
        with pytest.raises(StageFailedError, match=r"redirected to an unencrypted address"):
            get(f"{secure.url}/away", tmp_path / "b")


CHILD = """
import sys
from pathlib import Path
from continuum.runs.address import address_of
from continuum.sources.transfer import download
download(address_of(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda *_: None)
"""


def test_a_killed_download_resumes(texts: TextServer, tmp_path: Path) -> None:
    texts.pause_s = 0.05
    part = tmp_path / "book.part"
    command = [sys.executable, "-c", CHILD, f"{texts.url}/book.txt", str(tmp_path / "book")]
    with subprocess.Popen(command) as child:
        while not part.exists() or part.stat().st_size < 20_000:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    texts.pause_s = 0.0
    arrived = part.stat().st_size
    assert fetch(texts, tmp_path) == BODY
    assert 0 < arrived < len(BODY)
    assert texts.requests[-1].first_byte == arrived


LIMITED = """
import resource, sys
from pathlib import Path
from continuum.errors import StageFailedError
from continuum.runs.address import address_of
from continuum.sources.transfer import download
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    download(address_of(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda *_: None)
except StageFailedError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_an_error_with_advice(
    texts: TextServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LIMITED, f"{texts.url}/book.txt", str(tmp_path / "book")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "book.part: cannot write (File too large); raise the limit of 50,000 bytes" in printed


@pytest.fixture
def elsewhere() -> Iterator[TextServer]:
    """Another host: the same address by another name."""
    with serve_texts({"/book.txt": BODY}) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        yield server


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///etc/passwd", r"redirected to file:///etc/passwd, which is not an http or"),
        ("ftp://h/b.txt?token=canary", r"redirected to ftp://h/b.txt\?token=<redacted>, which is"),
        ("http://host:port/", r"redirected to an invalid address \("),
    ],
)
def test_a_redirect_that_is_not_followed_says_where_to(
    location: str, message: str, texts: TextServer, tmp_path: Path
) -> None:
    texts.redirects["/here"] = location
    with pytest.raises(StageFailedError, match=message):
        get(f"{texts.url}/here", tmp_path / "b")
    assert len(texts.requests) == 1


def test_an_error_after_a_redirect_says_where_it_comes_from(
    texts: TextServer, elsewhere: TextServer, tmp_path: Path
) -> None:
    texts.redirects["/here"] = f"{elsewhere.url}/gone.txt?sig=canary"
    message = rf"HTTP status 404 from {elsewhere.url}/gone.txt\?sig=<redacted>, where it redirects"
    with pytest.raises(StageFailedError, match=message) as caught:
        get(f"{texts.url}/here", tmp_path / "b")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "address", ["{}/here?token=${{env.BOOKS}}", "http://me:${{env.BOOKS}}@{}/here"]
)
def test_credentials_that_a_redirect_drops_are_named(
    address: str,
    status: int,
    texts: TextServer,
    elsewhere: TextServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BOOKS", "canary")
    is_user = "@" in address
    url = address.format(texts.url.removeprefix("http://") if is_user else texts.url)
    texts.redirects["/here" if is_user else "/here?token=canary"] = f"{elsewhere.url}/book.txt"
    elsewhere.status = status
    host = elsewhere.url.removeprefix("http://")
    with pytest.raises(StageFailedError, match=f"were not sent on to {host}") as caught:
        get(url, tmp_path / "b")
    assert "canary" not in str(caught.value)
    assert [request.headers.get("authorization") for request in elsewhere.requests] == [None]
    assert ("Authorization" in texts.requests[0].headers) is is_user
