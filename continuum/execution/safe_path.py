"""Import installed modules only, and as they are, whatever the shell was left in.

`python -m` puts the current folder first into `sys.path`, a script its own folder, and an empty or
relative entry of PYTHONPATH means the current folder, too. A `litgpt/` or a `random.py` there would
silently replace the installed one. Absolute entries of PYTHONPATH are kept: the user chose them.

Other variables of Python's change what a program does: `PYTHONWARNINGS=error` ends a run at the
first warning of a library, `PYTHONINSPECT` hides exit codes, `PYTHONOPTIMIZE` removes docstrings,
which `explain` prints. These are skipped, too.

This module imports only what Python itself has already imported: anything else would be searched
for in those folders, too.
"""

import os
import sys

SAFE_PATH = "PYTHONSAFEPATH"
SEARCH_PATH = "PYTHONPATH"
WARNINGS = "PYTHONWARNINGS"
REMOVED = ("PYTHONINSPECT", "PYTHONOPTIMIZE")


def use_installed_modules() -> None:
    """Remove the start folder from `sys.path`, for this process and all that it starts.

    Restarts the process with `-P` where `sys.path` cannot be repaired: `.pth` files may name the
    same folder, or the package itself was found in the start folder. Likewise where Python has
    already acted on a variable that is skipped.
    """
    before = dict(os.environ)
    after = safe_environment(before)
    os.environ.update(after)
    for name in before.keys() - after.keys():
        del os.environ[name]
    is_ignored = sys.flags.ignore_environment  # also by what is started with our flags
    is_repaired = sys.flags.safe_path or (_remove_start_folder() and not is_ignored)
    was_clean = is_ignored or after == {**before, SAFE_PATH: "1"}
    if not (is_repaired and was_clean):
        os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])


def safe_environment(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a Python process that imports installed modules only."""
    safe = {**environment, SAFE_PATH: "1"}
    for name in REMOVED:
        safe.pop(name, None)
    _skip_errors(safe)
    if SEARCH_PATH not in safe:
        return safe
    entries = safe.pop(SEARCH_PATH).split(os.pathsep)
    kept = [entry for entry in entries if os.path.isabs(entry)]
    for entry in entries:
        if entry and entry not in kept and not sys.flags.ignore_environment:
            print(f"warning: {SEARCH_PATH}: skipping the relative path {entry!r}", file=sys.stderr)
    if kept and not sys.flags.ignore_environment:
        safe[SEARCH_PATH] = os.pathsep.join(kept)
    return safe


def _skip_errors(environment: dict[str, str]) -> None:
    """Remove the filters that make errors of warnings; Python takes abbreviations, too."""
    filters = environment.pop(WARNINGS, "").split(",")
    actions = {entry: entry.partition(":")[0].strip() for entry in filters}
    skipped = [entry for entry in filters if actions[entry] and "error".startswith(actions[entry])]
    for entry in skipped:
        if not sys.flags.ignore_environment:
            print(f"warning: {WARNINGS}: skipping {entry!r}", file=sys.stderr)
    kept = [entry for entry in filters if entry and entry not in skipped]
    if kept:
        environment[WARNINGS] = ",".join(kept)


def _remove_start_folder() -> bool:
    """Return False if this package was found there but is installed elsewhere."""
    folder = _start_folder()
    if sys.path[0] == folder:
        del sys.path[0]
    file = os.path.abspath(__file__)
    package = os.path.dirname(os.path.dirname(file))
    if os.path.dirname(package) != folder:
        return True
    inner = os.path.relpath(file, os.path.dirname(package))
    found = (entry for entry in sys.path if os.path.isfile(os.path.join(entry, inner)))
    return next(found, None) == folder


def _start_folder() -> str | None:
    """The folder that Python has put first; None if it could not."""
    try:
        if sys.modules["__main__"].__spec__ is not None:  # `python -m`
            return os.getcwd()
    except FileNotFoundError:
        return None
    return os.path.dirname(os.path.realpath(sys.argv[0]))
