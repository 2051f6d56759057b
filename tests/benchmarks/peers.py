"""Other systems, each in an environment of its own, made once and kept; never in the project's."""

import subprocess
import sys
from pathlib import Path


def peer(peers_dir: Path, name: str, requirement: str) -> Path:
    """The `bin` folder of an environment that has a package; made when it is not there.

    Raises:
        RuntimeError: the package cannot be installed; with what pip said.
    """
    folder = peers_dir / name
    marker = folder / "installed.txt"
    if not marker.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", requirement]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{requirement} cannot be installed: {done.stderr.strip()[-500:]}")
        listed = subprocess.run(
            [str(folder / "bin" / "pip"), "freeze"], capture_output=True, text=True, check=True
        )
        marker.write_text(listed.stdout, encoding="utf-8")
    return folder / "bin"


def version(bin_dir: Path, package: str) -> str:
    """The version of a package in a peer's environment."""
    lines = (bin_dir.parent / "installed.txt").read_text(encoding="utf-8").splitlines()
    return next((line.split("==")[1] for line in lines if line.startswith(f"{package}==")), "?")
