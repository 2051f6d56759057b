"""The two sides of a comparison: a spec, a folder, or either as a Git revision has it."""

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from continuum.errors import UsageError
from continuum.loading.diagnostics import Diagnostic, SpecError, renamed
from continuum.loading.load import Loaded, load
from continuum.planning.plan import Plan
from continuum.planning.planner import make_plan
from continuum.runs.files import DigestCache
from continuum.runs.folder import ExperimentFolder
from continuum.runs.git import GitError, run_git

GIT_TIMEOUT_S = 60.0
SPEC_NAME = "experiment.yaml"
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Pythons before 3.11.4 know no filters; what is unpacked is the user's own Git."""


Diagnose = Callable[[Loaded, Plan], tuple[Diagnostic, ...]]


@dataclass(frozen=True)
class Side:
    """One experiment, planned where it lies; the plan knows its lock."""

    label: str
    """As the user named it."""
    plan: Plan
    found: tuple[Diagnostic, ...]
    """What is wrong with it or unwise in it."""


@contextmanager
def open_side(text: str, diagnose: Diagnose) -> Iterator[Side]:
    """Load what a command line names.

    Args:
        text: A spec, a folder that holds one, or `REV:PATH` with either as Git has it; PATH is
            relative to the repository's root, or to the working directory with a leading `./`.
        diagnose: Finds what is wrong with a plan or unwise in it.

    Raises:
        UsageError: there is no such file or revision.
        SpecError: the spec has mistakes.
    """
    revision, colon, path = text.partition(":")
    if Path(text).exists() or not colon or not revision:
        yield _side(text, Path(text), diagnose)
        return
    with tempfile.TemporaryDirectory(prefix="continuum-") as folder:
        tree = Path(folder).resolve() / "tree"
        inside = _extract(revision, path, tree)
        try:
            side = _side(text, inside, diagnose, is_earlier=True)
        except SpecError as error:
            # The reader knows the file by its revision, not by where it was put for a moment.
            raise error.renamed(f"{tree}/", f"{revision}:") from None
        yield replace(side, found=tuple(renamed(side.found, f"{tree}/", f"{revision}:")))


def _side(label: str, path: Path, diagnose: Diagnose, *, is_earlier: bool = False) -> Side:
    spec = path / SPEC_NAME if path.is_dir() else path
    if not spec.is_file():
        raise UsageError(
            f"{label}: no such experiment; give a spec, its folder, or REV:PATH of either in Git"
        )
    loaded = load(spec, is_earlier=is_earlier)
    experiment = loaded.document().experiment
    folder = ExperimentFolder(spec.parent.resolve())
    plan = make_plan(experiment, folder, DigestCache(folder.digest_cache_path))
    return Side(label, plan, diagnose(loaded, plan))


def _extract(revision: str, path: str, tree: Path) -> Path:
    """Put the whole tree of a revision into a new folder; where `path` is in it.

    The whole tree, because a spec extends files and reads data that lie anywhere in it.
    """
    here = Path.cwd()
    root = Path(_name(_git(here, "rev-parse", "--show-toplevel")))
    prefix = _name(_git(here, "rev-parse", "--show-prefix")) if path.startswith("./") else ""
    _git(here, "rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}", what=revision)
    archive = tree.with_suffix(".tar")
    _git(root, "archive", "--format=tar", f"--output={archive}", revision)
    with tarfile.open(archive) as tar:
        tar.extractall(tree, **SAFELY)
    archive.unlink()
    return tree / prefix / path


def _name(printed: bytes) -> str:
    return os.fsdecode(printed.removesuffix(b"\n"))


def _git(folder: Path, *arguments: str, what: str = "") -> bytes:
    try:
        return run_git(folder, *arguments, timeout_s=GIT_TIMEOUT_S)
    except GitError as error:
        command, _, reason = str(error).partition(": ")
        if reason.startswith("exit code"):  # of a command that was asked to be quiet
            reason = "there is no such revision"
        raise UsageError(f"{what or command}: {reason}") from None
