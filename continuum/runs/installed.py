"""What is installed here: every distribution's version, and where continuum itself came from."""

import hashlib
import json
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, distributions, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from continuum.runs.git import NoRepositoryError, commit_state

SOURCE_DIR = Path(__file__).parents[1]


def installed_version(package: str) -> str | None:
    """The version of a distribution; None for what is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def installed_versions() -> dict[str, str]:
    """The version of every distribution by its name, sorted; the first on the path counts."""
    found: dict[str, str] = {}
    for item in distributions():
        name = item.metadata["Name"]
        if name:  # what an interrupted pip leaves has none
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), item.version)
    return dict(sorted(found.items()))


@cache
def source_digest() -> str:
    """SHA-256 over continuum's own Python files, the names included."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE_DIR.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(SOURCE_DIR).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def own_origin() -> dict[str, Any]:
    """Where continuum was installed from, by PEP 610; no path of this machine.

    An editable installation and one that runs from its folder are told by the commit of the
    checkout and whether it was changed.
    """
    return {**_origin(), "source_sha256": source_digest()}


def _origin() -> dict[str, Any]:
    try:
        text = distribution("continuum-lm").read_text("direct_url.json")
        document: dict[str, Any] = json.loads(text) if text else {}
    except PackageNotFoundError:
        return {"installed": "no", **_commit_of(SOURCE_DIR)}
    except ValueError:
        return {"installed": "unknown", "unknown": "direct_url.json is not readable JSON"}
    return _told_by(document)


def _told_by(document: dict[str, Any]) -> dict[str, Any]:
    url = str(document.get("url", ""))
    if document.get("dir_info", {}).get("editable"):
        return {"installed": "editable", **_commit_of(Path(url2pathname(urlsplit(url).path)))}
    if "vcs_info" in document:
        commit = document["vcs_info"].get("commit_id")
        return {"installed": "vcs", **_public(url), "commit": commit}
    if "archive_info" in document:
        hashes = document["archive_info"].get("hashes", {})
        return {"installed": "archive", **_public(url), "sha256": hashes.get("sha256")}
    return {"installed": "folder" if "dir_info" in document else "index"}


def _public(url: str) -> dict[str, str]:
    """The address without user, password, query and fragment; none of a local file."""
    parts = urlsplit(url)
    if parts.scheme == "file" or not parts.hostname:
        return {}
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    return {"url": urlunsplit((parts.scheme, host, parts.path, "", ""))}


def _commit_of(folder: Path) -> dict[str, Any]:
    try:
        return commit_state(folder)
    except NoRepositoryError:
        return {"commit": None, "is_dirty": None, "unknown": "its folder is in no Git repository"}
