"""Whether the disks have room for what a plan's stages keep on them.

A stage needs the most that its run folder holds at once: the checkpoints that retention keeps plus
the one being written, minus what is already there. The stages of a plan share one disk, so each is
compared with what those before it leave free. A tokenized dataset is estimated from its corpora.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from continuum.errors import Problem
from continuum.experiment.forecast import DiskNeed, Facts, Forecast
from continuum.experiment.recipe import Recipe, intervals_of, retention_of
from continuum.experiment.stage import PlanInput
from continuum.formatting import format_bytes, plural
from continuum.runs.artifacts import Corpus, TokenizerFiles
from continuum.runs.folder import StageRun
from continuum.runs.retention import Retention

MAX_LISTED = 20_000
"""Checkpoints of a run up to which those that are kept are counted; beyond, they are bounded."""
TEMPORARY_BYTES = 1 << 20
"""For sockets and small files of worker processes."""
COMPILE_BYTES = 50 << 20
"""For torch.compile's cache: 5 MB for pythia-160m on a CPU, times ten to be safe."""
MAX_BYTES_PER_TOKEN, USUAL_BYTES_PER_TOKEN = 8, 3
"""Of text: no common tokenizer reaches the first on prose; large ones have about 4 on English."""
MAX_UINT16_IDS = 1 << 16
"""Vocabularies up to this size need two bytes a token, larger ones four."""


class DiskBudget:
    """The disk space that stages claim in the experiment's folder.

    Stages of a plan claim in order what they keep in the end; running stages claim their maximum
    until they end.
    """

    def __init__(self, *, at_work: bool = False) -> None:
        self._at_work = at_work
        self._guard = threading.Lock()
        self._claims: dict[Path, tuple[int, int]] = {}
        """By run folder: bytes in total, and bytes that were not on disk yet."""
        self._claimed_bytes = 0
        """The sum of the latter."""
        self._free_bytes: int | None = None
        """Measured at the first claim, and again after a stage has ended."""

    def claim(
        self, forecast: Forecast, run: StageRun, selected: Collection[int], *, again: bool = False
    ) -> Forecast:
        """Add the stage's maximum to its forecast, and a problem if that does not fit.

        Args:
            run: Its run folder; what is already there is part of the maximum.
            selected: Steps that other stages select.
            again: Whether the existing run is archived first.
        """
        need = forecast.disk
        if need is None:
            return forecast
        at_once, left = held(need, selected)
        facts: Facts = {**forecast.facts, "disk_bytes": at_once * need.item_bytes}
        if need.retention is not None and "checkpoints" in facts:
            facts["checkpoints_kept"] = min(left, facts["checkpoints"])
        forecast = replace(forecast, facts=facts)
        if run.is_complete and not again:
            return forecast
        there = 0 if again else _size_of(run.path)
        with self._guard:
            free = self._free_bytes
            if free is None:
                free = self._free_bytes = free_bytes(run.path.parent)
            claimed = self._claimed_bytes
            total = (at_once if self._at_work else left) * need.item_bytes
            self._claims[run.path] = (total, max(0, total - there))
            self._claimed_bytes += max(0, total - there)
        if at_once * need.item_bytes - there + claimed <= free:
            return forecast
        return forecast.with_problems([_disk_problem(need, at_once, there, free, claimed)])

    def release(self, run: StageRun) -> None:
        """Drop the claim of a stage that has ended: its files are on disk now."""
        with self._guard:
            self._claims.pop(run.path, None)
            self._free_bytes = None
            for path, (total, _) in self._claims.items():
                self._claims[path] = (total, max(0, total - _size_of(path)))
            self._claimed_bytes = sum(rest for _, rest in self._claims.values())


def held(need: DiskNeed, selected: Collection[int] = ()) -> tuple[int, int]:
    """How many items are in the run folder: at most at once, and at the end."""
    if need.retention is None:
        return 1, 1
    retention, last = need.retention, need.saved.stop - 1
    keeps_best = retention.keep_best is not None
    if len(need.saved) > MAX_LISTED:
        for_good = last // retention.keep_every if retention.keep_every else 0
        most = for_good + retention.keep_last + keeps_best + len(selected)
        return most + 1, most
    retention = replace(retention, keep_steps=frozenset(selected))
    chosen = {step for step in selected if need.after < step <= last}
    steps = sorted({*need.saved, *chosen, last})

    def kept_of(steps: list[int]) -> int:
        return min(len(steps), len(retention.keeps(steps)) + keeps_best)

    # The number kept never falls, so the maximum is while the last one is being written.
    return kept_of(steps[:-1]) + 1, kept_of(steps)


