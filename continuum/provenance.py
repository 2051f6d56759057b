"""Where a record was made: versions, Git commit, machine. Captured once for each invocation."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from continuum.processors import num_processors

PACKAGES = (
    "continuum", "litgpt", "torch", "lightning", "litdata", "tokenizers", "gigatoken", "numpy",
)  # fmt: skip
"""Those whose version can change what is made."""
GIT_TIMEOUT_S = 10.0


def capture_provenance(folder: Path) -> dict[str, Any]:
    """Versions, the commit of the repository that holds `folder`, and the machine."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "num_cpus": num_processors(),
        "versions": package_versions(),
        "git": _git(folder),
    }


def package_versions() -> dict[str, str | None]:
    """The installed versions of what can change a result; None for what is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit and whether tracked files differ from it; None outside a repository."""
    commit = _run_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit.strip(), "is_dirty": bool(changes and changes.strip())}


def _run_git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
