"""A loopback Hugging Face Hub: the part of its HTTP interface that clients use to read models.

`GET /api/models/{repo}[/revision/{revision}]`, `GET /api/models/{repo}/tree/{revision}`, and HEAD
and GET of `/{repo}/resolve/{revision}/{file}`. Repositories are folders `<root>/<org>/<name>/`; the
branch `main` means one fixed commit. Files of 1 KiB and more are "LFS" files with a SHA-256,
smaller ones are known by Git's blob hash, as on the Hub.

    python -m tests.servers.hub --port 8080 --root DIR
"""

import argparse
import hashlib
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.texts import Handler, SeenRequest, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LFS_MIN_BYTES = 1024


@dataclass
class HubServer:
    """The repositories and their moods. Attributes may be changed while it runs."""

    url: str
    root: Path
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    """What each branch or tag means; a commit means itself."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Private repositories, and the token that reads each."""
    gated: set[str] = field(default_factory=set)
    requests: list[SeenRequest] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    """Statuses of the next answers, before anything else is looked at."""
    drop_after: list[int] = field(default_factory=list)
    """For each of the next files: close the connection after so many bytes of the body."""
    understands_range: bool = True
    storage_url: str | None = None
    """Where large files are got, as from the Hub's storage."""
    explanation: str = ""
    """What the body of a refusal says; its code unless given."""
    corrupt: set[str] = field(default_factory=set)
    """Files whose first byte is changed on its way."""

    def paths(self, method: str = "GET") -> list[str]:
        """The paths asked for with `method`, in order."""
        return [request.path for request in self.requests if request.method == method]


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.code = code


class _Handler(Handler):
    hub: HubServer

    def drops(self) -> list[int]:
        return self.hub.drop_after if "/resolve/" in self.path else []

    def _answer(self) -> None:
        hub = self.hub
        self.path = urllib.parse.unquote(self.path.partition("?")[0])
        hub.requests.append(self.seen())
        try:
            if hub.failures:
                raise _RefusedError(hub.failures.pop(0))
            parts = self.path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._answer_api("/".join(parts[2:4]), parts[4:])
            elif len(parts) > 4 and parts[2] == "resolve":
                self._answer_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                raise _RefusedError(404)
        except _RefusedError as refused:
            headers = {"X-Error-Code": refused.code}
            body = {"error": hub.explanation or refused.code}
            self.answer(refused.status, headers, json.dumps(body).encode())

    do_GET = do_HEAD = _answer  # noqa: N815  # the base class' names

    def _answer_api(self, repo: str, rest: list[str]) -> None:
        folder = self._folder(repo)
        revision = rest[1] if len(rest) > 1 else "main"
        commit = self._commit(revision)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = [_entry(path, folder) for path in files]
        if rest[:1] == ["tree"]:
            document: Any = [
                {"type": "file", "path": e["rfilename"], "oid": e["blobId"], **e} for e in entries
            ]
        else:
            document = {
                "id": repo,
                "modelId": repo,
                "sha": commit,
                "private": repo in self.hub.tokens,
                "gated": "manual" if repo in self.hub.gated else False,
                "siblings": entries,
            }
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _answer_file(self, repo: str, revision: str, name: str) -> None:
        folder = self._folder(repo)
        if repo in self.hub.gated:
            raise _RefusedError(403, "GatedRepo")
        commit = self._commit(revision)
        path = folder / name
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise _RefusedError(404, "EntryNotFound")
        entry = _entry(path, folder)
        tag = entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if self.hub.storage_url is not None and "lfs" in entry:
            linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(entry["size"])}
            self.answer(302, {**headers, **linked, "Location": self.hub.storage_url})
            return
        body = bytearray(path.read_bytes())
        if path.name in self.hub.corrupt:
            body[0] ^= 1
        start = self.hub.requests[-1].first_byte if self.hub.understands_range else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(206 if start else 200, headers, bytes(body[start:]))

    def _folder(self, repo: str) -> Path:
        folder = self.hub.root / repo
        token = self.hub.tokens.get(repo)
        is_allowed = token is None or self.headers.get("Authorization") == f"Bearer {token}"
        if not folder.is_dir() or not is_allowed:
            # The Hub does not tell strangers whether a repository exists.
            raise _RefusedError(401, "RepoNotFound")
        return folder

    def _commit(self, revision: str) -> str:
        commits = self.hub.commits
        if revision in commits:
            return commits[revision]
        if revision in commits.values():
            return revision
        raise _RefusedError(404, "RevisionNotFound")


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    body = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {
        "rfilename": path.relative_to(folder).as_posix(),
        "size": len(body),
        "blobId": blob,
    }
    if len(body) >= LFS_MIN_BYTES:
        digest = hashlib.sha256(body).hexdigest()
        entry["lfs"] = {"sha256": digest, "oid": digest, "size": len(body), "pointerSize": 130}
    return entry


@contextmanager
def serve_hub(root: Path, *, port: int = 0) -> Iterator[HubServer]:
    """A running Hub of the repositories below `root`; a free port unless one is given."""

    class Bound(_Handler):
        hub = HubServer("", root)

    with serving(Bound, port=port) as Bound.hub.url:
        yield Bound.hub


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--root", type=Path, required=True)
    arguments = parser.parse_args()
    with serve_hub(arguments.root, port=arguments.port) as hub:
        print(f"export HF_ENDPOINT={hub.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
