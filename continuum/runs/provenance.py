"""Where a record was made: versions, Git commit, machine. Captured once for each invocation.

What cannot be known is recorded as null, with the reason under `unknown`. What is long lies once
below `runs/.environment/`, in files that are named by their SHA-256; the record names them.
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
from continuum.runs.git import GitError, NoRepositoryError, checkout_of, commit_state, run_git_long
from continuum.runs.installed import PACKAGES, installed_version, installed_versions, own_origin
from continuum.runs.redaction import redacted

MAX_PATCH_BYTES = 1_000_000
"""Of a longer patch the digest alone is kept."""


def capture_provenance(folder: ExperimentFolder, files: Sequence[Path] = ()) -> dict[str, Any]:
    """Versions, the commit of the repository that holds `folder`, and the machine.

    The distributions and the patch of what is not committed are written below `runs/`.

    Args:
        files: The spec and its bases: each is told by itself.
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
    """The installed versions of what can change a result; None for what is not installed."""
    return {name: installed_version(name) for name in PACKAGES}


def describe_git(folder: Path, files: Sequence[Path] = ()) -> dict[str, Any] | None:
    """The commit, whether tracked files differ from it, and each of `files`; None outside Git.

    What Git cannot say is null, and `unknown` has the reasons.
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
    """Whether Git tracks a file, and whether its bytes are those of the commit.

    The bytes are compared, not the index: that can be told to leave a changed file unseen.
    """
    real = path.resolve()
    state: dict[str, Any] = {"tracked": None, "clean": None}
    try:
        checkout = checkout_of(real.parent)
        name = os.path.relpath(real, checkout.root.resolve())
        state["tracked"] = bool(checkout.git("ls-files", "-z", "--", name))
        listed = checkout.git("ls-tree", "-z", "--full-tree", "HEAD", "--", name)
        blob = checkout.git("hash-object", "--", name).strip()
        state["clean"] = bool(listed) and listed.partition(b"\t")[0].split()[2] == blob
    except NoRepositoryError:
        return {"tracked": False, "clean": False}
    except GitError as error:
        state["unknown"] = str(error)
    return state


def _patch(folder: ExperimentFolder) -> dict[str, Any]:
    """What is changed and not committed in the whole checkout, without its secrets."""
    options = ("--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "HEAD", "--")
    try:
        root = checkout_of(folder.path).root
        sha256, size, printed = run_git_long(root, "diff", *options, keep_bytes=MAX_PATCH_BYTES)
    except NoRepositoryError:
        return {}
    except GitError as error:
        return {"unknown": str(error)}
    facts: dict[str, Any] = {"sha256": sha256, "size_bytes": size} if size else {}
    if not printed:
        return facts
    text, num_secrets = redacted(printed.decode("utf-8", "surrogateescape"))
    if num_secrets:
        facts["num_redacted"] = num_secrets
    return {**facts, **_keep(folder, text.encode("utf-8", "surrogateescape"), "patch")}


def _keep(folder: ExperimentFolder, content: bytes, ending: str) -> dict[str, str]:
    """Write a long part of the record to a file of its own, as the record then names it."""
    path = folder.environment_dir / f"{hashlib.sha256(content).hexdigest()}.{ending}"
    try:
        if not path.exists():
            write_bytes(path, content)
    except OSError as error:  # the stage has to write, too, and says more of the disk
        return {"unknown": f"not written: {error.strerror}"}
    return {"file": path.relative_to(folder.path).as_posix()}
