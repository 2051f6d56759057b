"""The repository's own experiments, without what a run of them has left in the checkout."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.parent.name for path in ROOT.glob("experiments/*/experiment.yaml"))
LEFT_BY_A_RUN = ("runs", "continuum.lock", "lineage.json", ".gitignore", "report.*")


def copy_shipped(target: Path) -> Path:
    """Copy `experiments/` and `configs/` as they are committed; the folder of the copies."""
    for name in ("experiments", "configs"):
        ignore = shutil.ignore_patterns(*LEFT_BY_A_RUN)
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    return target
