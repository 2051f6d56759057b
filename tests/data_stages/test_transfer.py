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
from continuum.sources.transfer import Remote, RetryPolicy, download
from tests.servers.texts import TextServer, serve_texts

BODY = b"".join(b"line %06d of a book\n" % number for number in range(5000))
OTHER = BODY.upper()
QUICK = RetryPolicy(max_failures=3, first_delay_s=0.01)


@pytest.fixture
def texts() -> Iterator[TextServer]:
    with serve_texts({"/book.txt": BODY}) as server:
        yield server


def fetch(texts: TextServer, folder: Path, *, sha256: str | None = None) -> bytes:
    def check(path: Path) -> str | None:
        is_right = sha256 in {None, hashlib.sha256(path.read_bytes()).hexdigest()}
        return None if is_right else "other bytes"

    remote = Remote(f"{texts.url}/book.txt", check=check if sha256 else None)
    download(remote, folder / "book", on_progress=lambda *_: None, retry=QUICK)
    return (folder / "book").read_bytes()


def test_a_dropped_connection_is_resumed_where_it_broke(texts: TextServer, tmp_path: Path) -> None:
    texts.drop_after = [40_000, 20_000]
    assert fetch(texts, tmp_path) == BODY
    assert [request.first_byte for request in texts.requests] == [0, 40_000, 60_000]


@pytest.mark.parametrize("validator", ["etag", "date"])
def test_a_resumed_request_names_the_version_it_continues(
    validator: str, texts: TextServer, tmp_path: Path
) -> None:
    texts.validator, texts.drop_after = validator, [40_000]
    assert fetch(texts, tmp_path) == BODY
    (expected,) = texts.validators(BODY).values()
    assert texts.requests[1].headers["If-Range"] == expected


@pytest.mark.parametrize("validator", ["weak", "none"])
def test_without_a_strong_validator_the_file_is_fetched_anew(
    validator: str, texts: TextServer, tmp_path: Path
) -> None:
    texts.validator, texts.drop_after = validator, [40_000]
    assert fetch(texts, tmp_path) == BODY
    assert [request.first_byte for request in texts.requests] == [0, 0]


def test_a_date_too_fresh_to_tell_versions_apart_is_not_trusted(
    texts: TextServer, tmp_path: Path
) -> None:
    texts.validator, texts.modified_at, texts.drop_after = "date", time.time(), [40_000]
    assert fetch(texts, tmp_path) == BODY
    assert "Range" not in texts.requests[1].headers


@pytest.mark.parametrize("honours", [True, False], ids=["with If-Range", "ignoring If-Range"])
def test_bytes_of_two_versions_are_never_joined(
    *, honours: bool, texts: TextServer, tmp_path: Path
) -> None:
    texts.drop_after, texts.honours_if_range = [40_000], honours
    with pytest.raises(StageFailedError):
        download(
            Remote(f"{texts.url}/book.txt"),
            tmp_path / "book",
            on_progress=lambda *_: None,
            retry=RetryPolicy(max_failures=1),
        )
    texts.files["/book.txt"] = OTHER
    assert fetch(texts, tmp_path) == OTHER


def test_a_server_without_ranges_sends_the_file_again(texts: TextServer, tmp_path: Path) -> None:
    texts.understands_range, texts.drop_after = False, [40_000]
    assert fetch(texts, tmp_path) == BODY


def test_a_file_without_a_stated_length_arrives(texts: TextServer, tmp_path: Path) -> None:
    texts.says_length = False
    assert fetch(texts, tmp_path) == BODY


def test_an_overloaded_server_is_asked_again(texts: TextServer, tmp_path: Path) -> None:
    texts.unavailable = 2
    assert fetch(texts, tmp_path) == BODY


def test_a_server_that_stays_overloaded_is_an_error(texts: TextServer, tmp_path: Path) -> None:
    texts.unavailable = 99
    with pytest.raises(StageFailedError, match=r"book\.txt: the server answered 503; tried again"):
        fetch(texts, tmp_path)
    assert len(texts.requests) == QUICK.max_failures


def test_a_connection_that_always_breaks_at_one_place_is_given_up(
    texts: TextServer, tmp_path: Path
) -> None:
    texts.understands_range, texts.drop_after = False, [40_000] * 99
    with pytest.raises(StageFailedError, match="ended after 40,000 of 110,000 bytes"):
        fetch(texts, tmp_path)
    assert len(texts.requests) <= QUICK.max_failures + 1


