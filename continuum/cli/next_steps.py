"""What to do with the results of a run: where the weights are, and commands for them."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from continuum.planning.plan import Plan, PlannedStage
from continuum.runs.artifacts import VOCABULARY_FILES, WEIGHTS_FILE, Checkpoint

PROMPT = "Once upon a time"
PROMPT_TOKENS = 32
"""More tokens than the prompt has with any tokenizer, special tokens included."""
DEFAULT_NEW_TOKENS = 50
"""Of `litgpt generate`."""
MAX_SHOWN = 3


def next_steps(spec: Path, plan: Plan) -> Iterator[str]:
    """The weights that no other stage continues, and commands for them; all stages are complete.

    Args:
        spec: The spec as the user named it.
    """
    used = {ref.stage for planned in plan if _makes_model(planned) for ref in planned.refs}
    found = [(it, it.run.artifact()) for it in plan if it.name not in used]
    weights = [(it, made) for it, made in found if isinstance(made, Checkpoint)]
    for _, made in weights[-MAX_SHOWN:]:
        yield f"weights:   {_relative(made.path)}"
    for _, made in weights[-1:]:
        if (made.path / WEIGHTS_FILE).is_file() and _has_tokenizer(made.path):
            yield f"generate:  {_generate(made)}"
    last = weights[-1][0] if weights else _last(plan)
    if last is not None:
        yield f"ancestry:  continuum lineage {shlex.quote(str(spec))} {last.name}"


def _makes_model(planned: PlannedStage) -> bool:
    return any(issubclass(made, Checkpoint) for made in planned.stage.output_types())


def _last(plan: Plan) -> PlannedStage | None:
    return next(reversed([*plan]), None)


def _generate(weights: Checkpoint) -> str:
    """The command of LitGPT; a short context leaves less room than its default."""
    program = "litgpt" if shutil.which("litgpt") else f"{shlex.quote(sys.executable)} -m litgpt"
    path = shlex.quote(_relative(weights.path))
    room = int(weights.model_config_fields.get("block_size", 0)) - PROMPT_TOKENS
    limit = f" --max_new_tokens {max(room, 1)}" if room < DEFAULT_NEW_TOKENS else ""
    return f'{program} generate {path} --prompt "{PROMPT}"{limit}'


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARY_FILES)


def _relative(path: Path) -> str:
    """The path from the working directory, if it is below it."""
    here = Path.cwd()
    return os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)
