"""The `continuum` command, also as `python -m continuum`.

The package index has another project, a library for continual learning, that also installs a
package named `continuum`. In one environment, the one that is installed last overwrites files of
the other, an editable installation is hidden by it, and uninstalling one deletes files of both.
This folder is installed beside the package, too, as `continuum_lm`, where it can still report that.

Imports only what Python has imported by itself: `continuum.execution.safe_path` has the reason.
"""

import os
import sys

EXIT_CODE = 4  # of `PreflightError`, which may be what cannot be imported
OF_THE_OTHER = os.path.join("scenarios", "__init__.py")
"""In all releases of the other project since 0.1, and never in this one."""
OWN = ("__init__.py", "__main__.py")
AGAIN = "install continuum-lm again with `pip install --force-reinstall --no-deps`"


def main() -> None:
    """Run the command with the modules that are installed, whatever lies in the current folder."""
    problem = find_clash()
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    from continuum.execution.safe_path import use_installed_modules

    use_installed_modules()
    from continuum.cli import main as run

    run()


def find_clash() -> str | None:
    """Why `import continuum` does not give this project, and the remedy; None where it does."""
    folder = _package_folder()
    if folder is None:
        missing: str | None = "the package continuum"
    elif os.path.isfile(os.path.join(folder, OF_THE_OTHER)):
        return (
            f"{folder} has files of another project named continuum, a continual-learning library; "
            "it and continuum-lm cannot be in one environment. Install continuum-lm in a fresh "
            f"one; or run `pip uninstall continuum`, then {AGAIN}"
        )
    else:
        paths = (os.path.join(folder, name) for name in OWN)
        missing = next((path for path in paths if not os.path.isfile(path)), None)
    if missing is None:
        return None
    return (
        f"{missing} is missing: uninstalling another project named continuum deletes files of "
        f"continuum-lm; {AGAIN}"
    )


def _package_folder() -> str | None:
    """The folder of the package that Python imports, which is not imported here."""
    found = (finder.find_spec("continuum", None) for finder in sys.meta_path)
    spec = next((item for item in found if item is not None), None)
    folders = None if spec is None else spec.submodule_search_locations
    return next(iter(folders), None) if folders else None
