"""What is installed here, and where the code that computes comes from.

A version says little where a package is imported from elsewhere, is a checkout that is being worked
on, or was edited in place. The process that carries a stage out records what it imports itself.
"""

import base64
import csv
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from pydantic import BaseModel, ConfigDict

import continuum
from continuum.runs.git import GitError, NoRepositoryError, commit_state, run_git

OWN_DISTRIBUTION = "continuum-lm"
"""On the package index `continuum` is another project; records keep the package's name."""
PACKAGES = (
    "continuum", "litgpt", "torch", "lightning", "litdata", "tokenizers", "gigatoken", "numpy",
)  # fmt: skip
"""Those whose code can change what is made."""
TOO_LARGE = ("torch", "numpy")
"""Thousands of files, which are not read for each run: whether they were changed is unknown."""
SOURCE_DIR = Path(continuum.__file__).parent


class CodeOrigin(BaseModel):
    """One package, as a process imports it."""

    model_config = ConfigDict(frozen=True)

    file: str
    version: str | None
    """Of the installed distribution; None where the file is not its own."""
    origin: Literal["installed", "editable", "elsewhere"]
    """`elsewhere` is no distribution's: named by PYTHONPATH, or lying where Python was started."""
    commit: str | None = None
    """Of a package that was installed from a Git repository (PEP 610)."""
    is_dirty: bool | None = None
    """True if its files differ from what was installed or committed; None where that is unknown."""
    changed: str | None = None
    """The first file that differs."""


def find_distribution(package: str) -> Distribution | None:
    """An installed distribution by its name, `continuum` being this one."""
    name = OWN_DISTRIBUTION if package == "continuum" else package
    return next(iter(distributions(name=name)), None)


def installed_version(package: str) -> str | None:
    """The version of a distribution; None if it is not installed."""
    found = find_distribution(package)
    return None if found is None else found.version


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


def own_version() -> str:
    """The version; with the commit, and whether the checkout was changed, where that is known."""
    origin = _own_origin()
    commit, mark = origin.get("commit"), "+dirty" if origin.get("is_dirty") else ""
    return continuum.__version__ + (f" (commit {commit[:10]}{mark})" if commit else "")


def own_origin() -> dict[str, Any]:
    """Where continuum was installed from, or its checkout's state; no path of this machine."""
    return {**_own_origin(), "source_sha256": source_digest()}


def code_origins(more: Mapping[str, str] = MappingProxyType({})) -> dict[str, CodeOrigin]:
    """The packages that compute, by name, whether imported yet or not; imports none.

    Args:
        more: Distributions of other packages whose code runs, by the package's name.
    """
    names = {name: name for name in PACKAGES} | dict(more)
    found = ((name, _file_of(name)) for name in names)
    return {name: _code_origin(names[name], file) for name, file in found if file is not None}


def doubts(origins: dict[str, CodeOrigin]) -> Iterator[str]:
    """Sentences on code that is not what is installed; none of editable installations."""
    for name, origin in origins.items():
        if origin.origin == "elsewhere":
            yield f"{name} is imported from {origin.file}, not from where it is installed"
        elif origin.origin == "installed" and origin.is_dirty:
            yield f"{name} {origin.version} was changed after it was installed: {origin.changed}"


def _own_origin() -> dict[str, Any]:
    found = find_distribution("continuum")
    if found is None or found.read_text("PKG-INFO"):  # of a checkout, where a build has left it
        return {"installed": "no", **_commit_of(SOURCE_DIR)}
    source = _direct_url(found)
    if (checkout := _editable_folder(source)) is not None:
        return {"installed": "editable", **_commit_of(checkout)}
    if "unknown" in source:
        return {"installed": "unknown", **source}
    if (vcs := source.get("vcs_info")) is not None:
        return {"installed": "vcs", **_public(source), "commit": vcs.get("commit_id")}
    if (archive := source.get("archive_info")) is not None:
        sha256 = archive.get("hashes", {}).get("sha256")
        return {"installed": "archive", **_public(source), "sha256": sha256}
    return {"installed": "folder" if "dir_info" in source else "index"}


@cache
def _code_origin(name: str, file: str) -> CodeOrigin:
    elsewhere = CodeOrigin(file=file, version=None, origin="elsewhere")
    installed = find_distribution(name)
    if installed is None:
        return elsewhere
    source = _direct_url(installed)
    checkout = _editable_folder(source)
    home = checkout or Path(str(installed.locate_file("")))
    if home.resolve() not in Path(file).resolve().parents:
        return elsewhere
    if checkout is not None:
        is_dirty, changed = _uncommitted(Path(file).parent)
    else:
        is_dirty, changed = (None, None) if name in TOO_LARGE else _edited(installed)
    return CodeOrigin(
        file=file,
        version=installed.version,
        origin="installed" if checkout is None else "editable",
        commit=source.get("vcs_info", {}).get("commit_id"),
        is_dirty=is_dirty,
        changed=changed,
    )


def _direct_url(installed: Distribution) -> dict[str, Any]:
    """What PEP 610 records of an installation; empty for one from a package index."""
    try:
        return dict(json.loads(installed.read_text("direct_url.json") or "{}"))
    except ValueError:
        return {"unknown": "direct_url.json is not valid JSON"}


def _editable_folder(source: dict[str, Any]) -> Path | None:
    is_editable = source.get("dir_info", {}).get("editable", False)
    return Path(url2pathname(urlsplit(source["url"]).path)) if is_editable else None


def _public(source: dict[str, Any]) -> dict[str, str]:
    """The address without user, password, query and fragment; none of a local file."""
    parts = urlsplit(str(source.get("url", "")))
    if parts.scheme == "file" or not parts.hostname:
        return {}
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    return {"url": urlunsplit((parts.scheme, host, parts.path, "", ""))}


def _commit_of(folder: Path) -> dict[str, Any]:
    try:
        return commit_state(folder)
    except NoRepositoryError:
        return {"commit": None, "is_dirty": None, "unknown": "its folder is in no Git repository"}


def _file_of(package: str) -> str | None:
    module = sys.modules.get(package)
    spec = module.__spec__ if module is not None else find_spec(package)
    return spec.origin if spec is not None else None


def _edited(installed: Distribution) -> tuple[bool | None, str | None]:
    """Whether a Python file has other bytes than were installed, and which."""
    rows = csv.reader((installed.read_text("RECORD") or "").splitlines())
    hashed = [(row[0], *row[1].split("=", 1)) for row in rows if row[0].endswith(".py") and row[1]]
    for path, algorithm, expected in hashed:
        try:
            content = Path(str(installed.locate_file(path))).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest())
        except (OSError, ValueError):
            return True, path
        if digest.rstrip(b"=").decode() != expected:
            return True, path
    return (False, None) if hashed else (None, None)


def _uncommitted(folder: Path) -> tuple[bool | None, str | None]:
    """Whether a tracked or new file below `folder` differs from the commit, and which."""
    try:
        found = run_git(folder, "status", "--porcelain=v1", "-z", "--no-renames", "--", ".")
    except GitError:
        return None, None
    first = found.partition(b"\0")[0].decode(errors="backslashreplace")
    return (True, first[3:]) if first else (False, None)
