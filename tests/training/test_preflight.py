from collections.abc import Mapping
from typing import Any

import pytest

from continuum.experiment.architecture import architecture
from continuum.experiment.forecast import Forecast
from continuum.experiment.recipe import ResumeSchedule, Schedule
from continuum.experiment.stage import PlanInput, Stage
from continuum.preflight import forecast_training
from continuum.preflight.host import Host, HostMemory
from continuum.stages.convert import Convert
from tests.training.samples import FIELDS, make_dataset, make_recipe

SHAPE = architecture(
    "pythia-14m", {k: FIELDS[k] for k in ("n_layer", "n_embd", "n_head", "vocab_size")}
)
STAGE: Stage = Convert.model_validate({"from": "pretrain"})
"""The plan passes the stage along; what is known of it lies in the forecast and the artifact."""


def made(**dataset: Any) -> PlanInput:
    """A dataset that exists."""
    return PlanInput(STAGE, Forecast(), make_dataset(**dataset))


def expected(**max_tokens: int) -> PlanInput:
    """A dataset that does not exist yet; no more tokens than these in each split."""
    return PlanInput(STAGE, Forecast(max_tokens=max_tokens), None)


def forecast(
    inputs: Mapping[str, PlanInput] | None = None, *, start_step: int | None = 0, **recipe: Any
) -> Forecast:
    made_inputs = inputs or {"tokens": made()}
    return forecast_training(make_recipe(**recipe), SHAPE, made_inputs, start_step=start_step)


def problem(*args: Any, **recipe: Any) -> str:
    """The one problem of a recipe."""
    (found,) = map(str, forecast(*args, **recipe).problems)
    return found


