"""`continuum verify`: compare files with their recorded checksums."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from continuum.cli.arguments import Spec, open_folder
from continuum.cli.console import AsJson, Result, Styled
from continuum.errors import IntegrityError
from continuum.formatting import format_bytes, plural
from continuum.lineage.verify import Verified, verify_folder
from continuum.planning.lockfile import read_lockfile

MAX_NAMES = 3
"""Runs or stages named in one line; the JSON document names all."""


def verify(
    spec: Spec,
    fast: Annotated[bool, typer.Option("--fast", help="Compare only presence and sizes.")] = False,
    as_json: AsJson = False,
) -> "Verification":
    """Verify the checksums of all run files; exit 8 if any differs."""
    folder = open_folder(spec)
    lock = read_lockfile(folder.lockfile_path)
    locked = lock.stages if lock is not None else {}
    return Verification(verify_folder(folder, locked, fast=fast), fast)


@dataclass(frozen=True)
class Verification(Result):
    """What was compared, and what failed."""

    schema = "continuum.verify/1"
    found: Verified
    fast: bool

    def as_json(self) -> dict[str, Any]:
        return {"fast": self.fast, "ok": not self.found.findings, **asdict(self.found)}

    def parts(self) -> Iterator[str | Styled]:
        found = self.found
        for it in found.findings:
            yield Styled(f"runs/{it.run}: {it.what}: {it.problem}", "red")
        how = "presence and sizes verified" if self.fast else "checksums verified"
        yield (
            f"{plural(found.num_runs, 'run')}, {plural(found.num_checkpoints, 'checkpoint')}, "
            f"{format_bytes(found.num_bytes)}: {how}"
        )
        yield from _named(
            map("runs/{}".format, found.links),
            "a link in place of a folder (verified where it leads; a copy of this folder may lack "
            "it)",
        )
        yield from _named(
            map("runs/{}".format, found.not_proved),
            "consistent, but not proved (neither continuum.lock nor a run made "
            "from it has its seal; `continuum lock` records it)",
        )
        yield from _named(
            map("runs/{}".format, found.not_sealed), "not sealed (made by an earlier release)"
        )
        yield from _named(
            found.not_here,
            "not verified: continuum.lock records them, but their runs are not in this folder",
        )

    def finish(self) -> None:
        if self.found.findings:
            raise IntegrityError(
                f"{plural(len(self.found.findings), 'item')} failed verification; `continuum run "
                "--rerun STAGE` makes a stage again, and a corrupt checkpoint is never resumed from"
            )


def _named(names: Iterable[str], what: str) -> Iterator[Styled]:
    """A line that names the first of these."""
    first = list(names)
    if first:
        more = f" and {len(first) - MAX_NAMES:,} more" if len(first) > MAX_NAMES else ""
        yield Styled(f"{what}: {', '.join(first[:MAX_NAMES])}{more}", "yellow")
