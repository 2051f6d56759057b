"""Plan and run an experiment in this process, by the calls that `continuum run` makes."""

from collections.abc import Callable
from pathlib import Path

from continuum.execution.executor import Observer, StopRule, execute, record_results
from continuum.execution.launchers import Launcher
from continuum.execution.launchers.in_process import InProcessLauncher
from continuum.execution.results import RunResult
from continuum.experiment.experiment import Experiment
from continuum.loading.load import load
from continuum.planning.approval import approve
from continuum.planning.folder_state import read_folder
from continuum.planning.plan import NOTHING_MORE, Plan, Request
from continuum.planning.planner import make_plan
from continuum.runs.folder import ExperimentFolder

NEVER = StopRule()


def plan_experiment(experiment: Experiment, folder: Path, request: Request = NOTHING_MORE) -> Plan:
    """Plan an experiment in a folder."""
    return make_plan(experiment, read_folder(experiment, ExperimentFolder(folder)), request)


def plan_folder(folder: Path, request: Request = NOTHING_MORE) -> Plan:
    """Plan the `experiment.yaml` of a folder."""
    loaded = load(folder / "experiment.yaml", request.overrides).document()
    return plan_experiment(loaded.experiment, folder, request)


def run_folder(
    folder: Path,
    observe: Observer = lambda *_: None,
    stop: StopRule = NEVER,
    request: Request = NOTHING_MORE,
    *,
    launcher: Launcher | None = None,
    before_start: Callable[[Plan], None] = lambda _: None,
) -> RunResult:
    """Run the `experiment.yaml` of a folder.

    Args:
        before_start: Called with the plan before it is approved.
    """
    spec, owner = folder / "experiment.yaml", ExperimentFolder(folder)
    loaded = load(spec, request.overrides)
    experiment = loaded.document().experiment
    with owner.lock():
        state = read_folder(experiment, owner, is_writer=True)
        plan = make_plan(experiment, state, request)
        before_start(plan)
        approve(plan, loaded, [spec])
        result = execute(plan, lambda _: launcher or InProcessLauncher(), observe, stop)
        record_results(result)
    return result
