"""`continuum lock`: write continuum.lock from the records, or ask the sources anew."""

from collections.abc import Mapping
from typing import Annotated

import typer

from continuum.cli.arguments import Opened, Spec, UnsafeLocks, open_experiment
from continuum.errors import UsageError
from continuum.figures import short_digest
from continuum.lock import Lock, read_lock, write_lock
from continuum.locking import update_lock
from continuum.spelling import did_you_mean


def lock(
    spec: Spec,
    stages: Annotated[
        list[str] | None, typer.Argument(help="With --upgrade: only these.", show_default=False)
    ] = None,
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="Ask the sources what they are now; uses the network."),
    ] = False,
    unsafe_locks: UnsafeLocks = False,
) -> None:
    """Write continuum.lock from what the folder's runs used and made."""
    opened = open_experiment(spec, None)
    if stages and not upgrade:
        raise UsageError("stages are named together with --upgrade")
    with opened.folder.lock(unsafe=unsafe_locks):
        if upgrade:
            _upgrade(opened, stages or list(opened.experiment.stages))
            return
        plan = opened.plan()
        update_lock(plan, plan.reused, reseals=True)
        written = read_lock(opened.folder.pins_path)
    if written is None:
        raise UsageError(f"{opened.folder.path}: nothing was made yet; `continuum run` makes it")
    typer.echo(f"{opened.folder.pins_path.name}: {len(written.stages)} stages")


def _upgrade(opened: Opened, names: list[str]) -> None:
    known = opened.experiment.stages
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"--upgrade {name}: there is no stage of this name{hint}")
    path = opened.folder.pins_path
    locked = opened.plan().lock
    if locked is None:
        raise UsageError(f"{path}: there is no lock to upgrade; `continuum run` writes it")
    for name in names:
        if name not in locked.stages:
            typer.echo(f"{name}: is not in the lock; the next run pins it", err=True)
            continue
        locked = _renewed(locked, name, known[name].renew_pins())
    write_lock(path, locked)


def _renewed(locked: Lock, name: str, now: Mapping[str, str]) -> Lock:
    before = locked.pins(name)
    changed = {source: pin for source, pin in now.items() if before.get(source) != pin}
    for source, pin in changed.items():
        was = short_digest(before.get(source))
        typer.echo(f"{name}: {source}: {was} -> {short_digest(pin)}")
    if not changed:
        if now:
            typer.echo(f"{name}: up to date")
        return locked
    return locked.with_pins(name, {**before, **changed})
