"""The experiment folder; the only module that knows its file names.

    <folder>/runs/<stage>-<fingerprint12>/
        stage.json        written first: the resolved spec, its inputs, where it came from
        attempts.jsonl    a line for each start and each end of a process
        resolved.json     the values chosen for `auto`; a recovery keeps them
        log.txt  metrics.jsonl  checkpoints/  output/
        artifact.json     written last: its existence is the one meaning of "complete";
                          seals itself and the records above

Status is derived from these files and stored nowhere else.
"""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from continuum.errors import FolderInUseError, IntegrityError, PreflightError
from continuum.formatting import short_digest
from continuum.runs import files, flock
from continuum.runs.artifacts import Artifact, TrainingCheckpoint
from continuum.runs.attempts import UNKNOWN_OWNER, AttemptState, Owner, state_of
from continuum.runs.fingerprint import fingerprint_of_json
from continuum.runs.placing import restore_replaced
from continuum.runs.records import (
    CHECKPOINTS,
    STAGE_SCHEMA,
    StageRecord,
    artifact_document,
    checkpoint_name,
    find_changes,
    find_other_seals,
    is_checkpoint_name,
    parsed,
    read_artifact,
    read_document,
    read_json,
)
from continuum.runs.redaction import REDACTED

FINGERPRINT_LETTERS = 12
WORKER_LOCK_TIMEOUT_S = 30.0
"""How long a worker waits for an orphan of a killed run to notice and exit."""
RUN_LOCK_TIMEOUT_S = 0.5
"""How long a run waits for the folder: `status --watch` locks it for a moment to check it."""


