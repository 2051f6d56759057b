"""Arguments and options that several commands share, and what they name."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from continuum.errors import UsageError
from continuum.experiment.experiment import Experiment
from continuum.loading.load import Loaded, load
from continuum.planning.folder_state import read_folder
from continuum.planning.plan import NOTHING_MORE, Plan, PlannedStage, Request
from continuum.planning.planner import make_plan
from continuum.runs.folder import ExperimentFolder
from continuum.suggestions import did_you_mean

SPEC_NAME = "experiment.yaml"
Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="experiment.yaml, or its folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a value, e.g. stages.pretrain.optimizer.lr=1e-4. Repeatable.",
    ),
]
Rerun = Annotated[
    list[str] | None,
    typer.Option(
        "--rerun",
        metavar="STAGE",
        help="Run this stage again even if nothing has changed. Repeatable.",
    ),
]
Locked = Annotated[
    bool,
    typer.Option("--locked", help="Refuse any deviation from continuum.lock."),
]
UnsafeLocks = Annotated[
    bool,
    typer.Option(
        "--unsafe-locks",
        help="Write even if the file system's locks do not keep other machines out.",
    ),
]


@dataclass(frozen=True)
class Opened:
    """An experiment without errors, and its folder."""

    loaded: Loaded
    experiment: Experiment
    files: tuple[Path, ...]
    """The spec and its bases."""
    folder: ExperimentFolder

    def plan(self, request: Request = NOTHING_MORE) -> Plan:
        """Plan what a run would do now."""
        return make_plan(self.experiment, read_folder(self.experiment, self.folder), request)


def open_experiment(spec: Path, overrides: Iterable[str] | None) -> Opened:
    """Load the experiment that a command is given.

    Raises:
        UsageError: there is no such file.
        SpecError: the file has errors.
        PreflightError: `runs` is not a folder.
    """
    path = experiment_file(spec)
    loaded = load(path, tuple(overrides or ()))
    document = loaded.document()
    folder = ExperimentFolder.of(path)
    return Opened(loaded, document.experiment, document.composition.files, folder)


def open_folder(spec: Path) -> ExperimentFolder:
    """The folder of the experiment that a command is given; the spec is not read.

    Raises:
        UsageError: there is no such file.
        PreflightError: `runs` is not a folder.
    """
    return ExperimentFolder.of(experiment_file(spec))


def stage_of(plan: Plan, name: str) -> PlannedStage:
    """The stage with this name.

    Raises:
        UsageError: there is none.
    """
    if name not in plan.stages:
        raise UsageError(f"no stage named {name!r}{did_you_mean(name, plan.stages)}")
    return plan.stages[name]


def experiment_file(spec: Path) -> Path:
    """The spec that an argument names, or that is in the folder it names.

    Raises:
        UsageError: there is no such file.
    """
    path = spec / SPEC_NAME if spec.is_dir() else spec
    folder = ExperimentFolder(path.parent)
    if path in (folder.lockfile_path, folder.lineage_path):
        raise UsageError(f"{path} is a record of runs, not a spec; give its folder")
    if not path.is_file():
        raise UsageError(f"{_why_no_spec(spec, path)}; give an {SPEC_NAME} or its folder")
    return path


def _why_no_spec(spec: Path, path: Path) -> str:
    if str(spec) == "-":
        return "a spec is not read from standard input, because its folder holds its runs"
    if path.exists():
        return f"{path}: not a regular file"
    # Windows hides the second suffix of `experiment.yaml.txt`.
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    others = sorted(it.name for it in beside if {".yaml", ".yml"} & set(it.suffixes))[:3]
    return f"{path}: no such file" + (f"; found {', '.join(others)}" if others else "")
