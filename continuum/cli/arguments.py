"""Arguments that several commands share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from continuum.errors import PreflightError, UsageError
from continuum.experiment.experiment import Experiment
from continuum.loading.diagnostics import in_order, render
from continuum.loading.load import Loaded, load
from continuum.planning.plan import NOTHING_MORE, Plan, PlannedStage, Request
from continuum.planning.planner import make_plan
from continuum.runs.files import DigestCache
from continuum.runs.folder import ExperimentFolder
from continuum.suggestions import did_you_mean

Spec = Annotated[
    Path, typer.Argument(metavar="SPEC", help="experiment.yaml, or the folder that holds it.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a value, as in stages.pretrain.optimizer.lr=1e-4. Repeatable.",
    ),
]
Rerun = Annotated[
    list[str] | None,
    typer.Option(
        "--rerun",
        metavar="STAGE",
        help="Make this stage again though nothing has changed. Repeatable.",
    ),
]
Locked = Annotated[
    bool,
    typer.Option("--locked", help="Refuse whatever deviates from continuum.lock."),
]
UnsafeLocks = Annotated[
    bool,
    typer.Option(
        "--unsafe-locks",
        help="Write though the file system's locks do not keep other machines out.",
    ),
]


@dataclass(frozen=True)
class Opened:
    """An experiment that was read, and its folder."""

    loaded: Loaded
    folder: ExperimentFolder

    @property
    def experiment(self) -> Experiment:
        """What the file says."""
        assert self.loaded.experiment is not None, "opening it raised its errors"
        return self.loaded.experiment

    @property
    def files(self) -> tuple[Path, ...]:
        """The file and its bases."""
        assert self.loaded.composition is not None, "opening it raised its errors"
        return self.loaded.composition.files

    def plan(self, request: Request = NOTHING_MORE) -> Plan:
        """What a run would do now."""
        digests = DigestCache(self.folder.digest_cache_path)
        return make_plan(self.experiment, self.folder, digests, request)

    def refuse(self, plan: Plan, told: str, *, on_this_machine: bool = True) -> None:
        """Exit 4 when a plan has problems, telling each with its line.

        Args:
            plan: Of this experiment.
            told: What the problems mean for the command.
            on_this_machine: Whether those count that another machine might not have.
        """
        if not plan.problems:
            return
        from continuum.lint import foreseen, place

        problems = [
            problem
            for problem in foreseen(plan)
            if problem.severity == "error" and (on_this_machine or problem.needs != "machine")
        ]
        if not problems:
            return
        shown = render(in_order(place(self.loaded, problems)))
        print(f"error: {told}\n{shown}", file=sys.stderr)
        raise typer.Exit(PreflightError.exit_code)


def open_experiment(spec: Path, overrides: list[str] | None) -> Opened:
    """Read the experiment that a command was given.

    Raises:
        UsageError: there is no such file.
        SpecError: the file has mistakes.
    """
    path = experiment_file(spec)
    loaded = load(path, overrides or ())
    loaded.document()
    return Opened(loaded, ExperimentFolder(path.parent.resolve()))


def open_folder(spec: Path) -> ExperimentFolder:
    """The folder of the experiment that a command was given; its file is not read.

    Raises:
        UsageError: there is no such file.
    """
    return ExperimentFolder(experiment_file(spec).parent.resolve())


def stage_of(plan: Plan, name: str) -> PlannedStage:
    """The stage of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in plan.stages:
        raise UsageError(f"there is no stage {name!r}{did_you_mean(name, plan.stages)}")
    return plan.stages[name]


def experiment_file(spec: Path) -> Path:
    """The YAML file that an argument names, itself or by its folder.

    Raises:
        UsageError: there is no such file.
    """
    path = spec / "experiment.yaml" if spec.is_dir() else spec
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give an experiment.yaml or the folder that has it")
    return path
