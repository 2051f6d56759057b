"""`continuum lock`: write continuum.lock from the records, check it, or upgrade its pins."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Opened, Spec, UnsafeLocks, open_experiment, stage_of
from continuum.cli.console import AsJson, Result
from continuum.errors import DecisionNeededError, UsageError
from continuum.formatting import plural, short_digest
from continuum.planning.approval import refuse_second_spec
from continuum.planning.locked_run import find_outdated, update_lockfile
from continuum.planning.lockfile import write_lockfile


def lock(
    spec: Spec,
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="With --upgrade: only these stages.", show_default=False),
    ] = None,
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="Look up the sources again; uses the network."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare with the spec; exit 6 if out of date.")
    ] = False,
    unsafe_locks: UnsafeLocks = False,
    as_json: AsJson = False,
) -> "Written | Checked":
    """Write continuum.lock from the records of the runs, check it, or upgrade its pins."""
    opened = open_experiment(spec, None)
    if stages and not upgrade:
        raise UsageError("STAGES can only be given with --upgrade")
    if check and upgrade:
        raise UsageError("--check and --upgrade cannot be used together")
    if check:
        plan = opened.plan()
        return Checked(plan.lockfile is not None, tuple(find_outdated(plan)))
    with opened.folder.lock(unsafe=unsafe_locks):
        if upgrade:
            return _upgrade(opened, stages or list(opened.experiment.stages))
        plan = opened.plan()
        refuse_second_spec(plan, opened.files)
        written = update_lockfile(plan, plan.reused, reseals=True)
    if written is None:
        raise UsageError(f"{opened.folder.path}: no results yet; run `continuum run` first")
    return Written(opened.folder.lockfile_path.name, len(written.stages))


@dataclass(frozen=True)
class Checked(Result):
    """Whether the lockfile matches the spec."""

    schema = "continuum.lock-checked/1"
    exists: bool
    outdated: tuple[str, ...]
    """Differences, by stage."""

    def as_json(self) -> dict[str, Any]:
        return {"exists": self.exists, "outdated": list(self.outdated)}

    def parts(self) -> Iterator[str]:
        yield from self.outdated
        if not self.outdated:
            yield (
                "up to date" if self.exists else "no continuum.lock yet; `continuum run` writes it"
            )

    def finish(self) -> None:
        if self.outdated:
            raise DecisionNeededError(
                "continuum.lock does not match the spec; run `continuum run` to update it"
            )


@dataclass(frozen=True)
class Written(Result):
    """The lockfile that was written, and the pins that --upgrade has changed."""

    schema = "continuum.lock-written/1"
    path: str
    num_stages: int
    upgraded: dict[str, dict[str, tuple[str | None, str]]] | None = None
    """The old and new pin by stage and source; None without --upgrade."""

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "num_stages": self.num_stages, "upgraded": self.upgraded}

    def parts(self) -> Iterator[str]:
        if self.upgraded is None:
            yield f"{self.path}: {plural(self.num_stages, 'stage')}"
            return
        for name, changes in self.upgraded.items():
            if not changes:
                yield f"{name}: up to date"
            for source, (old, new) in changes.items():
                yield f"{name}: {source}: {short_digest(old)} -> {short_digest(new)}"


def _upgrade(opened: Opened, names: list[str]) -> Written:
    path, plan = opened.folder.lockfile_path, opened.plan()
    stages = {name: stage_of(plan, name).stage for name in names}
    locked = plan.lockfile
    if locked is None:
        raise UsageError(f"{path}: no lockfile to upgrade; run `continuum run` first")
    upgraded = {}
    for name, stage in stages.items():
        if name not in locked.stages:
            typer.echo(f"{name}: not in the lockfile; the next run pins it", err=True)
            continue
        before, now = locked.pins(name), stage.renew_pins()
        if now:
            changed = {it: pin for it, pin in now.items() if before.get(it) != pin}
            upgraded[name] = {it: (before.get(it), pin) for it, pin in changed.items()}
            locked = locked.with_pins(name, {**before, **changed}) if changed else locked
    write_lockfile(path, locked)
    return Written(path.name, len(locked.stages), upgraded)
