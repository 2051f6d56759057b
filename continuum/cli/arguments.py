"""Arguments that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from continuum.digest_cache import DigestCache
from continuum.errors import UsageError
from continuum.plan import NOTHING_MORE, Plan, PlannedStage, Request
from continuum.planner import make_plan
from continuum.runs import ExperimentFolder
from continuum.spec.experiment import Document, Experiment, load_document
from continuum.spelling import did_you_mean

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
    bool, typer.Option("--locked", help="Refuse whatever deviates from continuum.lock.")
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

    document: Document
    folder: ExperimentFolder

    @property
    def experiment(self) -> Experiment:
        """What the document says."""
        return self.document.experiment

    def plan(self, request: Request = NOTHING_MORE) -> Plan:
        """What a run would do now."""
        digests = DigestCache(self.folder.digest_cache_path)
        return make_plan(self.experiment, self.folder, digests, request)


def open_experiment(spec: Path, overrides: list[str] | None) -> Opened:
    """Read the experiment that a command was given.

    Raises:
        UsageError: there is no such file.
        SpecError: the file has mistakes.
    """
    path = experiment_file(spec)
    document = load_document(path, overrides or ())
    return Opened(document, ExperimentFolder(path.parent.resolve()))


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
