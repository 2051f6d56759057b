"""Files of a Hugging Face repository at one commit, each held against the Hub's own hash.

`huggingface_hub` turns the revision into a commit, lists the files with their hashes and knows
the token; the bytes come through `sources.transfer`, which goes on after a dropped connection and
checks them (the library compares sizes only). So every byte comes from HF_ENDPOINT, and no cache
folder or link is left behind. The environment is read at each call: a forked worker may have
imported the library long before.

With HF_HUB_OFFLINE the files come from the library's cache; online, what is there is used too.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.errors import PreflightError, StageFailedError
from continuum.files import BUFFER_BYTES, sha256_file
from continuum.sources.local_files import copy_file
from continuum.sources.request import RefusedError, TransientError, words
from continuum.sources.transfer import (
    DEFAULT_RETRY,
    OnProgress,
    Remote,
    RetryPolicy,
    download,
    try_again,
)

TRUE_WORDS = frozenset({"1", "on", "yes", "true"})
DEFAULT_ENDPOINT = "https://huggingface.co"
API_TIMEOUT_S = 30.0
LOGIN = "set HF_TOKEN to a token that may read it (or `hf auth login`)"
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository and what proves its bytes."""

    name: str
    size_bytes: int | None
    hash: str
    """SHA-256 for large files, else Git's SHA-1 of the blob; empty when the Hub tells none."""
    cached: Path | None = None
    """In the library's cache."""

    def complaint(self, path: Path) -> str | None:
        """How the file at `path` differs, or None."""
        size = path.stat().st_size
        if self.size_bytes is not None and size != self.size_bytes:
            return f"{size:,} bytes came, not {self.size_bytes:,}"
        is_sha256 = SHA256_PATTERN.fullmatch(self.hash) is not None
        found = sha256_file(path) if is_sha256 else _git_sha1(path)
        if self.hash and found != self.hash:
            return f"its hash is {found}, not {self.hash} as the Hub says; try again"
        return None


@dataclass(frozen=True)
class HubRevision:
    """A repository's files at one commit."""

    repo: str
    revision: str
    """As it was asked for."""
    commit: str
    files: tuple[HubFile, ...]

    def named(self, name: str) -> HubFile | None:
        """The file of this name, if there is one."""
        return next((file for file in self.files if file.name == name), None)

    def __str__(self) -> str:
        return f"{self.repo} at revision {self.revision} (commit {self.commit[:12]})"


def resolve(repo: str, revision: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> HubRevision:
    """The commit a branch, tag or commit means now, and its files.

    Raises:
        PreflightError: there is no such repository or revision, or it may not be read.
        StageFailedError: the Hub cannot be reached.
    """
    if is_offline():
        return _resolve_in_cache(repo, revision)
    what = f"{repo} at revision {revision}, from {endpoint()}"
    info = try_again(lambda: _model_info(repo, revision), what=what, retry=retry)
    listed = tuple(
        HubFile(
            name=entry.rfilename,
            size_bytes=entry.size,
            hash=(entry.lfs.sha256 if entry.lfs is not None else entry.blob_id) or "",
            cached=_cached(repo, entry.rfilename, info.sha),
        )
        for entry in info.siblings or ()
    )
    return HubRevision(repo, revision, info.sha, listed)


def fetch_file(
    revision: HubRevision, file: HubFile, folder: Path, *, on_progress: OnProgress
) -> None:
    """Bring `file` into `folder`, going on from what an earlier attempt left there.

    Raises:
        PreflightError: it may not be read.
        StageFailedError: it cannot be had, or not be written.
        IntegrityError: its bytes are not those the Hub promised.
    """
    from huggingface_hub import hf_hub_url

    target = folder / file.name
    if file.cached is not None and file.complaint(file.cached) is None:
        copy_file(file.cached, target, on_progress)
        return
    url = hf_hub_url(revision.repo, file.name, revision=revision.commit, endpoint=endpoint())
    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        download(Remote(url, headers, check=file.complaint), target, on_progress=on_progress)
    except RefusedError as error:
        if error.status not in {401, 403}:
            raise
        raise PreflightError(_gated(revision.repo, revision.revision)) from error


def endpoint() -> str:
    """The Hub, or the mirror that HF_ENDPOINT names."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def is_offline() -> bool:
    """Whether the environment forbids asking the Hub."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.lower() in TRUE_WORDS


def _model_info(repo: str, revision: str) -> Any:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint(), token=_token(), library_name="continuum")
    try:
        return api.model_info(repo, revision=revision, files_metadata=True, timeout=API_TIMEOUT_S)
    except HfHubHTTPError as error:
        raise _refusal(error, repo, revision) from error
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise TransientError(
            f"the Hub cannot be reached ({words(error)}); check the network, HTTPS_PROXY and "
            "HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use files downloaded before"
        ) from error


def _refusal(error: Any, repo: str, revision: str) -> Exception:
    from huggingface_hub import errors

    where = f"{repo} at revision {revision}, from {endpoint()}"
    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return PreflightError(_gated(repo, revision))
    if isinstance(error, errors.RevisionNotFoundError):
        return PreflightError(f"{where}: there is no such branch, tag or commit")
    if isinstance(error, errors.RepositoryNotFoundError) or status in {401, 404}:
        return PreflightError(
            f"{where}: there is no such repository, or it is private; check the name, or {LOGIN}"
        )
    if status == 403:
        return PreflightError(f"{where}: access is forbidden; {LOGIN}")
    if status == 429:
        return TransientError(f"the Hub answered 429, too many requests; wait, or {LOGIN}")
    if status >= 500 or status == 408:
        return TransientError(f"the Hub answered {status}; it may be down")
    return StageFailedError(f"{where}: the Hub answered {status}")


def _gated(repo: str, revision: str) -> str:
    page = f"{endpoint()}/{repo}"
    return f"{repo} at revision {revision}: access is gated; ask for it at {page}, then {LOGIN}"


def _resolve_in_cache(repo: str, revision: str) -> HubRevision:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repo, revision=revision, cache_dir=_cache_dir(), local_files_only=True
        )
    except LocalEntryNotFoundError:
        raise PreflightError(
            f"{repo} at revision {revision} is not in {_cache_dir()}, and HF_HUB_OFFLINE forbids "
            f"asking the Hub; unset it, or run `hf download {repo} --revision {revision}` where "
            "there is a network"
        ) from None
    snapshot = Path(found)
    listed = []
    for path in sorted(snapshot.rglob("*")):
        if path.is_file():
            blob = path.resolve()
            is_hash = re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name) is not None
            name = path.relative_to(snapshot).as_posix()
            size = blob.stat().st_size
            listed.append(HubFile(name, size, blob.name if is_hash else "", cached=blob))
    return HubRevision(repo, revision, snapshot.name, tuple(listed))


def _cached(repo: str, name: str, commit: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name, cache_dir=_cache_dir(), revision=commit)
    return Path(found) if isinstance(found, str) else None


def _cache_dir() -> Path:
    """As the library finds it, but now and not when it was imported."""
    if stated := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(stated).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser() / "hub"


def _token() -> str | bool:
    from huggingface_hub import get_token

    return get_token() or False


def _git_sha1(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(BUFFER_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
