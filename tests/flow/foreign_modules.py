"""Modules that nobody installed, which tell when they are executed."""

import shutil
from pathlib import Path

import continuum

PACKAGE = Path(continuum.__file__).parent
SINGLE = ("torch.py", "random.py", "yaml.py", "signal.py", "typing_extensions.py")
MARK = "executed"
TELL = f"open(__file__ + '.{MARK}', 'w').close()\n"
STARTS = (
    "__init__.py",
    "__main__.py",
    "continuum_lm/__init__.py",
    "execution/__init__.py",
    "execution/safe_path.py",
)
"""Of this package, by path: run before the current folder is removed from `sys.path`."""
MODULES = ("__init__.py", "__main__.py", "config.py", "model.py", "worker.py")


def plant(folder: Path, *packages: str) -> Path:
    """Single modules, and packages of these names, in a folder."""
    folder.mkdir(exist_ok=True)
    for name in SINGLE:
        (folder / name).write_text(TELL, encoding="utf-8")
    for name in packages:
        (folder / name).mkdir()
        for module in MODULES:
            (folder / name / module).write_text(TELL, encoding="utf-8")
    return folder


def plant_checkout(folder: Path) -> Path:
    """Another copy of continuum: `python -m` begins in it, and should do no more than that."""
    copy = folder / "continuum"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for module in copy.rglob("*.py"):
        if module.relative_to(copy).as_posix() not in STARTS:
            module.write_text(TELL + module.read_text(encoding="utf-8"), encoding="utf-8")
    return folder


def executed(*folders: Path) -> list[str]:
    """The planted modules that were executed."""
    return sorted(path.name for folder in folders for path in folder.rglob(f"*.{MARK}"))
