"""Two experiments in one folder would overwrite each other's lock and lineage."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from continuum.errors import PreflightError
from continuum.planning.plan import Plan

SUFFIXES = frozenset({".yaml", ".yml"})
MAX_BYTES = 1 << 20
_FORMAT = re.compile(r"^continuum\s*:", re.M)
_NAME = re.compile(r"""^name\s*:\s*["']?([A-Za-z0-9._-]+)["']?\s*(?:#.*)?$""", re.M)


def refuse_second_spec(plan: Plan, files: Collection[Path]) -> None:
    """Refuse an experiment whose folder holds another one's lock, or another spec of its name.

    Renaming an experiment is fine: then no other file has the former name.

    Args:
        files: The spec and its bases.

    Raises:
        PreflightError: names the other file.
    """
    lock, name, folder = plan.lock, plan.experiment.name, plan.folder
    owner = lock.experiment if lock is not None else name
    own = {path.resolve() for path in files}
    for path, found in _specs_in(folder.path):
        if path.resolve() in own or found not in (owner, name):
            continue
        if found == name:
            problem = f"{path} is named {name!r} too"
        else:
            problem = f"continuum.lock and lineage.json are of the experiment {owner!r} ({path})"
        raise PreflightError(
            f"{folder.path}: {problem}; two experiments in one folder overwrite each other's lock "
            "and lineage: move one of the specs, with the data it names, to a folder of its own"
        )


def _specs_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """The experiments that lie in a folder, by the text of their first level, and their names."""
    for path in sorted(folder.iterdir()):
        if path.suffix not in SUFFIXES or not path.is_file() or path.stat().st_size > MAX_BYTES:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        named = _NAME.search(text)
        if named is not None and _FORMAT.search(text):
            yield path, named[1]
