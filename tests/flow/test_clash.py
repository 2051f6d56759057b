"""Another project installs a package named `continuum`: what it overwrites or hides is reported."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from continuum import continuum_lm
from tests.commands import TIMEOUT_S
from tests.flow.foreign_modules import PACKAGE

ENTRANCE = Path(continuum_lm.__file__).parent
SCRIPT = "import sys\nfrom continuum_lm import main\nsys.exit(main())\n"
"""As pip writes it."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages with this one in it."""
    folder = tmp_path / "site"
    shutil.copytree(PACKAGE, folder / "continuum", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ENTRANCE, folder / ENTRANCE.name)
    return folder


def install_other(site: Path, start: str = "raise ImportError('sklearn')\n") -> None:
    """The other project's first files, which pip writes over what is there."""
    for name, text in {"__init__.py": start, "scenarios/__init__.py": "", "viz.py": ""}.items():
        (site / "continuum" / name).parent.mkdir(parents=True, exist_ok=True)
        (site / "continuum" / name).write_text(text, encoding="utf-8")


def uninstall_other(site: Path) -> None:
    (site / "continuum" / "__init__.py").unlink()
    (site / "continuum" / "viz.py").unlink()
    shutil.rmtree(site / "continuum" / "scenarios")


def call(*site: Path, by: tuple[str, ...] = ("-c", SCRIPT)) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-P", *by, "--version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, site))},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def over_ours(site: Path) -> tuple[Path, ...]:
    install_other(site)
    return (site,)


def under_ours(site: Path) -> tuple[Path, ...]:
    install_other(site, start=(PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    return (site,)


def before_ours(site: Path) -> tuple[Path, ...]:
    """As before an editable installation, which `sys.path` has last."""
    first = site.parent / "first"
    install_other(first)
    return (first, site)


@pytest.mark.parametrize("install", [over_ours, under_ours, before_ours], ids=lambda f: f.__name__)
def test_the_other_project_is_named_with_the_remedy(
    install: Callable[[Path], tuple[Path, ...]], site: Path
) -> None:
    path = install(site)
    code, told = call(*path)
    assert code == 4
    assert told.startswith(f"error: {path[0] / 'continuum'} has files of another project named ")
    assert "run `pip uninstall continuum`, then install continuum-lm again" in told
    assert told.count("\n") == 1, "no traceback of what is not imported"


def test_python_m_reports_it_too(site: Path) -> None:
    install_other(site, start="__version__ = '1.2.4'\n")
    code, told = call(site, by=("-m", "continuum"))
    assert code == 4
    assert "has files of another project named continuum" in told


def test_what_uninstalling_the_other_project_leaves_is_reported(site: Path) -> None:
    install_other(site)
    uninstall_other(site)
    code, told = call(site)
    assert code == 4
    assert told.startswith(f"error: {site / 'continuum' / '__init__.py'} is missing: ")
    assert "pip install --force-reinstall --no-deps" in told
    shutil.copy(PACKAGE / "__init__.py", site / "continuum")
    code, told = call(site)
    assert (code, told.split()[0]) == (0, "continuum")


def test_looking_for_it_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import continuum_lm\n"
        "assert continuum_lm.find_clash() is None\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["continuum_lm"]
