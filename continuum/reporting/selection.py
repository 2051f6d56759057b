"""Which runs the user means: experiments, stages, run folders, with or without earlier runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from continuum.errors import IntegrityError, UsageError
from continuum.planning.folder_state import FolderState
from continuum.reporting.recorded_fields import trains
from continuum.reporting.run_facts import FactsReader, RunFacts, read_scores
from continuum.runs.folder import ExperimentFolder, StageRun
from continuum.suggestions import did_you_mean


@dataclass(frozen=True)
class Side:
    """An experiment or a run folder that the user named."""

    label: str
    state: FolderState | None = None
    """Of an experiment."""
    run: StageRun | None = None


def run_folder(path: Path) -> StageRun | None:
    """The run in a folder of `runs/`; None for any other path."""
    run = StageRun(path.resolve())
    return run if run.is_begun else None


def select_runs(
    sides: Sequence[Side], stages: Sequence[str], reader: FactsReader, *, with_earlier: bool
) -> list[list[RunFacts]]:
    """The training runs of each side, in the order of its stages, then oldest first.

    Args:
        stages: Only these; all that train if empty.
        with_earlier: Also the runs of an experiment that its spec no longer means.

    Raises:
        UsageError: no experiment has a stage of this name that trains.
    """
    found = []
    for side in sides:
        runs = _runs_of(side, stages, reader, with_earlier=with_earlier)
        scores = read_scores(side.state) if side.state is not None else {}
        found.append([it.with_scores(scores) for it in runs])
    known = {it.stage for runs in found for it in runs}
    for name in stages:
        if name not in known:
            names = sorted({name for side in sides for name in _trained_stages(side)})
            hint = did_you_mean(name, names)
            listed = f"; there are: {', '.join(names)}" if names else ""
            raise UsageError(f"--stage {name}: no stage of this name trains{hint}{listed}")
    return found


def num_earlier(side: Side, runs: Iterable[RunFacts]) -> int:
    """The number of run folders of these stages that are not among the runs."""
    if side.state is None:
        return 0
    shown, stages = {it.run_name for it in runs}, {it.stage for it in runs}
    names = set(side.state.folder.run_names()) - shown
    return sum(StageRun(Path(name)).stage_name in stages for name in names)


def _trained_stages(side: Side) -> list[str]:
    identities = side.state.identities if side.state is not None else {}
    return [name for name, it in identities.items() if it.stage.trains]


def _runs_of(
    side: Side, stages: Sequence[str], reader: FactsReader, *, with_earlier: bool
) -> Iterator[RunFacts]:
    if side.run is not None:
        folder = ExperimentFolder(side.run.experiment_folder)
        yield reader.recorded(side.label, folder, side.run)
    if side.state is None:
        return
    names = [name for name in _trained_stages(side) if not stages or name in stages]
    current = [reader.current(side.label, side.state, name) for name in names]
    if not with_earlier:
        yield from current
        return
    known = {it.run_name for it in current}
    earlier = [
        reader.recorded(side.label, side.state.folder, run)
        for run in side.state.folder.runs()
        if run.name not in known and _is_meant(run, names, stages)
    ]
    place = {name: number for number, name in enumerate(names)}
    runs = sorted((*earlier, *(it for it in current if it.run is not None)), key=_begun)
    runs += [it for it in current if it.run is None]
    yield from sorted(runs, key=lambda it: place.get(it.stage, len(place)))


def _begun(it: RunFacts) -> tuple[str, str]:
    return it.made_at, it.run_name or ""


def _is_meant(run: StageRun, names: Sequence[str], stages: Sequence[str]) -> bool:
    """Whether to show an earlier run; one whose record is damaged counts by its folder's name."""
    try:
        record = run.record()
    except IntegrityError:
        return run.stage_name in (stages or names)
    return trains(record.kind) and (not stages or record.name in stages)
