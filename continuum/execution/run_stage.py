"""Run one stage from its run folder alone: rebuild it, run it, publish its artifact."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

from continuum.errors import ContinuumError, IntegrityError
from continuum.experiment.fields import Ref
from continuum.experiment.selection import select_from
from continuum.experiment.stage import Stage, StageContext
from continuum.runs.artifacts import Artifact
from continuum.runs.events import Report, Warned
from continuum.runs.files import sha256_file
from continuum.runs.folder import StageRun
from continuum.runs.inputs import InputsProof
from continuum.runs.installed import code_origins, doubts
from continuum.runs.records import InputRecord, StageRecord
from continuum.stages import distribution_of, rebuild_stage, stage_kinds


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
        rank: Of this process among those that run the stage together; only rank 0 holds the lock,
            removes what an earlier attempt left, and publishes.

    Raises:
        ContinuumError: the stage failed or was stopped.
    """
    with run.worker_lock() if rank == 0 else nullcontext():
        stage = rebuild_stage(record)
        if rank == 0:
            run.discard_unfinished()
            _record_code(run, stage, report)
        # Datasets that a resume inherits are not among its own references.
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
        with nullcontext() if stage.trains else _discarding_on_error(run):
            with _verification(proof, concurrent=stage.verify_concurrently):
                artifact = stage.run(ctx)
            if rank != 0:
                return artifact
            if not stage.trains:  # Training verified its inputs again after their last use.
                proof.again()
            if not stage.checks_local_inputs:
                local = stage.local_inputs(ctx.experiment_folder)
                ctx.check_files({name: sha256_file(path) for name, path in local.items()})
            return run.complete(artifact)


def is_stateful(record: StageRecord) -> bool:
    """Whether the stage saves its state when it is stopped, so that the next run resumes it."""
    kind = stage_kinds().get(record.kind)
    return kind is not None and kind.trains


def _record_code(run: StageRun, stage: Stage, report: Report) -> None:
    """Record which packages this process imports, and warn about modified ones."""
    origins = code_origins(distribution_of(type(stage)))
    packages = {name: o.model_dump(exclude_none=True) for name, o in origins.items()}
    run.log_attempt("code", attempt=run.num_attempts, packages=packages)
    for doubt in doubts(origins):
        report(Warned(doubt))


def _find_input(run: StageRun, item: InputRecord, ref: Any) -> Artifact:
    source = StageRun(run.path.parent / item.run)
    if ref is not None and ref.metric is not None:
        ref = Ref(f"{ref.stage}@step-{item.step}")  # The plan has selected the best step.
    selected = select_from(source, ref) if ref is not None else source.artifact()
    if selected is None:
        raise IntegrityError(f"{item.ref}: the selected checkpoint is missing from {source.path}")
    is_resealed = item.seal is not None and source.artifact().seal != item.seal
    if selected.digest != item.digest or is_resealed:
        raise IntegrityError(f"{item.ref}: {source.path} was replaced since the plan was made")
    return selected


@contextmanager
def _discarding_on_error(run: StageRun) -> Iterator[None]:
    """Remove the output of a stage that fails: no later attempt uses it."""
    try:
        yield
    except ContinuumError:
        run.discard_unfinished()
        raise


@contextmanager
def _verification(proof: InputsProof, *, concurrent: bool) -> Iterator[None]:
    """Verify the inputs before the work, or in a thread beside it.

    Damage found by the thread replaces any other error, which it may have caused.
    """
    if not concurrent:
        proof.first()
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        verifying = pool.submit(proof.first)
        try:
            yield
        finally:
            verifying.result()