class StageRun:
    """A run folder: a stage with one fingerprint, its attempts and its artifact.

    Reads `stage.json` and `artifact.json` once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record: StageRecord | None = None
        self._artifact: Artifact | None = None

    @property
    def name(self) -> str:
        """The folder's name, `<stage>-<fingerprint12>`."""
        return self.path.name

    @property
    def stage_name(self) -> str:
        """The name of the stage, from that of the folder."""
        return self.name[: -FINGERPRINT_LETTERS - 1]

    @property
    def experiment_folder(self) -> Path:
        """The folder that holds `experiment.yaml`."""
        return self.path.parent.parent

    @property
    def output_dir(self) -> Path:
        return self.path / "output"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def stop_request(self) -> Path:
        """Its existence asks the running ranks to stop at their next step boundary."""
        return self.path / ".stop"

    @property
    def is_complete(self) -> bool:
        return (self.path / "artifact.json").is_file()

    @property
    def is_begun(self) -> bool:
        return (self.path / "stage.json").is_file()

    @property
    def is_running(self) -> bool:
        """Whether a process runs the stage now; False if that is unknown."""
        return _is_locked(self.path / ".lock")

    def begun_at(self) -> str:
        """When the last attempt started, from its record: a copy's files have other times.

        Empty if the record cannot be read.
        """
        try:
            return self.record().made_at
        except IntegrityError:
            return ""

    def begin(self, record: StageRecord) -> None:
        """Write `stage.json`, again for each attempt: runtime fields may have changed."""
        self.path.mkdir(parents=True, exist_ok=True)
        files.fsync_folder(self.path.parent)
        document = {"schema": STAGE_SCHEMA, **record.model_dump(mode="json")}
        files.write_json(self.path / "stage.json", document)
        self._record, self._artifact = record, None

    def record(self) -> StageRecord:
        """The record of the stage.

        Raises:
            IntegrityError: `stage.json` is missing, invalid, or has another fingerprint than the
                folder's name.
        """
        if self._record is None:
            self._record = self._read_record()
        return self._record

    def _read_record(self) -> StageRecord:
        path = self.path / "stage.json"
        record = parsed(StageRecord, read_document(path, STAGE_SCHEMA), path)
        is_whole = REDACTED not in str(record.identity)
        # A credential that is written out in a URL is identity, but not recorded.
        own = fingerprint_of_json(record.identity) if is_whole else record.fingerprint
        if own != record.fingerprint:
            raise IntegrityError(
                f"{path} was changed after it was written: its identity has the fingerprint "
                f"{short_digest(own)}, not {short_digest(record.fingerprint)}"
            )
        if self.name.rpartition("-")[2] != own[:FINGERPRINT_LETTERS]:
            raise IntegrityError(
                f"{self.path} was copied or renamed: its record has the fingerprint "
                f"{own[:FINGERPRINT_LETTERS]}"
            )
        return record

    def resolved(self) -> dict[str, Any]:
        """The values chosen for `auto` in the first attempt, if any; raises IntegrityError."""
        path = self.path / "resolved.json"
        return read_json(path, "remove it to choose `auto` values again") if path.is_file() else {}

    def precision(self) -> str | None:
        """The precision chosen; None before a training started. Raises IntegrityError."""
        found = self.resolved().get("precision")
        return found if isinstance(found, str) else None

    def keep_resolved(self, values: dict[str, Any]) -> None:
        """Record the values chosen for `auto`, once."""
        if not (self.path / "resolved.json").exists():
            files.write_json(self.path / "resolved.json", values)

    def log_attempt(self, event: str, **fields: Any) -> None:
        """Append a line to `attempts.jsonl`."""
        files.append_json_line(self.path / "attempts.jsonl", {"event": event, **fields})

    def attempts(self) -> list[dict[str, Any]]:
        """The lines of `attempts.jsonl`, oldest first; raises IntegrityError."""
        return files.read_json_lines(self.path / "attempts.jsonl", key="event")

    def attempt_state(self, owner: Owner | None) -> AttemptState:
        """How the last attempt of an unfinished run ended, or that it runs now.

        Args:
            owner: The process that holds the experiment's folder, if any.

        Raises:
            IntegrityError: `attempts.jsonl` cannot be read.
        """
        return state_of(self.attempts(), owner, is_running=self.is_running)

    def record_lost_attempt(self, *, at: str) -> None:
        """Record that the last attempt was killed, if its run could not record how it ended.

        Only for the holder of the folder's lock.
        """
        try:
            attempts = [] if self.is_complete else self.attempts()
        except IntegrityError:  # reported when the stage runs
            return
        events = [line["event"] for line in attempts if line["event"] in ("started", "ended")]
        if events and events[-1] == "started" and not self.is_running:
            number = events.count("started")
            message = "the run was killed, or its machine stopped; recorded by the next run"
            self.log_attempt("ended", attempt=number, at=at, status="killed", message=message)

    def metrics(self, having: str = "") -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, oldest first; raises IntegrityError.

        Args:
            having: Only rows with this text, such as the name of a column: others are not parsed.
        """
        return files.read_json_lines(self.metrics_path, key="step", having=having)

    @property
    def num_attempts(self) -> int:
        return sum(line["event"] == "started" for line in self.attempts())

    def checkpoints(self) -> list[TrainingCheckpoint]:
        """The published checkpoints whose files have their recorded sizes, oldest first.

        Of a finished run, only those that its artifact seals.
        """
        found = [c for c in map(self.checkpoint, self.checkpoint_names()) if c is not None]
        then = self.artifact().records if self.is_complete else None
        if then is not None:
            others = dict(find_other_seals(then, {c.path.name: c.seal or "" for c in found}))
            found = [c for c in found if c.path.name not in others]
        return sorted(found, key=lambda c: c.step)

    def checkpoint(self, name: str) -> TrainingCheckpoint | None:
        """The checkpoint in a folder; None if it is missing or corrupt."""
        try:
            found = read_artifact(self.checkpoints_dir / name)
        except IntegrityError:
            return None
        assert isinstance(found, TrainingCheckpoint)
        return None if files.find_damage(found.path, found.files, read=False) else found

    def checkpoint_names(self) -> list[str]:
        """The folder names of the published checkpoints, sorted, including corrupt ones."""
        return [name for name in _names_in(self.checkpoints_dir) if is_checkpoint_name(name)]

    def checkpoint_dir(self, step: int) -> Path:
        return self.checkpoints_dir / checkpoint_name(step)

    def complete(self, artifact: Artifact) -> Artifact:
        """Hash the files of the artifact and write `artifact.json`, which completes the run."""
        listed = artifact.files or files.hash_tree(artifact.path)
        files.fsync_tree(artifact.path)
        published = artifact.model_copy(
            update={"files": listed, "digest": files.tree_digest(listed)}
        )
        files.write_json(self.path / "artifact.json", artifact_document(published, self.path))
        self._artifact = None
        return published

    def artifact(self) -> Artifact:
        """The artifact of the run.

        Raises:
            IntegrityError: `artifact.json` is missing, invalid, or changed since it was sealed.
        """
        if self._artifact is None:
            self._artifact = read_artifact(self.path)
        return self._artifact

    def artifacts(self) -> list[Artifact]:
        """Everything that the run made: its checkpoints, oldest first, and its artifact.

        Raises:
            IntegrityError: `artifact.json` cannot be read.
        """
        found: list[Artifact] = [*self.checkpoints()]
        made = [self.artifact()] if self.is_complete else []
        return found + [it for it in made if it.digest not in {known.digest for known in found}]

    def size_bytes(self) -> int:
        """The size of all files; hard links count once."""
        seen: set[tuple[int, int]] = set()
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with suppress(OSError):  # an active run removes files
                    stat = os.lstat(f"{folder}/{name}")
                    if (stat.st_dev, stat.st_ino) not in seen:
                        seen.add((stat.st_dev, stat.st_ino))
                        total += stat.st_size
        return total

    def links(self) -> Iterator[str]:
        """The run folder and folders in it that are links, by their path below `runs/`."""
        steps = [f"{CHECKPOINTS}/{name}" for name in self.checkpoint_names()]
        for name in ("", "output", CHECKPOINTS, *steps):
            if (self.path / name).is_symlink():
                yield f"{self.name}/{name}".rstrip("/")

    def changed_records(self, *, read: bool = False) -> list[tuple[str, str]]:
        """The records of a finished run that changed after its end, and how.

        Args:
            read: Whether to read `metrics.jsonl`, which may be large.

        Raises:
            IntegrityError: `artifact.json` or `stage.json` cannot be read.
        """
        then = self.artifact().records if self.is_complete else None
        if then is None:
            is_stripped = self.is_complete and self.record().is_of_sealed_run
            return [("artifact.json", "has lost its seal")] if is_stripped else []
        return list(find_changes(self.path, then, read=read))

    def archive(self) -> None:
        """Move the folder to `runs/.archive`, so that the stage can run again in its place."""
        archive = self.path.parent / ".archive"
        archive.mkdir(exist_ok=True)
        targets = (archive / f"{self.name}.{number}" for number in itertools.count(1))
        self.path.replace(next(target for target in targets if not target.exists()))
        self._record = self._artifact = None
        files.fsync_folder(archive)
        files.fsync_folder(self.path.parent)

    def discard_unfinished(self) -> None:
        """Remove the output and the unpublished checkpoints of an interrupted attempt.

        Restores a checkpoint that was about to be replaced.
        """
        shutil.rmtree(self.output_dir, ignore_errors=True)
        restore_replaced(self.checkpoints_dir)
        for leftover in self.checkpoints_dir.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def worker_lock(self) -> Iterator[None]:
        """Hold the lock of the process that runs the stage, so that only one does.

        A file system without locks was accepted when the run started.
        """
        path = self.path / ".lock"
        with flock.locked(path, WORKER_LOCK_TIMEOUT_S, is_needed=False) as is_ours:
            if not is_ours:
                raise FolderInUseError(
                    f"{self.path}: another process still runs this stage; wait for it or stop it"
                )
            yield


class ExperimentFolder:
    """The folder with `experiment.yaml`; a run writes only below it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, spec: Path) -> "ExperimentFolder":
        """The folder of a spec.

        Raises:
            PreflightError: `runs` is not a folder; it would be read as one without runs.
        """
        folder = cls(spec.parent.resolve())
        files.check_folder(folder.runs_dir)
        return folder

    @property
    def runs_dir(self) -> Path:
        return self.path / "runs"

    @property
    def lineage_path(self) -> Path:
        return self.path / "lineage.json"

    @property
    def lockfile_path(self) -> Path:
        """`continuum.lock`: the pinned inputs and results; not the lock of the folder's writer."""
        return self.path / "continuum.lock"

    @property
    def stop_request(self) -> Path:
        """Its existence asks the run that holds the folder to stop."""
        return self.runs_dir / ".stop"

    @property
    def owner_path(self) -> Path:
        """The owner of the folder's lock: `{"pid": …, "host": …, "since": …}`."""
        return self.runs_dir / ".owner.json"

    def last_owner(self) -> Owner | None:
        """The process that holds the lock of the folder, or held it last; None if unknown."""
        try:
            return Owner(**json.loads(self.owner_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def describe_owner(self) -> str:
        """That process in words."""
        return str(self.last_owner() or "another process")

    def owner(self) -> Owner | None:
        """The process that holds the lock of the folder now; None if none does, or unknown."""
        return (self.last_owner() or UNKNOWN_OWNER) if self.is_locked() else None

    def is_locked(self) -> bool:
        """Whether a run holds the folder now; False if that is unknown."""
        return _is_locked(self.runs_dir / ".lock")

    def check_locks(self) -> None:
        """Check that the lock of the folder excludes all other writers.

        Raises:
            PreflightError: the file system has no locks, or only locks local to a machine.
        """
        weakness = flock.weakness_of_locks(self.runs_dir)
        if weakness is not None:
            raise PreflightError(f"{self.path}: {weakness}, {flock.ADVICE}")
        flock.is_locked(self.runs_dir / ".lock")

    @property
    def digest_cache_path(self) -> Path:
        return self.runs_dir / ".digests.json"

    @property
    def environment_dir(self) -> Path:
        """Long parts of provenance records, each named by its SHA-256."""
        return self.runs_dir / ".environment"

    def environment_files(self) -> list[Path]:
        """Those parts, without unfinished files of a killed run."""
        folder = self.environment_dir
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [path for path in found if not path.name.startswith(".")]

    @property
    def verified_path(self) -> Path:
        """The runs that `verify --fast` has verified and need not read again."""
        return self.runs_dir / ".verified.json"

    @property
    def removed_path(self) -> Path:
        """The lineage of runs that `continuum prune` has removed."""
        return self.runs_dir / ".removed.jsonl"

    def run_named(self, name: str) -> StageRun:
        """The run folder of this name, whether it exists or not."""
        return StageRun(self.runs_dir / name)

    def run(self, stage: str, fingerprint: str) -> StageRun:
        """The run folder of a stage with this fingerprint, whether it exists or not."""
        return StageRun(self.runs_dir / f"{stage}-{fingerprint[:FINGERPRINT_LETTERS]}")

    def runs(self) -> list[StageRun]:
        """All run folders with a record, by name."""
        found = (StageRun(self.runs_dir / name) for name in self.run_names())
        return [run for run in found if run.is_begun]

    def run_names(self) -> list[str]:
        """The names in `runs/` that may be run folders, sorted."""
        return [it for it in _names_in(self.runs_dir) if "-" in it and not it.startswith(".")]

    def prepare(self) -> None:
        """Create `runs/` and a `.gitignore` for it."""
        if not self.runs_dir.is_dir():
            self.runs_dir.mkdir(parents=True, exist_ok=True)
            files.fsync_folder(self.path)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            files.write_text(ignore, "runs/\n")

    @contextmanager
    def lock(self, *, unsafe: bool = False) -> Iterator[None]:
        """Hold the folder's lock as its only writer.

        Args:
            unsafe: Accept any locks that the file system has, even none.

        Raises:
            FolderInUseError: another process holds it; the message names its host and PID.
            PreflightError: the locks of the file system would not exclude other writers.
        """
        if not unsafe:
            self.check_locks()
        self.prepare()
        path = self.runs_dir / ".lock"
        with flock.locked(path, RUN_LOCK_TIMEOUT_S, is_needed=not unsafe) as is_ours:
            if not is_ours:
                raise FolderInUseError(
                    f"{self.path}: in use by {self.describe_owner()}; "
                    "wait until it ends, or stop it"
                )
            self.stop_request.unlink(missing_ok=True)  # of an earlier run
            files.write_json(self.owner_path, asdict(Owner.this_process()))
            yield


def _is_locked(path: Path) -> bool:
    try:
        return flock.is_locked(path)
    except flock.NoLocksError:
        return False


def _names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted; empty if there is no folder."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - paths cost ten times as much
    except (FileNotFoundError, NotADirectoryError):
        return []
