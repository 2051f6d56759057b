"""The forecast of a training stage: its steps, its costs, its problems and warnings."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec

from continuum.errors import Problem
from continuum.experiment.architecture import Architecture
from continuum.experiment.forecast import Facts, Forecast
from continuum.experiment.recipe import Recipe, ResumeSchedule, intervals_of
from continuum.experiment.stage import PlanInput
from continuum.preflight.compatibility import (
    Bound,
    batch_problems,
    blocks_of,
    data_problems,
    model_problems,
    precision_problems,
    step_problems,
    unused_settings,
)
from continuum.preflight.disk import checkpoints_need, temporary_problems
from continuum.preflight.host import Host, HostMemory, host_now
from continuum.preflight.memory import (
    estimate_memory,
    fit_to_memory,
    memory_problems,
    saving_need,
)
from continuum.preflight.model_size import state_size
from continuum.preflight.placement import foreseen_placement, machine_problems
from continuum.runs.tied_embeddings import TIED_NAMES

HERE = "this machine (or the control group that holds this process)"


def forecast_training(
    recipe: Recipe,
    architecture: Architecture | None,
    inputs: Mapping[str, PlanInput],
    *,
    start_step: int | None = 0,
    host: Host | None = None,
) -> Forecast:
    """Steps, tokens, checkpoints and bytes of a training stage, and its problems.

    Args:
        recipe: The complete recipe.
        architecture: The model's shape; None while an imported parent has not been read.
        inputs: At least the datasets, by reference.
        start_step: A resume's first step; None while the parent is unknown.
        host: The machine that trains; None for this one.
    """
    datasets = {str(ref): inputs[ref] for ref in recipe.all_data}
    blocks = {str(ref): blocks_of(recipe, inputs[ref], "train") for ref in recipe.data}
    num_steps = recipe.num_steps(_exact_blocks(blocks))
    host = host or host_now()
    memory, found = _memory(recipe, architecture, host)
    found = [
        *batch_problems(recipe),
        *precision_problems(recipe),
        *machine_problems(recipe, host),
        *unused_settings(recipe),
        *step_problems(recipe, num_steps, start_step),
        *data_problems(recipe, datasets, blocks),
        *model_problems(recipe, architecture, datasets),
        *missing_extras(recipe.runtime.loggers),
        *temporary_problems(recipe),
        *found,
    ]
    size = state_size(recipe, architecture)
    ends_at = num_steps if start_step is not None else None
    disk = (
        checkpoints_need(recipe, size.checkpoint_bytes, ends_at, start_step or 0) if size else None
    )
    return Forecast(
        facts={
            **_facts(recipe, num_steps, start_step, blocks),
            **_tying(architecture),
            **_costs(recipe, architecture, num_steps, start_step),
            **memory,
        },
        problems=tuple(it for it in found if it.severity == "error"),
        warnings=tuple(it for it in found if it.severity == "warning"),
        notes=tuple(_notes(recipe, num_steps, start_step)),
        architecture=architecture,
        vocabulary=next(iter(datasets.values())).vocabulary,
        num_steps=num_steps,
        peak_lr=recipe.optimizer.lr,
        disk=disk,
    )


def missing_extras(loggers: Iterable[str]) -> Iterator[Problem]:
    """Loggers whose package is not installed, checked without importing it."""
    for name in sorted({"wandb", "mlflow"} & set(loggers)):
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # only a folder, such as W&B leaves behind
            message = f"{name} is not installed; `pip install 'continuum-lm[{name}]'` installs it"
            yield Problem(("runtime", "loggers"), message, needs="machine")


def _memory(
    recipe: Recipe, architecture: Architecture | None, host: Host
) -> tuple[Facts, list[Problem]]:
    """The memory that a process needs, and whether this machine has it.

    A run on several nodes, or on a device that is yet to be found, may not train on the machine
    that plans it: then there are only warnings.
    """
    parameters = architecture.num_parameters() if architecture else None
    placement = foreseen_placement(recipe, host, parameters)
    total_bytes = host.total_bytes(on_cpu=placement.on_cpu)
    recipe, placement = fit_to_memory(recipe, architecture, placement, total_bytes)
    estimate = estimate_memory(recipe, architecture, placement)
    saving = saving_need(recipe, architecture, placement)
    if estimate is None or saving is None:
        return {}, []
    where, place = host.memory, HERE
    if not placement.on_cpu:
        where = HostMemory(total_bytes, total_bytes) if total_bytes is not None else None
        place = f"a GPU here ({host.device.name})" if host.device else ""
    is_here = recipe.runtime.accelerator == "cpu" or host.has_cuda_device
    found = memory_problems(
        [(estimate, where, place), (saving, host.memory, HERE)],
        is_sure=is_here and recipe.runtime.num_nodes == 1,
    )
    return Facts(memory_bytes=estimate.total_bytes), found


def _exact_blocks(blocks: Mapping[str, Bound | None]) -> int | None:
    """Training blocks of all datasets; None while one of them does not exist."""
    total = 0
    for bound in blocks.values():
        if bound is None or not bound.is_exact:
            return None
        total += bound.blocks
    return total


def _notes(recipe: Recipe, num_steps: int | None, start_step: int | None) -> Iterator[str]:
    if not num_steps or start_step is None:
        return
    if recipe.max_tokens is not None and (rest := recipe.max_tokens % recipe.tokens_per_step):
        yield (
            f"max_tokens is not a multiple of the {recipe.tokens_per_step:,} tokens in a step; "
            f"the last {rest:,} tokens are not trained on"
        )


def _tying(architecture: Architecture | None) -> Facts:
    """Whether embeddings are tied, if they are or could be expected to be."""
    if architecture is None or not (architecture.tied or architecture.name in TIED_NAMES):
        return {}
    return {"tied_embeddings": "yes" if architecture.tied else "no"}


def _costs(
    recipe: Recipe,
    architecture: Architecture | None,
    num_steps: int | None,
    start_step: int | None,
) -> Facts:
    """What the stage computes and stores, if the model's shape is known."""
    size = state_size(recipe, architecture)
    if architecture is None or size is None:
        return {}
    costs = Facts(checkpoint_bytes=size.checkpoint_bytes)
    per_token = architecture.training_flops_per_token(recipe.sequence_length)
    if num_steps is not None and start_step is not None and per_token is not None:
        costs["flops"] = per_token * recipe.tokens_per_step * max(0, num_steps - start_step)
    return costs


def _facts(
    recipe: Recipe,
    num_steps: int | None,
    start_step: int | None,
    blocks: Mapping[str, Bound | None],
) -> Facts:
    facts = Facts()
    if num_steps is not None:
        own_steps = max(0, num_steps - (start_step or 0))
        intervals = intervals_of(recipe, num_steps)
        warmup = intervals_of(recipe, max(1, own_steps)).warmup_steps
        facts = Facts(
            steps=own_steps,
            tokens=own_steps * recipe.tokens_per_step,
            warmup_steps=warmup,
            checkpoints=_num_checkpoints(num_steps, start_step or 0, intervals.checkpoint_every),
        )
        num_blocks = _exact_blocks(blocks)
        if num_blocks:
            facts["epochs"] = round(own_steps * recipe.global_batch_size / num_blocks, 3)
    if isinstance(recipe.schedule, ResumeSchedule):
        facts["schedule"] = recipe.schedule.kind
    return facts


def _num_checkpoints(num_steps: int, start_step: int, every: int | None) -> int:
    """Checkpoints at each multiple of `every`, and at the end."""
    if num_steps <= start_step:
        return 0
    return 1 if every is None else -(-num_steps // every) - start_step // every
