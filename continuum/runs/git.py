"""Run Git in a folder: without locks, without the environment of a hook, with names as bytes.

Git sets variables such as GIT_DIR for the hooks it runs; they would select another repository than
the folder's own. A failure is an error with its reason, never an empty answer.
"""

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

TIMEOUT_S = 10.0
OUTSIDE = "not a git repository (or any"
"""Start of Git's message outside repositories; for a broken repository it differs."""
_ABSOLUTE = re.compile(r"'/(?:[^'\n]*/)?([^'/\n]+)/?'|(?<![\w.])/(?:[^\s'\":]*/)?([^\s'\":/]+)")


class GitError(Exception):
    """Git failed; the message has the command and the reason, without absolute paths."""


class NoRepositoryError(GitError):
    """The folder is not in a repository."""


def work_tree(folder: Path) -> Path:
    """The root of the work tree that contains a folder.

    Raises:
        NoRepositoryError: there is none.
        GitError: Git failed.
    """
    try:
        root = run_git(folder, "rev-parse", "--show-toplevel")
    except NoRepositoryError:
        raise
    except GitError as error:
        above = (folder.resolve(), *folder.resolve().parents)
        if not any((place / ".git").exists() for place in above):
            raise NoRepositoryError(str(error)) from None
        raise
    return Path(os.fsdecode(root.removesuffix(b"\n")))


def commit_state(folder: Path) -> dict[str, Any]:
    """The commit that is checked out, and whether tracked files differ from it.

    A null is unknown; `unknown` has the reasons.

    Raises:
        NoRepositoryError: the folder is not in a repository.
    """
    found: dict[str, Any] = {"commit": None, "is_dirty": None}
    reasons = []
    try:
        root = work_tree(folder)
    except NoRepositoryError:
        raise
    except GitError as error:
        return {**found, "unknown": str(error)}
    try:
        head = run_git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        found["commit"] = head.decode().strip()
    except GitError as error:
        reasons.append(f"{error} (HEAD names no commit)")
    try:
        changed = run_git(root, "status", "--porcelain=v1", "-z", "--untracked-files=no")
        found["is_dirty"] = bool(changed)
    except GitError as error:
        reasons.append(str(error))
    return {**found, "unknown": "; ".join(reasons)} if reasons else found


def run_git(folder: Path, *arguments: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """The output of a Git command in `folder`; raises GitError."""
    what = f"git {arguments[0]}"
    # A file system monitor would be a program that the repository names.
    options = ("--no-optional-locks", "--literal-pathspecs", "-c", "core.fsmonitor=false")
    try:
        done = subprocess.run(
            ["git", *options, "-C", str(folder), *arguments],
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=git_environment(),
        )
    except subprocess.TimeoutExpired:
        raise GitError(f"{what}: no answer within {timeout_s:g} s") from None
    except FileNotFoundError:
        raise GitError(f"{what}: git is not installed") from None
    except OSError as error:
        raise GitError(f"{what}: {error.strerror or type(error).__name__}") from None
    if done.returncode:
        raise _error(what, done.stderr, done.returncode)
    return done.stdout


def git_environment() -> dict[str, str]:
    """The environment without a hook's variables; messages in English."""
    own = {name: value for name, value in os.environ.items() if name not in local_variables()}
    return {**own, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


@cache
def local_variables() -> frozenset[str]:
    """The variables that select a repository, as the installed Git lists them."""
    command = ["git", "rev-parse", "--local-env-vars"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(done.stdout.decode().split())


def _error(what: str, output: bytes, code: int) -> GitError:
    lines = output.decode(errors="backslashreplace").strip().splitlines()
    reasons = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    reason = reasons[0] if reasons else f"exit code {code}"
    reason = _ABSOLUTE.sub(lambda found: found[1] or found[2], reason)
    reason = reason.removeprefix("fatal: ").removeprefix("error: ")
    kind = NoRepositoryError if reason.startswith(OUTSIDE) else GitError
    return kind(f"{what}: {reason}")