def test_a_complete_file_of_an_earlier_attempt_is_only_confirmed(
    texts: TextServer, tmp_path: Path
) -> None:
    fetch(texts, tmp_path)
    assert fetch(texts, tmp_path) == BODY
    assert texts.requests[1].headers["If-None-Match"] == texts.etag(BODY)
    texts.files["/book.txt"] = OTHER
    assert fetch(texts, tmp_path) == OTHER


def test_a_complete_file_with_the_stated_hash_needs_no_server(
    texts: TextServer, tmp_path: Path
) -> None:
    for _ in range(2):
        fetch(texts, tmp_path, sha256=hashlib.sha256(BODY).hexdigest())
    assert len(texts.requests) == 1


def test_a_resumed_file_with_wrong_bytes_is_fetched_once_more(
    texts: TextServer, tmp_path: Path
) -> None:
    texts.drop_after = [40_000, 0, 0]
    with pytest.raises(StageFailedError):
        fetch(texts, tmp_path)
    part = tmp_path / "book.part"
    part.write_bytes(b"#" * part.stat().st_size)
    assert fetch(texts, tmp_path, sha256=hashlib.sha256(BODY).hexdigest()) == BODY


def test_wrong_bytes_are_an_integrity_error_and_are_not_kept(
    texts: TextServer, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match=r"book\.txt: other bytes"):
        fetch(texts, tmp_path, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "use `path`"), (403, "use `path`"), (404, "no such file"), (410, "no such file")],
)
def test_a_refusal_says_what_to_do(
    status: int, advice: str, texts: TextServer, tmp_path: Path
) -> None:
    texts.status = status
    with pytest.raises(StageFailedError, match=f"answered {status}; .*{advice}"):
        fetch(texts, tmp_path)
    assert len(texts.requests) == 1


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        remote = Remote(f"http://127.0.0.1:{port}/book.txt")
        with pytest.raises(StageFailedError, match=r"Connection refused.*Check the network"):
            download(remote, tmp_path / "b", on_progress=lambda *_: None, retry=QUICK)


def test_a_file_larger_than_the_disk_is_refused_at_once(texts: TextServer, tmp_path: Path) -> None:
    texts.claimed_length = 10**17
    with pytest.raises(StageFailedError, match="100,000,000,000,000,000 bytes are to come"):
        fetch(texts, tmp_path)


def test_an_unasked_compression_is_refused(texts: TextServer, tmp_path: Path) -> None:
    texts.content_encoding = "br"
    with pytest.raises(StageFailedError, match=r"compressed \(br\)"):
        fetch(texts, tmp_path)


def test_a_token_does_not_follow_a_redirect_to_another_host(
    texts: TextServer, tmp_path: Path
) -> None:
    with serve_texts() as other:
        other.redirects["/here"] = f"{texts.url}/book.txt"
        remote = Remote(f"{other.url}/here", {"Authorization": "Bearer secret"})
        download(remote, tmp_path / "b", on_progress=lambda *_: None, retry=QUICK)
    assert other.requests[0].headers["Authorization"] == "Bearer secret"
    assert "Authorization" not in texts.requests[0].headers
    assert "secret" not in repr(remote)


def test_a_proxy_of_the_environment_is_used(
    texts: TextServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "http://books.invalid/book.txt"
    texts.files[address] = OTHER
    monkeypatch.setenv("http_proxy", texts.url)
    monkeypatch.setenv("no_proxy", "")
    download(Remote(address), tmp_path / "b", on_progress=lambda *_: None, retry=QUICK)
    assert (tmp_path / "b").read_bytes() == OTHER


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_an_untrusted_certificate_says_which_variable_helps(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout {key}"
    subprocess.run([*command.split(), "-out", certificate], check=True, capture_output=True)
    with serve_texts({"/book.txt": BODY}, certificate=(certificate, key)) as secure:
        remote = Remote(f"{secure.url}/book.txt")
        with pytest.raises(StageFailedError, match=r"not trusted .*set SSL_CERT_FILE"):
            download(remote, tmp_path / "b", on_progress=lambda *_: None, retry=QUICK)


CHILD = """
import sys
from pathlib import Path
from continuum.sources.transfer import Remote, download
download(Remote(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda *_: None)
"""


def test_a_killed_download_goes_on_from_the_bytes_that_arrived(
    texts: TextServer, tmp_path: Path
) -> None:
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
from continuum.sources.transfer import Remote, download
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    download(Remote(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda *_: None)
except StageFailedError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_an_error_with_advice(
    texts: TextServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LIMITED, f"{texts.url}/book.txt", str(tmp_path / "book")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "book.part: cannot be written (File too large); make room" in printed
