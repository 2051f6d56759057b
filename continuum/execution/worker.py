"""The other side of the process boundary: carry out one stage from its run folder alone."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from continuum.disk_errors import describe_disk_fault
from continuum.errors import ContinuumError, Status, StoppedError
from continuum.execution.launchers.parent_death import die_with_parent, watch_parent
from continuum.execution.run_stage import is_stateful, run_stage
from continuum.execution.signals import StopRequest, heed_signals, leaving_at_once
from continuum.preflight.device_errors import describe_device_fault
from continuum.runs.events import Event, Outcome, Report
from continuum.runs.folder import StageRun

LAST_WORDS_S = 2.0
"""How long a rank that crashed stays: it may only have lost a peer, whose death is to be told of
before its own end has Slurm kill them all."""


def main(run_path: str, events: Connection) -> None:
    """Entry of a forked worker: events go through the pipe, everything printed to the log."""
    heed_signals()
    run = StageRun(Path(run_path))
    _print_to_log(run)
    watch_parent()
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


def _print_to_log(run: StageRun) -> None:
    """Everything this process prints, native code's words too, is appended to `log.txt`."""
    run.path.mkdir(parents=True, exist_ok=True)
    log = os.open(run.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    sys.exit(rank_main(Path(sys.argv[1]), Path(sys.argv[2])))