def checkpoints_need(
    recipe: Recipe, checkpoint_bytes: int, num_steps: int | None, start_step: int
) -> DiskNeed:
    """The checkpoints of a training stage; the minimum while its steps are unknown."""
    policy = recipe.runtime.checkpoint
    if num_steps is None or num_steps <= start_step:
        always = range(1, policy.keep_last + 2)
        return DiskNeed(checkpoint_bytes, always, retention=Retention(policy.keep_last))
    # By the clock, any step may be saved.
    regular = intervals_of(recipe, num_steps).checkpoint_every or num_steps
    every = 1 if policy.minutes is not None else regular
    first = start_step - start_step % every + every
    saved = range(first, num_steps + 1, every)
    return DiskNeed(checkpoint_bytes, saved, start_step, retention_of(recipe, num_steps))


def temporary_problems(recipe: Recipe) -> Iterator[Problem]:
    """Check the temporary directory, which worker processes and torch.compile use.

    Checkpoints and downloads do not use it.
    """
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        message = (
            f"no usable temporary directory ({error.strerror}); set TMPDIR to a writable folder"
        )
        yield Problem((), message, needs="machine")
        return
    needed = TEMPORARY_BYTES
    if recipe.runtime.compile == "on" and not os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        needed += COMPILE_BYTES
    free = free_bytes(folder)
    if free < needed:
        yield Problem(
            (),
            f"the temporary directory {folder} has {format_bytes(free)} free, but processes and "
            f"torch.compile need up to {format_bytes(needed)}: free some space, or set TMPDIR to "
            "another folder",
            needs="machine",
        )


def free_bytes(folder: Path) -> int:
    """Free bytes for this user on the disk of a folder, which need not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def _disk_problem(need: DiskNeed, at_once: int, there: int, free: int, claimed: int) -> Problem:
    size = format_bytes(need.item_bytes)
    what = f"its output takes about {size}"
    remedy = "free some space on the experiment's disk"
    if need.retention is not None:
        total = format_bytes(at_once * need.item_bytes)
        kept = plural(at_once, "checkpoint")
        what = f"up to {kept} of about {size} are on the disk at once ({total})"
        remedy += ", or keep fewer (keep_last, keep_every)"
    written = f", {format_bytes(there)} already exist" if there else ""
    others = f", of which earlier stages take {format_bytes(claimed)}" if claimed else ""
    message = f"{what}{written}, {format_bytes(free)} are free{others}: {remedy}"
    return Problem(("runtime", "checkpoint"), message, needs="machine", at_key=True)


def _size_of(folder: Path) -> int:
    """Bytes of all files in a folder, hard links counted once."""
    sizes = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


def dataset_need(inputs: Iterable[PlanInput]) -> DiskNeed | None:
    """The minimum size of the token chunks; None while the corpora do not exist."""
    inputs = tuple(inputs)
    least = sum(map(_plain_text_bytes, inputs)) // MAX_BYTES_PER_TOKEN * _bytes_per_id(inputs)
    return DiskNeed(least) if least else None


def dataset_warnings(inputs: Iterable[PlanInput], experiment_folder: Path) -> Iterator[Problem]:
    """Warn if the chunks of this much text usually need more disk space than is free."""
    inputs = tuple(inputs)
    usual = sum(map(_text_bytes, inputs)) // USUAL_BYTES_PER_TOKEN * _bytes_per_id(inputs)
    free = free_bytes(experiment_folder)
    if usual > free:
        yield Problem(
            ("corpus",),
            f"the tokens of this corpus may take {format_bytes(usual)}, but {format_bytes(free)} "
            "are free on the experiment's disk",
            severity="warning",
            needs="machine",
        )


def _bytes_per_id(inputs: Iterable[PlanInput]) -> int:
    views = (item.artifact.view(TokenizerFiles) for item in inputs if item.artifact is not None)
    sizes = [view.num_ids for view in views if isinstance(view, TokenizerFiles)]
    return 4 if any(size > MAX_UINT16_IDS for size in sizes) else 2


def _text_bytes(item: PlanInput) -> int:
    """Bytes of a corpus, or an upper bound; zero while unknown."""
    if isinstance(item.artifact, Corpus):
        return item.artifact.size_bytes
    return item.forecast.max_text_bytes or 0


def _plain_text_bytes(item: PlanInput) -> int:
    """Bytes that are certainly text, at least one per character: of JSON lines only a part is."""
    items = item.artifact.items if isinstance(item.artifact, Corpus) else ()
    return sum(
        file.size_bytes
        for file in items
        if file.format != "jsonl"
        and file.compression == "none"
        and file.encoding.lower().replace("_", "-") in ("utf-8", "ascii")
    )
