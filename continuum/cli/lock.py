"""`continuum lock`: write continuum.lock from the records, or ask the sources anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Opened, Spec, UnsafeLocks, open_experiment, stage_of
from continuum.cli.console import Result
from continuum.errors import DecisionNeededError, UsageError
from continuum.formatting import short_digest
from continuum.planning.locked_run import find_outdated, update_lock
from continuum.planning.lockfile import read_lock, write_lock
from continuum.planning.other_specs import refuse_second_spec


def lock(
    spec: Spec,
    stages: Annotated[
        list[str] | None, typer.Argument(help="With --upgrade: only these.", show_default=False)
    ] = None,
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="Ask the sources what they are now; uses the network."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 6 if the lock is out of date.")
    ] = False,
    unsafe_locks: UnsafeLocks = False,
) -> "Written | Checked":
    """Write continuum.lock from what the folder's runs used and made."""
    opened = open_experiment(spec, None)
    if stages and not upgrade:
        raise UsageError("stages are named together with --upgrade")
    if check and upgrade:
        raise UsageError("--check and --upgrade exclude each other; use one of them")
    if check:
        plan = opened.plan()
        return Checked(plan.lock is not None, tuple(find_outdated(plan)))
    with opened.folder.lock(unsafe=unsafe_locks):
        if upgrade:
            return _upgrade(opened, stages or list(opened.experiment.stages))
        plan = opened.plan()
        refuse_second_spec(plan, opened.files)
        update_lock(plan, plan.reused, reseals=True)
        written = read_lock(opened.folder.pins_path)
    if written is None:
        raise UsageError(f"{opened.folder.path}: nothing was made yet; `continuum run` makes it")
    return Written(opened.folder.pins_path.name, len(written.stages))


@dataclass(frozen=True)
class Checked(Result):
    """Whether the lock fits the spec."""

    schema = "continuum.lock-checked/1"
    exists: bool
    outdated: tuple[str, ...]
    """What does not fit, by stage."""

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
                "continuum.lock does not fit the spec; `continuum run` brings it up to date"
            )


@dataclass(frozen=True)
class Written(Result):
    """The lock that was written, and with --upgrade the pins of each stage that have changed."""

    schema = "continuum.lock-written/1"
    path: str
    num_stages: int
    upgraded: dict[str, dict[str, tuple[str | None, str]]] | None = None
    """By stage and source, the pin before and now; None without --upgrade."""

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "num_stages": self.num_stages, "upgraded": self.upgraded}

    def parts(self) -> Iterator[str]:
        if self.upgraded is None:
            yield f"{self.path}: {self.num_stages} stages"
            return
        for name, changes in self.upgraded.items():
            if not changes:
                yield f"{name}: up to date"
            for source, (old, new) in changes.items():
                yield f"{name}: {source}: {short_digest(old)} -> {short_digest(new)}"


def _upgrade(opened: Opened, names: list[str]) -> Written:
    path, plan = opened.folder.pins_path, opened.plan()
    stages = {name: stage_of(plan, name).stage for name in names}
    locked = plan.lock
    if locked is None:
        raise UsageError(f"{path}: there is no lock to upgrade; `continuum run` writes it")
    upgraded = {}
    for name, stage in stages.items():
        if name not in locked.stages:
            typer.echo(f"{name}: is not in the lock; the next run pins it", err=True)
            continue
        before, now = locked.pins(name), stage.renew_pins()
        if now:
            changed = {it: pin for it, pin in now.items() if before.get(it) != pin}
            upgraded[name] = {it: (before.get(it), pin) for it, pin in changed.items()}
            locked = locked.with_pins(name, {**before, **changed}) if changed else locked
    write_lock(path, locked)
    return Written(path.name, len(locked.stages), upgraded)
