"""The processes that run a stage: forked for one process, started by torchrun for several."""

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

from continuum.disk_errors import describe_disk_error
from continuum.errors import ContinuumError, Status, StoppedError
from continuum.execution.launchers.parent_death import die_with_parent, watch_parent
from continuum.execution.run_stage import is_stateful, run_stage
from continuum.execution.signals import StopRequest, exit_on_signal, install_signal_handlers
from continuum.preflight.device_errors import describe_device_fault
from continuum.runs.events import Event, Outcome, Report
from continuum.runs.folder import StageRun
from continuum.runs.redaction import without_secrets

CRASH_DELAY_S = 2.0
"""How long a crashed rank waits before it exits: it may only have lost a peer, whose exit status
must be reported before this rank's own exit makes Slurm kill them all."""


def main(run_path: str, events: Connection) -> None:
    """Entry point of a forked worker: sends events through the pipe, prints to the log."""
    die_with_parent()  # with the fork server, which dies with the run
    install_signal_handlers()
    run = StageRun(Path(run_path))
    _print_to_log(run)
    watch_parent()
    sending = threading.Lock()  # A thread of its own writes checkpoints and reports them.

    def report(event: Event) -> None:
        with sending, suppress(BrokenPipeError):
            events.send(event)

    report(_run(run, report, StopRequest(), rank=0))


def rank_main(run_path: Path, events_path: Path) -> int:
    """Entry point of one of several processes under torchrun; returns its exit code.

    Only rank 0 reports progress and publishes; every rank reports its own failure.
    """
    die_with_parent()
    install_signal_handlers()
    run, rank = StageRun(run_path), int(os.environ["RANK"])
    should_stop = StopRequest(run.stop_request)

    def report(event: Event) -> None:
        append_event(events_path, event)

    outcome = _run(run, report if rank == 0 else lambda _: None, should_stop, rank=rank)
    ended_well = outcome.status in ("done", "stopped")
    if rank == 0 or not ended_well:
        report(outcome)
    if not ended_well:
        if outcome.status == "crashed" and not should_stop():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torchrun sends it when a peer died.
            time.sleep(CRASH_DELAY_S)
        # Skip the libraries' exit handlers: the other ranks wait for this process.
        os._exit(1)
    if "torch" in sys.modules:  # Stages that do not train never joined the process group.
        from continuum.training.fabric import leave_group

        leave_group(together=True)
    return 0


def append_event(path: Path, event: Event) -> None:
    """Append a line to a file that several processes write, by one system call.

    A failed write does not end the training. The newline in front separates the event from a line
    that a full disk has cut off.
    """
    with suppress(OSError), path.open("ab", buffering=0) as file:
        file.write(b"\n" + event.encode() + b"\n")


def _run(run: StageRun, report: Report, should_stop: Callable[[], bool], *, rank: int) -> Outcome:
    """Run the stage and return how it ended; raises nothing."""
    status: Status = "done"
    message = ""
    trains = False
    try:
        record = run.record()
        trains = is_stateful(record)
        with nullcontext() if trains else exit_on_signal():
            run_stage(run, record, report, should_stop, rank=rank)
    except StoppedError as error:
        # Too late if the stage has already published its artifact.
        is_late = rank == 0 and run.is_complete
        status, message = ("done", "") if is_late else ("stopped", str(error))
    except BaseException as error:
        status, message = _describe_failure(error, run, trains=trains)
        with suppress(OSError):
            print(without_secrets(traceback.format_exc()), file=sys.stderr)
    if rank:
        message = f"rank {rank}: {message}"
    _flush_log()
    return Outcome(status, message, rank)


def _describe_failure(error: BaseException, run: StageRun, *, trains: bool) -> tuple[Status, str]:
    if isinstance(error, ContinuumError):
        return error.stage_status, str(error)
    if disk_error := describe_disk_error(error, run.path):
        return "failed", disk_error
    if trains and (fault := describe_device_fault(error)):
        # A lost peer is a symptom: the error that ended the peer is the cause to report.
        status: Status = "failed" if fault.is_cause else "crashed"
        return status, f"{fault.message}; the traceback is in {run.log_path}"
    return "crashed", f"{type(error).__name__}: {error}; the traceback is in {run.log_path}"


def _flush_log() -> None:
    """Flush what was printed; on a full disk drop it, or Python fails at exit."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)


def _print_to_log(run: StageRun) -> None:
    """Append everything this process prints, by native code too, to `log.txt`."""
    run.path.mkdir(parents=True, exist_ok=True)
    log = os.open(run.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    sys.exit(rank_main(Path(sys.argv[1]), Path(sys.argv[2])))
