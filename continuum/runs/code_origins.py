"""Where the code that computes comes from: file, version, how it was installed, whether changed.

A version says little where a package is imported from elsewhere, is a checkout that is being worked
on, or was edited in place. The process that carries a stage out records what it imports itself.
"""

import base64
import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import unquote, urlparse

from pydantic import BaseModel, ConfigDict

from continuum.runs.git import GitError, run_git

PACKAGES = (
    "continuum", "litgpt", "torch", "lightning", "litdata", "tokenizers", "gigatoken", "numpy",
)  # fmt: skip
"""Those whose code can change what is made."""
TOO_LARGE = ("torch", "numpy")
"""Thousands of files, which are not read for each run: whether they were changed is unknown."""


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


def code_origins(more: Mapping[str, str] = MappingProxyType({})) -> dict[str, CodeOrigin]:
    """The packages that compute, by name, whether imported yet or not; imports none.

    Args:
        more: Distributions of other packages whose code runs, by the package's name.
    """
    distributions = {**dict(zip(PACKAGES, PACKAGES, strict=True)), **more}
    found = ((name, _file_of(name)) for name in distributions)
    return {name: _origin(distributions[name], file) for name, file in found if file is not None}


def doubts(origins: dict[str, CodeOrigin]) -> Iterator[str]:
    """Sentences on code that is not what is installed; none of editable installations."""
    for name, origin in origins.items():
        if origin.origin == "elsewhere":
            yield f"{name} is imported from {origin.file}, not from where it is installed"
        elif origin.origin == "installed" and origin.is_dirty:
            yield f"{name} {origin.version} was changed after it was installed: {origin.changed}"


def _file_of(package: str) -> str | None:
    module = sys.modules.get(package)
    spec = module.__spec__ if module is not None else find_spec(package)
    return spec.origin if spec is not None else None


@cache
def _origin(name: str, file: str) -> CodeOrigin:
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return CodeOrigin(file=file, version=None, origin="elsewhere")
    source = json.loads(installed.read_text("direct_url.json") or "{}")
    checkout = _editable_folder(source)
    home = checkout or Path(str(installed.locate_file("")))
    if home.resolve() not in Path(file).resolve().parents:
        return CodeOrigin(file=file, version=None, origin="elsewhere")
    is_dirty, changed = None, None
    if checkout is not None:
        is_dirty, changed = _uncommitted(Path(file).parent)
    elif name not in TOO_LARGE:
        is_dirty, changed = _edited(installed)
    return CodeOrigin(
        file=file,
        version=installed.version,
        origin="installed" if checkout is None else "editable",
        commit=source.get("vcs_info", {}).get("commit_id"),
        is_dirty=is_dirty,
        changed=changed,
    )


def _editable_folder(source: dict[str, Any]) -> Path | None:
    """The checkout of an editable installation, from its `direct_url.json`."""
    is_editable = source.get("dir_info", {}).get("editable", False)
    return Path(unquote(urlparse(source["url"]).path)) if is_editable else None


def _edited(installed: Distribution) -> tuple[bool | None, str | None]:
    """Whether a Python file has other bytes than were installed, and which."""
    rows = list(csv.reader((installed.read_text("RECORD") or "").splitlines()))
    hashed = [(row[0], row[1]) for row in rows if row[0].endswith(".py") and row[1]]
    for path, recorded in hashed:
        algorithm, _, expected = recorded.partition("=")
        try:
            content = Path(str(installed.locate_file(path))).read_bytes()
            digest = hashlib.new(algorithm, content).digest()
        except (OSError, ValueError):
            return True, path
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != expected:
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
