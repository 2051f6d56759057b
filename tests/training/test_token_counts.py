"""What a model was trained on: what is not known is called so, and what was skipped is no part."""

import json
import shutil
from typing import Any

import pytest

from continuum.cli.lineage import draw
from continuum.errors import StageFailedError
from continuum.lineage.reading import build_graph
from continuum.runs.artifacts import Checkpoint, ModelWeights, TrainingCheckpoint
from continuum.runs.folder import ExperimentFolder
from tests.training.conftest import DATA_STAGES
from tests.training.samples import TOY_FIELDS, Trials

TRAIN = (*DATA_STAGES, "pretrain")
STEP = 256
"""Tokens of an optimizer step."""
FOUND = {
    "found": {"kind": "import", "path": "found", "as": "weights"},
    "retrain__from": "found",
    "retrain__max_steps": 3,
    "retrain__data": "code_tokens",
    "again": {
        "kind": "resume",
        "from": "retrain",
        "max_steps": 4,
        "schedule": {"kind": "constant"},
    },
    "bare": {"kind": "convert", "from": "again"},
}
SKIPPING: dict[str, Any] = {
    "pretrain__optimizer": {"name": "SGD", "lr": 1e30},
    "pretrain__on_nonfinite": "skip",
    "pretrain__schedule": {"kind": "constant", "warmup": 0},
    "pretrain__max_norm": None,
}


def facts(trials: Trials, stage: str) -> dict[str, Any]:
    """Of the stage's last result in `lineage.json`."""
    nodes = json.loads((trials.folder / "lineage.json").read_text())["nodes"]
    found = [n for n in nodes if n["stage"] == stage and "tokens_total" in n["facts"]]
    return found[-1]["facts"]  # type: ignore[no-any-return]


def drawn(trials: Trials, stage: str) -> str:
    plan = trials.plan()
    graph = build_graph(ExperimentFolder(trials.folder), "trials", plan)
    return str(draw(graph, graph.find(stage)[-1]).label)


def model(trials: Trials, stage: str) -> Checkpoint:
    artifact = trials.stage_run(stage).artifact()
    assert isinstance(artifact, Checkpoint)
    return artifact


def test_what_weights_from_elsewhere_were_trained_on_is_not_known(trials: Trials) -> None:
    trials.run(only=(*TRAIN, "weights"), pretrain__max_steps=2, weights__from="pretrain")
    assert model(trials, "weights").has_known_total
    assert model(trials, "weights").tokens_total == 2 * STEP
    shutil.copytree(trials.stage_run("weights").output_dir, trials.folder / "found")
    trials.run(only=(*DATA_STAGES, "retrain"), **FOUND)
    counts = {name: model(trials, name).total_text for name in ("retrain", "again", "bare")}
    assert counts == {
        "retrain": "at least 768 tokens",
        "again": "at least 1,024 tokens",
        "bare": "at least 1,024 tokens",
    }
    assert facts(trials, "found")["tokens_total"] == {"at_least": 0}
    assert facts(trials, "again")["tokens_total"] == {"at_least": 1024}
    assert "1,024 tokens, at least 1,024 in total" in drawn(trials, "again")
    assert {row["tokens_total"] for row in trials.rows("again") if "lr" in row} == {None}


def test_the_total_of_weights_that_an_earlier_release_took_in_is_not_known() -> None:
    fields = {"path": "nowhere", "model_config_fields": TOY_FIELDS}
    taken_in = ModelWeights.model_validate(fields)
    assert not taken_in.has_known_total
    counts = {"step": 2, "tokens_seen": 512, "tokens_total": 512}
    converted = ModelWeights.model_validate({**fields, **counts})
    assert converted.has_known_total


def test_skipped_steps_are_no_training_tokens(trials: Trials) -> None:
    trials.run(only=TRAIN, **SKIPPING, pretrain__max_steps=6)
    made = trials.checkpoint("pretrain")
    skipped = made.skipped_steps
    assert skipped
    assert made.skipped_tokens == skipped * STEP
    assert made.tokens_seen == made.tokens_total == (6 - skipped) * STEP
    assert f"{skipped} steps skipped" in made.summary()
    told = facts(trials, "pretrain")
    assert (told["skipped_steps"], told["skipped_tokens"]) == (skipped, skipped * STEP)
    assert f"{skipped * STEP:,} in {skipped} skipped steps" in drawn(trials, "pretrain")


def test_after_a_divergence_no_checkpoint_of_skipped_steps_is_called_good(trials: Trials) -> None:
    trials.write(only=TRAIN, **SKIPPING, pretrain__runtime__checkpoint={"every": 1})
    with pytest.raises(StageFailedError, match=r"steps in a row.*last good checkpoint: none"):
        trials.carry_out().raise_for_failure()
    assert trials.stage_run("pretrain").checkpoints()


def test_a_manifest_of_an_earlier_release_counts_as_it_did(trials: Trials) -> None:
    trials.write(only=TRAIN)
    trials.carry_out(stop_at=3)
    (saved,) = trials.stage_run("pretrain").checkpoints()
    later = {"tokens_total_known", "skipped_steps", "skipped_tokens", "skipped_in_a_row"}
    document = json.loads(saved.model_dump_json(exclude=later))
    earlier = TrainingCheckpoint.model_validate({**document, "path": saved.path})
    assert (earlier.tokens_total, earlier.tokens_total_known) == (3 * STEP, True)
    assert earlier.skipped_steps is None
