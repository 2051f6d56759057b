"""The other side of the process boundary: carry out one stage from its run folder alone."""

import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from continuum.disk_errors import describe_disk_fault
from continuum.errors import ContinuumError, IntegrityError, Status, StoppedError
from continuum.execution.signals import StopRequest, heed_signals, leaving_at_once
from continuum.experiment.fields import Ref
from continuum.experiment.selection import select_from
from continuum.experiment.stage import Stage, StageContext
from continuum.preflight.device_errors import describe_device_fault
from continuum.runs.artifacts import Artifact
from continuum.runs.events import Event, Outcome, Report, Warned
from continuum.runs.files import sha256_file
from continuum.runs.folder import StageRun
from continuum.runs.inputs import InputsProof
from continuum.runs.installed import code_origins, doubts
from continuum.runs.records import InputRecord, StageRecord
from continuum.stages import distribution_of, rebuild_stage, stage_kinds

ORPHANED = 70
"""Exit code of a worker whose run died (EX_SOFTWARE)."""
LAST_WORDS_S = 2.0
"""How long a rank that crashed stays: it may only have lost a peer, whose death is to be told of
before its own end has Slurm kill them all."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when its parent dies."""
PARENT_VARIABLE = "CONTINUUM_PARENT_PID"
"""Environment variable that tells a process which one started it on this machine."""


def run_stage(
    run: StageRun,
    record: StageRecord,
    report: Report,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    rank: int = 0,
) -> Artifact:
    """Rebuild a stage from its record, run it, and publish its artifact.

    Args:
        rank: Of this process among those that carry the stage out together; only rank 0 holds
            the lock, clears what an earlier attempt left, and publishes.

    Raises:
        ContinuumError: the stage cannot be carried out, or was stopped.
    """
    with run.worker_lock() if rank == 0 else nullcontext():
        stage = rebuild_stage(record)
        if rank == 0:
            run.discard_unfinished()
            _record_code(run, stage, report)
        # Datasets that a resume inherits have no reference of its own.
        refs = {str(ref): ref for ref in stage.refs().values()}
        inputs = {i.ref: _find_input(run, i, refs.get(i.ref)) for i in record.inputs}
        reads_models = rank == 0 or os.environ.get("LOCAL_RANK") == "0"
        proof = InputsProof(inputs, is_training=stage.trains, reads_models=reads_models)
        ctx = StageContext(
            run=run,
            record=record,
            inputs=inputs,
            report=report,
            should_stop=should_stop,
            prove_inputs=proof.again,
        )
        if stage.verify_concurrently:
            with _verified_meanwhile(proof):
                artifact = stage.run(ctx)
        else:
            proof.first()
            artifact = stage.run(ctx)
        if rank != 0:
            return artifact
        if not stage.trains:  # Training has used them long ago, and said so.
            proof.again()
        if not stage.checks_local_inputs:
            local = stage.local_inputs(ctx.experiment_folder)
            ctx.check_files({name: sha256_file(path) for name, path in local.items()})
        return run.complete(artifact)


def main(run_path: str, events: Connection) -> None:
    """Entry of a forked worker: events go through the pipe, everything printed to the log."""
    heed_signals()
    run = StageRun(Path(run_path))
    _print_to_log(run)
    _watch_parent()
    sending = threading.Lock()  # Checkpoints are written, and told of, in a thread of their own.

    def report(event: Event) -> None:
        with sending, suppress(BrokenPipeError):
            events.send(event)

    report(_carry_out(run, report, StopRequest(), rank=0))


def rank_main(run_path: Path, events_path: Path) -> int:
    """Entry of one of several processes under torchrun; its exit code.

    Rank 0 alone reports progress and publishes; every rank reports its own failure.
    """
    die_with_parent()
    heed_signals()
    run, rank = StageRun(run_path), int(os.environ["RANK"])
    asked = StopRequest(run.stop_request)

    def report(event: Event) -> None:
        append_event(events_path, event)

    outcome = _carry_out(run, report if rank == 0 else lambda _: None, asked, rank=rank)
    is_well = outcome.status in ("done", "stopped")
    if rank == 0 or not is_well:
        report(outcome)
    if not is_well:
        if outcome.status == "crashed" and not asked():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torchrun's, when a peer has died
            time.sleep(LAST_WORDS_S)
        # Without the libraries' farewells: the others wait for this process.
        os._exit(1)
    _leave_group()
    return 0