def test_a_sound_recipe_has_no_problem_and_tells_its_numbers() -> None:
    found = forecast(max_steps=100, evaluate={}, runtime={"checkpoint": {"every": 30}})
    assert found.problems == ()
    assert found.num_steps == 100
    assert found.facts["steps"] == 100
    assert found.facts["tokens"] == 3200
    assert found.facts["warmup_steps"] == 10
    assert found.facts["checkpoints"] == 4
    assert found.facts["epochs"] == pytest.approx(400 / (10_000 // 9), abs=1e-3)


def test_less_than_one_step_is_refused() -> None:
    told = problem(max_tokens=31)
    assert told.startswith("max_tokens 31 is less than one optimizer step of 32 tokens")
    assert "(global_batch_size 4 x sequence_length 8): nothing would be trained" in told
    assert forecast(max_tokens=32).problems == ()


def test_epochs_of_less_than_one_step_are_refused() -> None:
    assert "epochs 0.001 is less than one optimizer step" in problem(epochs=0.001)


def test_a_warmup_longer_than_the_run_is_refused() -> None:
    schedule = Schedule.model_validate({"warmup": 101})
    told = problem(schedule=schedule, max_steps=100)
    assert told.startswith("schedule.warmup is 101 steps, longer than the run of 100 steps")


def test_a_warmup_and_a_decay_that_overlap_are_refused() -> None:
    schedule = Schedule.model_validate({"kind": "wsd", "warmup": 60, "decay": "50%"})
    told = problem(schedule=schedule, max_steps=100)
    assert told.startswith("schedule.decay is 50 steps and schedule.warmup 60, together longer")


def test_a_batch_that_does_not_divide_is_refused_with_a_size_that_does() -> None:
    told = problem(global_batch_size=10, runtime={"micro_batch_size": 4})
    assert "10 is not divisible by devices 1 x micro_batch_size 4 = 4" in told
    assert told.endswith("set runtime.micro_batch_size to 2")


def test_a_batch_smaller_than_a_micro_batch_is_refused() -> None:
    told = problem(global_batch_size=3, runtime={"micro_batch_size": 4})
    assert told.endswith("set runtime.micro_batch_size to 3")


def test_a_sequence_longer_than_the_model_attends_is_refused() -> None:
    told = problem(sequence_length=513)
    assert told == "sequence_length 513 is longer than the block_size 512 of pythia-14m"
    assert forecast(sequence_length=512).problems == ()


def test_too_few_tokens_for_a_block_are_refused() -> None:
    told = problem({"tokens": made(train=[8, 8, 8])})
    assert told.startswith("dataset 'tokens' has too few tokens for one block of sequence_length 8")
    assert forecast({"tokens": made(train=[8, 9])}).problems == ()


def test_data_that_cannot_become_a_block_is_refused_before_it_is_made() -> None:
    assert "too few tokens" in problem({"tokens": expected(train=8, validation=9)})


@pytest.mark.parametrize(
    ("tokens", "said"),
    [(None, "has no validation split; give"), (8, "has no validation block of sequence_length 8;")],
    ids=["no split", "a short split"],
)
def test_evaluation_without_a_validation_block_is_refused(tokens: int | None, said: str) -> None:
    inputs = {"tokens": made(validation=tokens)}
    told = problem(inputs, evaluate={})
    assert told.startswith(f"dataset 'tokens' {said}")
    assert ("enlarge" in told) == (tokens is not None)
    assert "`evaluate: null`" in told
    assert forecast(inputs, evaluate=None).problems == ()


def test_one_validation_block_is_enough_for_any_number_of_processes() -> None:
    runtime = {"devices": 4, "micro_batch_size": 1}
    for tokens in (made(validation=9), expected(train=10**4, validation=9)):
        assert forecast({"tokens": tokens}, evaluate={}, runtime=runtime).problems == ()


def test_token_ids_beyond_the_embedding_are_refused() -> None:
    rows = SHAPE.padded_vocab_size
    told = problem({"tokens": made(num_ids=rows + 1)})
    assert told.startswith(
        f"dataset 'tokens' has token ids up to {rows}, but pythia-14m has {rows}"
    )
    assert forecast({"tokens": made(num_ids=rows)}).problems == ()


def test_a_tokenizer_that_may_have_more_ids_than_the_model_takes_is_doubted() -> None:
    rows = SHAPE.padded_vocab_size
    inputs = {
        most: {"tokens": PlanInput(STAGE, Forecast(max_ids=most), None)}
        for most in (rows, rows + 1)
    }
    (told,) = map(str, forecast(inputs[rows + 1], max_steps=10).warnings)
    assert told.startswith(f"dataset 'tokens' may have token ids up to {rows:,}, but pythia-14m")
    assert forecast(inputs[rows], max_steps=10).warnings == ()
    known = PlanInput(STAGE, Forecast(max_ids=rows + 1), make_dataset())
    assert forecast({"tokens": known}, max_steps=10).warnings == ()


def test_a_mixture_of_two_tokenizers_is_refused() -> None:
    inputs = {"a": made(), "b": made(vocabulary_digest="w" * 64)}
    assert "a, b were tokenized with different tokenizers" in problem(
        inputs, data={"a": 1.0, "b": 1.0}
    )


def test_each_dataset_of_a_mixture_is_held_to_the_same() -> None:
    inputs = {"a": made(), "b": made(train=3, validation=None, num_ids=10**6)}
    found = forecast(inputs, data={"a": 1.0, "b": 1.0}, evaluate={}).problems
    assert len(found) == 3
    assert all("'b'" in str(told) for told in found)


def resumed(start_step: int | None, **recipe: Any) -> Forecast:
    return forecast(
        start_step=start_step,
        schedule=ResumeSchedule.model_validate({"kind": "constant"}),
        **recipe,
    )


@pytest.mark.parametrize("start_step", [100, 101])
def test_a_budget_that_the_parent_has_spent_is_refused(start_step: int) -> None:
    (told,) = map(str, resumed(start_step, max_tokens=3200).problems)
    assert told.startswith(
        f"max_tokens 3,200 is 100 steps, and the parent already took {start_step}"
    )
    assert resumed(99, max_tokens=3200).problems == ()


def test_what_is_never_trained_takes_no_steps_back() -> None:
    facts = forecast(max_steps=90, start_step=600, runtime={"checkpoint": {"every": 20}}).facts
    assert [facts[name] for name in ("steps", "tokens", "checkpoints", "epochs")] == [0, 0, 0, 0]


def test_an_extensions_numbers_are_its_own() -> None:
    found = resumed(40, max_steps=100, runtime={"checkpoint": {"every": 30}})
    assert (found.facts["steps"], found.facts["tokens"]) == (60, 1920)
    assert found.facts["checkpoints"] == 3
    assert found.num_steps == 100


def test_what_is_not_known_yet_gives_no_alarm() -> None:
    unknown = PlanInput(STAGE, Forecast(), None)
    found = forecast_training(
        make_recipe(epochs=2.0, evaluate={}), None, {"tokens": unknown}, start_step=None
    )
    assert found.problems == ()
    assert found.warnings == ()
    assert found.num_steps is None


def test_an_upper_bound_is_no_count() -> None:
    inputs = {"tokens": expected(train=10**6, validation=10**5)}
    found = forecast(inputs, epochs=1.0, evaluate={})
    assert found.problems == ()
    assert "epochs" not in found.facts


def test_a_rest_of_the_budget_is_told() -> None:
    (told,) = forecast(max_tokens=3215, runtime={"checkpoint": {"every": 10}}).notes
    assert (
        "not a multiple of the 32 tokens in a step; the last 15 tokens are not trained on" in told
    )


def test_the_cost_of_a_stage_is_told() -> None:
    facts = forecast(max_steps=100).facts
    per_token = SHAPE.training_flops_per_token(8)
    assert per_token is not None
    assert facts["flops"] == per_token * 3200
    parameters = SHAPE.num_parameters()
    assert parameters is not None
    assert facts["checkpoint_bytes"] == 12 * parameters
    halved = forecast(precision="bf16-true", optimizer={"name": "SGD", "lr": 0.1}).facts
    assert halved["checkpoint_bytes"] == 2 * parameters
    assert resumed(40, max_steps=100).facts["flops"] == per_token * 60 * 32


LLAMA = architecture("Llama-2-70b-hf")


def forecast_70b(checkpoint_format: str, *, host_tb: float, **runtime: Any) -> Forecast:
    """A plan of Llama-2-70b on the GPUs of a node with so much host memory."""
    host_bytes = int(host_tb * 1e12)
    recipe = make_recipe(
        global_batch_size=1024,
        runtime={
            "accelerator": "cuda",
            "devices": 8,
            "strategy": "fsdp",
            "micro_batch_size": 1,
            "checkpoint": {"format": checkpoint_format},
            **runtime,
        },
    )
    host = Host(HostMemory(host_bytes, host_bytes), has_cuda_device=True)
    return forecast_training(recipe, LLAMA, {"tokens": made()}, host=host)


def test_a_70b_model_gathered_on_one_host_is_refused_and_in_parts_accepted() -> None:
    (refusal,) = map(str, forecast_70b("full", host_tb=0.8).problems)
    assert "about 827.7 GB of a node's host memory" in refusal
    assert "(827.7 GB gathered on rank 0)" in refusal  # once: what is gathered is not copied
    assert "has 800.0 GB" in refusal
    assert "runtime.checkpoint.format sharded" in refusal
    accepted = forecast_70b("sharded", host_tb=0.9)
    assert (accepted.problems, accepted.warnings) == ((), ())
    assert forecast_70b("full", host_tb=0.9).problems == ()


def test_one_gpus_page_locked_copy_counts_as_host_memory() -> None:
    recipe = make_recipe(global_batch_size=32, runtime={"accelerator": "cuda"})
    shape = architecture("Llama-2-7b-hf")
    host = Host(HostMemory(int(64e9), int(64e9)), has_cuda_device=True)
    (refusal,) = map(str, forecast_training(recipe, shape, {"tokens": made()}, host=host).problems)
    assert "80.9 GB of a node's host memory (80.9 GB page-locked for copies)" in refusal


def test_the_parts_of_a_node_share_its_memory() -> None:
    (refusal,) = map(str, forecast_70b("sharded", host_tb=0.5).problems)
    assert "827.7 GB page-locked for copies" in refusal
    assert "more nodes" in refusal
    on_four = forecast_70b("sharded", host_tb=0.5, num_nodes=4)
    assert (on_four.problems, on_four.warnings) == ((), ())


def test_a_machine_that_only_plans_a_70b_model_warns_of_its_host_memory() -> None:
    planned = forecast_70b("full", host_tb=0.8, num_nodes=128)
    assert planned.problems == ()
    (warning,) = map(str, planned.warnings)
    assert "827.7 GB of a node's host memory" in warning
