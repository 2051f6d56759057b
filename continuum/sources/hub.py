"""Downloads files of a Hugging Face repository at one commit, and verifies the Hub's hashes.

`huggingface_hub` resolves the revision to a commit, lists the files with their hashes and downloads
them, resuming earlier attempts; it only compares sizes, so the hashes are verified here. The
environment is read at each call: a forked worker may have imported the library long before.

With HF_HUB_OFFLINE the files come from the library's cache, which is also used online.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, errors, get_token, hf_hub_download, snapshot_download
from huggingface_hub.utils.sha import git_hash
from huggingface_hub.utils.tqdm import tqdm

from continuum.errors import IntegrityError, PreflightError, StageFailedError
from continuum.runs.files import sha256_file
from continuum.runs.redaction import without_credentials, without_secrets
from continuum.sources.local_files import copy_file
from continuum.sources.transfer import (
    PAUSES_S,
    OnProgress,
    TransientError,
    disk_error,
    reason_of,
    with_retries,
)

TRUE_WORDS = frozenset({"1", "on", "yes", "true"})
DEFAULT_ENDPOINT = "https://huggingface.co"
API_TIMEOUT_S = 30.0
LOGIN = "set HF_TOKEN to a token with read access (or run `hf auth login`)"
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
GIT_SHA1_PATTERN = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository and its hash."""

    name: str
    size_bytes: int | None
    hash: str
    """SHA-256 for large files, else Git's SHA-1 of the blob; empty if the Hub states none."""
    cached: Path | None = None
    """Its path in the library's cache, when offline."""

    def mismatch(self, path: Path) -> str | None:
        """How the file at `path` differs; None if it does not."""
        size = path.stat().st_size
        if self.size_bytes is not None and size != self.size_bytes:
            return f"got {size:,} bytes, expected {self.size_bytes:,}"
        is_sha256 = SHA256_PATTERN.fullmatch(self.hash) is not None
        found = sha256_file(path) if is_sha256 else git_hash(path.read_bytes())
        if self.hash and found != self.hash:
            return f"hash mismatch: got {found}, expected {self.hash}; try again"
        return None


@dataclass(frozen=True)
class HubRevision:
    """A repository's files at one commit."""

    repo: str
    revision: str
    """As requested."""
    commit: str
    files: tuple[HubFile, ...]

    def named(self, name: str) -> HubFile | None:
        """The file of this name; None if there is none."""
        return next((file for file in self.files if file.name == name), None)

    def __str__(self) -> str:
        return f"{self.repo} at revision {self.revision} (commit {self.commit[:12]})"


def resolve(repo: str, revision: str, *, pauses_s: Sequence[float] = PAUSES_S) -> HubRevision:
    """Resolve a branch, tag or commit to a commit and its files.

    Raises:
        PreflightError: the repository or revision is not found, or access is denied.
        StageFailedError: the Hub cannot be reached.
    """
    if is_offline():
        return _resolve_in_cache(repo, revision)
    api = HfApi(endpoint=endpoint(), token=get_token() or False, library_name="continuum")

    def ask() -> Any:
        with _translated_errors(repo, revision):
            return api.model_info(
                repo, revision=revision, files_metadata=True, timeout=API_TIMEOUT_S
            )

    what = f"{repo} at revision {revision}, from {_shown_endpoint()}"
    info = with_retries(ask, what=what, pauses_s=pauses_s)
    listed = (
        HubFile(
            name=entry.rfilename,
            size_bytes=entry.size,
            hash=(entry.lfs.sha256 if entry.lfs is not None else entry.blob_id) or "",
        )
        for entry in info.siblings or ()
    )
    return HubRevision(repo, revision, info.sha, tuple(listed))


def fetch_file(
    revision: HubRevision, file: HubFile, folder: Path, *, on_progress: OnProgress
) -> None:
    """Download `file` into `folder`, resuming an earlier attempt.

    Raises:
        PreflightError: access is denied.
        StageFailedError: the download or the disk failed.
        IntegrityError: the size or hash is wrong.
    """
    target = folder / file.name
    if file.cached is not None:
        copy_file(file.cached, target, on_progress)
        if mismatch := file.mismatch(target):
            raise IntegrityError(f"{file.cached}: {mismatch}")
        return
    must_restart = False

    def attempt() -> None:
        nonlocal must_restart
        try:
            with _translated_errors(revision.repo, revision.revision, target):
                hf_hub_download(
                    revision.repo,
                    file.name,
                    revision=revision.commit,
                    cache_dir=_cache_dir(),
                    local_dir=folder,
                    force_download=must_restart,
                    endpoint=endpoint(),
                    token=get_token() or False,
                    library_name="continuum",
                    tqdm_class=_bar(on_progress),
                )
            if mismatch := file.mismatch(target):
                raise _WrongBytesError(mismatch)
        except _WrongBytesError as error:
            if must_restart:
                raise IntegrityError(f"{revision}: {file.name}: {error}") from error
            must_restart = True
            raise

    def num_arrived() -> int:
        return sum(path.stat().st_size for path in folder.rglob("*.incomplete"))

    with_retries(attempt, what=f"{revision}: {file.name}", num_arrived=num_arrived)