def append_event(path: Path, event: Event) -> None:
    """Add a line to a file that several processes write, by one system call.

    Training does not end because its progress cannot be told; what a full disk has cut off is
    parted from what comes after it.
    """
    with suppress(OSError), path.open("ab", buffering=0) as file:
        file.write(b"\n" + event.encode() + b"\n")


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent dies (Linux; elsewhere nothing).

    A parent that is known by its number may have died before: then this process leaves at once.
    """
    if sys.platform != "linux":
        return
    parent = int(os.environ.pop(PARENT_VARIABLE, os.getppid()))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(ORPHANED)


def _carry_out(
    run: StageRun, report: Report, should_stop: Callable[[], bool], *, rank: int
) -> Outcome:
    """Run the stage; how it ended. No exception leaves this function."""
    status: Status = "done"
    message = ""
    trains = False
    try:
        record = run.record()
        trains = is_stateful(record)
        with nullcontext() if trains else leaving_at_once():
            run_stage(run, record, report, should_stop, rank=rank)
    except StoppedError as error:
        # Too late: the stage has published what it made.
        is_late = rank == 0 and run.is_complete
        status, message = ("done", "") if is_late else ("stopped", str(error))
    except BaseException as error:
        status, message = _failure(error, run, trains=trains)
        with suppress(OSError):
            traceback.print_exc()
    if rank:
        message = f"rank {rank}: {message}"
    _flush_log()
    return Outcome(status, message, rank)


def _failure(error: BaseException, run: StageRun, *, trains: bool) -> tuple[Status, str]:
    """Status and message of a stage that ended with `error`."""
    if isinstance(error, ContinuumError):
        return error.stage_status, str(error)
    if disk_fault := describe_disk_fault(error, run.path):
        return "failed", disk_fault
    if trains and (fault := describe_device_fault(error)):
        # A lost peer explains nothing: whatever ended that one is what to tell.
        status: Status = "failed" if fault.is_cause else "crashed"
        return status, f"{fault.message}; the traceback is in {run.log_path}"
    return "crashed", f"{type(error).__name__}: {error}; the traceback is in {run.log_path}"


def _flush_log() -> None:
    """Write out what was printed; on a full disk it is given up, or Python fails at exit."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)


def _leave_group() -> None:
    """Part from the other processes together; stages that do not train never met them."""
    if "torch" in sys.modules:
        from continuum.training.fabric import leave_group

        leave_group(together=True)


def is_stateful(record: StageRecord) -> bool:
    """Whether a stop of this stage is worth waiting for: it saves, and the next run goes on."""
    kind = stage_kinds().get(record.kind)
    return kind is not None and kind.trains


def _record_code(run: StageRun, stage: Stage, report: Report) -> None:
    """Note in the attempts what this process imports, and warn of what is not as installed."""
    origins = code_origins(distribution_of(type(stage)))
    packages = {name: o.model_dump(exclude_none=True) for name, o in origins.items()}
    run.log_attempt("code", attempt=run.num_attempts, packages=packages)
    for doubt in doubts(origins):
        report(Warned(doubt))


def _find_input(run: StageRun, item: InputRecord, ref: Any) -> Artifact:
    source = StageRun(run.path.parent / item.run)
    if ref is not None and ref.metric is not None:
        ref = Ref(f"{ref.stage}@step-{item.step}")  # The best was found when the plan was made.
    selected = select_from(source, ref) if ref is not None else source.artifact()
    if selected is None:
        raise IntegrityError(f"{item.ref}: the selected checkpoint is gone from {source.path}")
    is_resealed = item.seal is not None and source.artifact().seal != item.seal
    if selected.digest != item.digest or is_resealed:
        raise IntegrityError(f"{item.ref}: {source.path} was replaced since the plan was made")
    return selected


@contextmanager
def _verified_meanwhile(proof: InputsProof) -> Iterator[None]:
    """Verify in a thread; damage is what is told, whatever else went wrong because of it."""
    with ThreadPoolExecutor(1) as pool:
        verifying = pool.submit(proof.first)
        try:
            yield
        finally:
            verifying.result()


def _print_to_log(run: StageRun) -> None:
    """Everything this process prints, native code's words too, is appended to `log.txt`."""
    run.path.mkdir(parents=True, exist_ok=True)
    log = os.open(run.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _watch_parent() -> None:
    """Leave at once when the run dies: nobody would publish, and the next run wants the folder."""
    parent = parent_process()
    assert parent is not None, "a worker has a parent"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


if __name__ == "__main__":
    sys.exit(rank_main(Path(sys.argv[1]), Path(sys.argv[2])))
