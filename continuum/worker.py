"""The other side of the process boundary: carry out one stage from its run folder alone."""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from continuum import files
from continuum.artifacts import Artifact, Checkpoint
from continuum.errors import ContinuumError, IntegrityError, StoppedError
from continuum.records import InputRecord, StageRecord
from continuum.runs import StageRun
from continuum.stage import Stage, StageContext, select_checkpoint, stage_kinds

Report = Callable[[dict[str, Any]], None]
ORPHANED = 70
"""Exit code of a worker whose run died (EX_SOFTWARE)."""


def run_stage(
    run: StageRun, report: Report, should_stop: Callable[[], bool] = lambda: False
) -> Artifact:
    """Rebuild a stage from `stage.json`, run it, and publish its artifact.

    Raises:
        ContinuumError: the stage cannot be carried out, or was stopped.
    """
    with run.worker_lock():
        record = run.record()
        stage = rebuild_stage(record)
        run.discard_unfinished()
        refs = input_refs_of(stage, record)
        ctx = StageContext(
            run=run,
            seed=record.seed,
            inputs={ref: _load_input(run, item, refs[ref]) for ref, item in _by_ref(record)},
            save_steps=record.save_steps,
            report=report,
            recipe=record.recipe,
            should_stop=should_stop,
        )
        return run.complete(stage.run(ctx))


def rebuild_stage(record: StageRecord) -> Stage:
    """The stage of a record.

    Raises:
        IntegrityError: its kind is no longer known.
    """
    cls = stage_kinds().get(record.kind)
    if cls is None:
        raise IntegrityError(f"stage {record.name!r}: there is no kind {record.kind!r} any more")
    return cls.model_validate_json(json.dumps(record.spec))


def input_refs_of(stage: Stage, record: StageRecord) -> dict[str, Any]:
    """A stage's references by their text; inherited datasets have no reference of their own."""
    own = {str(ref): ref for ref in stage.refs().values()}
    return {item.ref: own.get(item.ref) for item in record.inputs}


def main(run_path: str, events: Connection) -> None:
    """Entry of a worker process: events go through the pipe, everything printed to the log."""
    run = StageRun(Path(run_path))
    _print_to_log(run)
    _die_with_parent()
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The run decides; the terminal signals all.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def report(event: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):
            events.send(event)

    try:
        run_stage(run, report, stop.is_set)
        report({"event": "result", "status": "done", "message": ""})
    except StoppedError as error:
        report({"event": "result", "status": "stopped", "message": str(error)})
    except ContinuumError as error:
        traceback.print_exc()
        status = "refused" if error.exit_code == 4 else "failed"
        report({"event": "result", "status": status, "message": str(error)})
    except BaseException as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        report({"event": "result", "status": "crashed", "message": message})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _by_ref(record: StageRecord) -> list[tuple[str, InputRecord]]:
    return [(item.ref, item) for item in record.inputs]


def _load_input(run: StageRun, item: InputRecord, ref: Any) -> Artifact:
    source = StageRun(run.path.parent / item.run)
    artifact = source.artifact()
    selected = select_checkpoint(artifact, ref, source) if ref is not None else artifact
    if selected is None:
        raise IntegrityError(f"{item.ref}: the selected checkpoint is gone from {source.path}")
    if selected.digest != item.digest:
        raise IntegrityError(f"{item.ref}: {source.path} was replaced since the plan was made")
    # Weights begin a long run, so every byte is read again; data is checked by presence and size.
    is_model = isinstance(selected, Checkpoint)
    damage = files.find_damage(selected.path, selected.files, read=is_model)
    if damage:
        raise IntegrityError(f"{item.ref}: {selected.path} is damaged: {damage[0]}")
    return selected


def _print_to_log(run: StageRun) -> None:
    """Everything this process prints, native code's words too, is appended to `log.txt`."""
    run.path.mkdir(parents=True, exist_ok=True)
    log = os.open(run.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _die_with_parent() -> None:
    """Leave at once when the run dies: nobody would publish, and the next run wants the folder."""
    parent = parent_process()
    assert parent is not None, "a worker has a parent"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