class _WrongBytesError(TransientError):
    """The bytes received so far are wrong."""


def endpoint() -> str:
    """The URL of the Hub, or of the mirror in HF_ENDPOINT."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def _shown_endpoint() -> str:
    return without_credentials(endpoint())


def is_offline() -> bool:
    """True if the environment forbids access to the Hub."""
    stated = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return stated.lower() in TRUE_WORDS


def _bar(on_progress: OnProgress) -> type[tqdm]:
    """A progress bar for the library that reports instead of drawing."""

    class Bar(tqdm):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n
            on_progress(int(self.n), self.total)

    return Bar


@contextmanager
def _translated_errors(repo: str, revision: str, target: Path | None = None) -> Iterator[None]:
    """Translate the library's errors.

    Args:
        target: The file that is written, if any.
    """
    try:
        yield
    except (httpx.HTTPError, ImportError, OSError, RuntimeError, ValueError) as error:
        cause: BaseException = error
        if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
            cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refusal(cause, repo, revision) from None  # it repeats the server's answer
        if isinstance(cause, OSError) and cause.errno is not None and target is not None:
            raise disk_error(target, cause) from error
        if isinstance(cause, OSError) and "Consistency check failed" in str(cause):
            raise _WrongBytesError("the size is not the one the Hub states") from error
        reason = without_secrets(reason_of(cause))
        raise TransientError(
            f"cannot reach the Hub ({reason}); check HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use "
            "cached files"
        ) from error


def _refusal(error: errors.HfHubHTTPError, repo: str, revision: str) -> Exception:
    what, status = f"{repo} at revision {revision}", error.response.status_code
    where = f"{what}, from {_shown_endpoint()}"
    host = error.response.url.host
    if host != httpx.URL(endpoint()).host and status in {401, 403, 404}:
        return StageFailedError(
            f"{where}: redirected to {host}, which answers with HTTP status {status}; the token is "
            "not sent on to another host: set HF_ENDPOINT to a mirror that serves the files itself"
        )
    if isinstance(error, errors.GatedRepoError):
        page = f"{_shown_endpoint()}/{repo}"
        return PreflightError(f"{what}: access is gated; ask for it at {page}, then {LOGIN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return PreflightError(f"{where}: branch, tag or commit not found")
    if isinstance(error, errors.RepositoryNotFoundError) or status in {401, 404}:
        problem = "repository not found, or private; check the name, or"
        return PreflightError(f"{where}: {problem} {LOGIN}")
    if status == 403:
        return PreflightError(f"{where}: access is forbidden; {LOGIN}")
    if status == 416:
        return _WrongBytesError("the file on the Hub is shorter than before")
    if status == 429:
        return TransientError(f"HTTP status 429 (too many requests) from the Hub; wait, or {LOGIN}")
    if status >= 500 or status == 408:
        return TransientError(f"HTTP status {status} from the Hub; it may be down")
    return StageFailedError(f"{where}: HTTP status {status}")


def _resolve_in_cache(repo: str, revision: str) -> HubRevision:
    try:
        found = snapshot_download(
            repo, revision=revision, cache_dir=_cache_dir(), local_files_only=True
        )
    except errors.LocalEntryNotFoundError:
        raise PreflightError(
            f"{repo} at revision {revision} not found in {_cache_dir()}, and HF_HUB_OFFLINE is "
            "set; "
            f"unset it, or run `hf download {repo} --revision {revision}` with network access"
        ) from None
    snapshot = Path(found)
    listed = []
    for path in sorted(it for it in snapshot.rglob("*") if it.is_file()):
        blob = path.resolve()
        is_hash = SHA256_PATTERN.fullmatch(blob.name) or GIT_SHA1_PATTERN.fullmatch(blob.name)
        name = path.relative_to(snapshot).as_posix()
        listed.append(HubFile(name, blob.stat().st_size, blob.name if is_hash else "", blob))
    return HubRevision(repo, revision, snapshot.name, tuple(listed))


def _cache_dir() -> Path:
    """The library's cache folder by the current environment, not that at import."""
    if stated := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(stated).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser() / "hub"
