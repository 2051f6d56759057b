"""Provenance of a record: versions, Git commit, machine. Captured once per run.

A null is unknown; `unknown` has the reason. Long parts are stored once below `runs/.environment/`,
in files named by their SHA-256, to which the record refers.
"""

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from continuum.cpus import num_processors
from continuum.runs.file_names import escape_name
from continuum.runs.files import write_bytes
from continuum.runs.folder import ExperimentFolder
from continuum.runs.git import (
    GitError,
    NoRepositoryError,
    commit_state,
    run_git,
    work_tree,
)
from continuum.runs.installed import PACKAGES, installed_version, installed_versions, own_origin
from continuum.runs.redaction import redacted

MAX_PATCH_BYTES = 1_000_000
"""Only the digest of a longer patch is kept."""


def capture_provenance(folder: ExperimentFolder, files: Sequence[Path] = ()) -> dict[str, Any]:
    """Versions, the commit of the repository around `folder`, and the machine.

    Writes the list of distributions and the patch of uncommitted changes below `runs/`.

    Args:
        files: The spec and its bases, each described by itself.
    """
    listed = json.dumps(installed_versions(), indent=1).encode()
    patch = _patch(folder)
    return {
        **describe_environment(folder.path, files),
        "distributions": _keep(folder, listed, "json"),
        **({"patch": patch} if patch else {}),
    }


def describe_environment(folder: Path, files: Sequence[Path] = ()) -> dict[str, Any]:
    """The short part of the record; writes nothing."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "num_cpus": num_processors(),
        "versions": package_versions(),
        "continuum": own_origin(),
        "git": describe_git(folder, files),
    }


def package_versions() -> dict[str, str | None]:
    """The installed versions of packages that can change a result; None if not installed."""
    return {name: installed_version(name) for name in PACKAGES}


def describe_git(folder: Path, files: Sequence[Path] = ()) -> dict[str, Any] | None:
    """The commit, whether tracked files differ from it, and each of `files`; None outside Git.

    A null is unknown; `unknown` has the reasons.
    """
    try:
        found = commit_state(folder)
    except NoRepositoryError:
        return None
    if files:
        names = (escape_name(os.path.relpath(path.resolve(), folder.resolve())) for path in files)
        found["files"] = {name: _file_state(path) for name, path in zip(names, files, strict=True)}
    return found


def _file_state(path: Path) -> dict[str, Any]:
    """Whether Git tracks a file, and whether its content is that of the commit.

    Compares the content, not the index, which can be set to ignore changes.
    """
    real = path.resolve()
    state: dict[str, Any] = {"tracked": None, "clean": None}
    try:
        root = work_tree(real.parent)
        name = os.path.relpath(real, root.resolve())
        state["tracked"] = bool(run_git(root, "ls-files", "-z", "--", name))
        listed = run_git(root, "ls-tree", "-z", "--full-tree", "HEAD", "--", name)
        blob = run_git(root, "hash-object", "--", name).strip()
        state["clean"] = bool(listed) and listed.partition(b"\t")[0].split()[2] == blob
    except NoRepositoryError:
        return {"tracked": False, "clean": False}
    except GitError as error:
        state["unknown"] = str(error)
    return state


def _patch(folder: ExperimentFolder) -> dict[str, Any]:
    """The uncommitted changes of the whole work tree, without secrets."""
    options = ("--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "HEAD", "--")
    try:
        root = work_tree(folder.path)
        diff = run_git(root, "diff", *options)
    except NoRepositoryError:
        return {}
    except GitError as error:
        return {"unknown": str(error)}
    if not diff:
        return {}
    facts: dict[str, Any] = {"sha256": hashlib.sha256(diff).hexdigest(), "size_bytes": len(diff)}
    if len(diff) > MAX_PATCH_BYTES:
        return facts
    text, num_secrets = redacted(diff.decode("utf-8", "surrogateescape"))
    if num_secrets:
        facts["num_redacted"] = num_secrets
    return {**facts, **_keep(folder, text.encode("utf-8", "surrogateescape"), "patch")}


def _keep(folder: ExperimentFolder, content: bytes, ending: str) -> dict[str, str]:
    """Write a long part of the record to a file, and return the reference to it."""
    path = folder.environment_dir / f"{hashlib.sha256(content).hexdigest()}.{ending}"
    try:
        if not path.exists():
            write_bytes(path, content)
    except OSError as error:  # the stage also has to write, and reports more about the disk
        return {"unknown": f"not written: {error.strerror}"}
    return {"file": path.relative_to(folder.path).as_posix()}
