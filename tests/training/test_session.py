"""Training stages as an experiment runs them, in this process: what goes on, what starts anew."""

import json
import os
import shutil
from fractions import Fraction
from typing import Any

import pytest
import torch

from continuum.cli.progress import PlainProgress
from continuum.errors import IntegrityError, PreflightError, StageFailedError
from continuum.experiment.recipe import Recipe
from continuum.loading.diagnostics import SpecError
from continuum.runs.artifacts import TokenizedDataset
from continuum.runs.events import Event, Recovered
from continuum.runs.records import sealed
from continuum.stages import rebuild_stage
from continuum.stages.pretrain import Pretrain
from continuum.training.data import Blocks, Share, TrainingData
from continuum.training.litgpt import GPT, Config, loss_of_logits
from continuum.training.numerics import changes, numerics
from continuum.training.order import SampleOrder
from tests.support import warnings_in
from tests.training.conftest import DATA_STAGES
from tests.training.samples import TOY_FIELDS, Trials, assert_equal_tensors, steps_of

CONSTANT = {"kind": "constant", "warmup": 0}
TRAIN = (*DATA_STAGES, "pretrain")
RESUME = (*TRAIN, "longer")
RETRAIN = (*RESUME, "weights", "retrain")


def refusal(trials: Trials, *, only: tuple[str, ...] = TRAIN, **changes: Any) -> str:
    with pytest.raises(PreflightError) as caught:
        trials.run(only=only, **changes)
    return str(caught.value)


def test_an_extension_is_the_longer_run_to_the_last_bit(trials: Trials) -> None:
    unbroken = trials.copied_to(trials.folder.with_name("unbroken"))
    unbroken.run(only=TRAIN, pretrain__max_steps=30, pretrain__schedule=CONSTANT)
    trials.run(
        only=RESUME,
        pretrain__schedule=CONSTANT,
        longer__schedule={"kind": "constant"},
    )
    expected = unbroken.state("pretrain")
    found = trials.state("longer")
    assert_equal_tensors(found["model"], expected["model"])
    for number, moments in expected["optimizer"]["state"].items():
        assert_equal_tensors(found["optimizer"]["state"][number], moments)
    assert (found["step"], found["tokens_seen"]) == (30, 30 * 256)
    theirs = [row["loss"] for row in unbroken.rows("pretrain") if row["step"] > 20 and "lr" in row]
    assert [row["loss"] for row in trials.rows("longer") if "lr" in row] == theirs


def test_a_stage_of_one_step_learns_from_it(trials: Trials) -> None:
    trials.run(only=RETRAIN, retrain__max_steps=1)
    before, after = trials.weights("longer"), trials.weights("retrain")
    assert [name for name in before if torch.equal(after[name], before[name])] == []
    assert [row["lr"] > 0 for row in trials.rows("retrain") if "lr" in row] == [True]


def test_a_resume_from_a_selected_step_goes_on_from_there(trials: Trials) -> None:
    trials.run(
        only=RESUME,
        pretrain__schedule=CONSTANT,
        longer={
            "kind": "resume",
            "from": "pretrain@step-10",
            "max_steps": 20,
            "schedule": {"kind": "constant"},
        },
    )
    assert [row["step"] for row in trials.rows("longer") if "lr" in row] == list(range(11, 21))
    assert_equal_tensors(trials.weights("longer"), trials.weights("pretrain"))
    assert 10 in steps_of(trials.stage_run("pretrain").checkpoints())


def test_a_constant_extension_of_a_cosine_holds_its_last_rate(trials: Trials) -> None:
    trials.run(only=RESUME, longer__schedule={"kind": "constant"})
    last = trials.rows("pretrain")[-2]["lr"]
    assert trials.state("pretrain")["learning_rate"] == last < 1e-3
    assert {row["lr"] for row in trials.rows("longer") if "lr" in row} == {last}


def test_an_extension_of_an_extension_counts_all_steps(trials: Trials) -> None:
    again = {
        "kind": "resume",
        "from": "longer",
        "max_tokens": 40 * 256,
        "schedule": {"kind": "linear", "to": 1e-3, "peak": 4e-3, "warmup": 4},
    }
    trials.run(only=RESUME, again=again)
    rates = [row["lr"] for row in trials.rows("again") if "lr" in row]
    assert len(rates) == 10
    last = [row["lr"] for row in trials.rows("longer") if "lr" in row][-1]
    assert rates[0] == pytest.approx(last + (4e-3 - last) / 5)
    assert rates[4] == max(rates) == 4e-3
    made = trials.checkpoint("again")
    assert (made.step, made.tokens_seen, made.tokens_total) == (40, 10_240, 10_240)


def test_a_retraining_keeps_the_weights_and_starts_the_rest_anew(trials: Trials) -> None:
    trials.run(only=RETRAIN)
    made, parent = trials.checkpoint("retrain"), trials.checkpoint("longer")
    assert (made.step, made.tokens_seen) == (12, 12 * 256)
    assert made.tokens_total == made.tokens_seen + parent.tokens_total
    first = next(row for row in trials.rows("retrain") if "lr" in row)
    assert (first["step"], first["lr"]) == (1, 2.5e-3)  # half the peak, of a warm-up of one step
    assert first["tokens_total"] == parent.tokens_total + 256
    moments = trials.state("retrain")["optimizer"]["state"]["lm_head.weight"]
    assert float(moments["step"]) == 12
    (manifest,) = {c.parent for c in trials.stage_run("retrain").checkpoints()}
    assert manifest == trials.stage_run("weights").artifact().digest


def test_weights_and_the_checkpoint_they_came_from_retrain_alike(trials: Trials) -> None:
    trials.run(only=RETRAIN)
    direct = trials.copied_to(trials.folder.with_name("direct"))
    shutil.rmtree(direct.stage_run("retrain").path)
    direct.run(only=RETRAIN, retrain__from="longer")
    assert_equal_tensors(direct.weights("retrain"), trials.weights("retrain"))
    assert direct.checkpoint("retrain").tokens_total == trials.checkpoint("retrain").tokens_total


def test_a_mixture_is_read_in_the_order_of_its_shares(trials: Trials) -> None:
    """The first loss is that of the parent's weights on the very blocks the order names."""
    trials.run(only=RETRAIN, retrain__data={"code_tokens": 0.75, "tokens": 0.25})
    sources = [
        Blocks(trials.stage_run(name).output_dir / "train", 32, TOY_FIELDS["vocab_size"])
        for name in ("code_tokens", "tokens")
    ]
    digests = [trials.stage_run(name).artifact().digest for name in ("code_tokens", "tokens")]
    starts = (0, 30 * 8)  # its parent has read 240 blocks of tokens
    sizes = tuple(len(source) for source in sources)
    order = SampleOrder(7, sizes, (0.75, 0.25), tuple(digests), starts)
    data = TrainingData(sources, order, 8, Share(0, 1, 4))
    datasets = [dataset for step in range(12) for dataset, _ in data.sample_ids(step)]
    assert datasets.count(1) / len(datasets) == 0.25
    with torch.device("cpu"):
        model = GPT(Config(**TOY_FIELDS))
    model.load_state_dict(trials.weights("longer"))
    with torch.no_grad():
        losses = [loss_of_logits(model(x), y) for x, y in data.micro_batches(0)]
    expected = float(torch.stack(losses).mean())
    first = next(row for row in trials.rows("retrain") if "loss" in row)
    assert first["loss"] == pytest.approx(expected, rel=1e-5)


def test_each_dataset_of_a_mixture_is_evaluated(trials: Trials) -> None:
    trials.run(only=RETRAIN)
    last = trials.rows("retrain")[-1]
    assert last["val_loss"] == last["val_loss/code_tokens"] != last["val_loss/tokens"]


@pytest.mark.parametrize("epochs", [0.5, 0.29, 1, 2.5])
def test_epochs_are_whole_steps_of_passes_over_the_data(trials: Trials, epochs: float) -> None:
    trials.run(
        only=TRAIN,
        pretrain__max_steps=None,
        pretrain__epochs=epochs,
        pretrain__data="code_tokens",
        pretrain__global_batch_size=256,
        pretrain__runtime__micro_batch_size=64,
        pretrain__evaluate=None,
    )
    dataset = trials.stage_run("code_tokens").artifact()
    assert isinstance(dataset, TokenizedDataset)
    blocks = dataset.train.num_blocks(32)
    assert trials.checkpoint("pretrain").step == int(Fraction(str(epochs)) * blocks / 256)


def test_evaluating_does_not_change_training(trials: Trials) -> None:
    other = trials.copied_to(trials.folder.with_name("silent"))
    trials.run(only=TRAIN, pretrain__evaluate={"every": 3, "sequences": 16})
    other.run(only=TRAIN, **{"pretrain__evaluate": {"every": 100, "final": False}})
    assert_equal_tensors(trials.weights("pretrain"), other.weights("pretrain"))
    assert sum("val_loss" in row for row in trials.rows("pretrain")) == 7
    assert not any("val_loss" in row for row in other.rows("pretrain"))


def test_the_micro_batch_size_changes_sums_and_not_samples(trials: Trials) -> None:
    other = trials.copied_to(trials.folder.with_name("small"))
    trials.run(only=TRAIN, pretrain__runtime__micro_batch_size=8)
    other.run(only=TRAIN, pretrain__runtime__micro_batch_size=1)
    losses = [[r["loss"] for r in t.rows("pretrain") if "lr" in r] for t in (trials, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_stopped_run_goes_on_to_the_same_bits(trials: Trials) -> None:
    unbroken = trials.copied_to(trials.folder.with_name("unbroken"))
    unbroken.run(only=TRAIN)
    trials.write(only=TRAIN)
    result = trials.carry_out(stop_at=7)
    assert result.outcomes["pretrain"].status == "stopped"
    assert steps_of(trials.stage_run("pretrain").checkpoints()) == [5, 7]
    events: list[Event] = []
    trials.carry_out(events=events).raise_for_failure()
    assert Recovered(7, exact=True) in events
    assert trials.state_bytes("pretrain") == unbroken.state_bytes("pretrain")


def test_checkpoints_are_kept_over_restarts_as_asked(trials: Trials) -> None:
    trials.write(only=TRAIN, pretrain__runtime__checkpoint={"every": 3, "keep_last": 2})
    trials.carry_out(stop_at=10)
    trials.carry_out().raise_for_failure()
    run = trials.stage_run("pretrain")
    assert steps_of(run.checkpoints()) == [18, 20]
    deleted = [line["step"] for line in run.attempts() if line["event"] == "checkpoint_deleted"]
    assert deleted == [3, 6, 9, 10, 12, 15]


def test_a_corrupt_newest_checkpoint_is_reported_and_skipped(trials: Trials) -> None:
    trials.write(only=TRAIN)
    trials.carry_out(stop_at=13)
    (trials.stage_run("pretrain").checkpoint_dir(13) / "lit_model.pth").write_bytes(b"torn")
    events: list[Event] = []
    trials.carry_out(events=events).raise_for_failure()
    (warning,) = [message for message in warnings_in(events) if "skipped" in message]
    assert "step-00000013 is corrupt; skipped: lit_model.pth has 4 bytes" in warning
    assert Recovered(10, exact=True) in events


def test_damaged_checkpoints_do_not_push_whole_ones_out(trials: Trials) -> None:
    """Retention counts neither of them among the last ones; they are gone when all is well."""
    policy = {"every": 2, "keep_last": 2, "keep_every": 2}
    trials.write(only=TRAIN, pretrain__runtime__checkpoint=policy)
    trials.carry_out(stop_at=6)
    run = trials.stage_run("pretrain")
    for step in (4, 6):
        (run.checkpoint_dir(step) / "lit_model.pth").write_bytes(b"torn")
    trials.write(only=TRAIN, pretrain__runtime__checkpoint={"every": 1, "keep_last": 2})
    trials.carry_out(stop_at=3)
    assert steps_of(run.checkpoints()) == [2, 3]
    names = sorted(path.name for path in run.checkpoints_dir.iterdir())
    assert names[:2] == [".step-00000004.damaged", ".step-00000006.damaged"]
    trials.carry_out().raise_for_failure()
    assert steps_of(run.checkpoints()) == [19, 20]
    assert len(list(run.checkpoints_dir.iterdir())) == 2


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("compile", True, "compile was True and is False"),
        ("num_threads", 77, "num_threads was 77 and is "),
        ("torch_version", "1.0", "torch_version was 1.0 and is "),
    ],
)
def test_what_may_change_the_bytes_is_said_when_a_run_goes_on(
    trials: Trials, field: str, value: Any, why: str
) -> None:
    trials.write(only=TRAIN)
    trials.carry_out(stop_at=13)
    run = trials.stage_run("pretrain")
    path = run.checkpoint_dir(13) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    other = {**manifest, "resolved": {**manifest["resolved"], field: value}}
    path.write_text(json.dumps(sealed(other)), encoding="utf-8")
    trials.carry_out().raise_for_failure()
    (recovered,) = [line for line in run.attempts() if line["event"] == "recovered"]
    assert not recovered["exact"]
    (told,) = recovered["why"]
    assert told.startswith(why)


@pytest.mark.parametrize(
    ("section", "name", "value", "why"),
    [
        ("versions", "litgpt", "0.5.1", "versions: litgpt was 0.5.1 and is "),
        ("versions", "litdata", "0.2.1", "versions: litdata was 0.2.1 and is "),
        ("versions", "continuum", "0.0.1", "versions: continuum was 0.0.1 and is "),
        ("kinds", "pretrain", 0, "kinds: pretrain was 0 and is "),
        ("libraries", "torch", "ATLAS", "libraries: torch was ATLAS and is "),
        ("processor", "model", "Z80", "processor: model was Z80 and is "),
        ("processor", "instructions", "SSE2", "processor: instructions was SSE2 and is "),
        ("threads", "between", 99, "threads: between was 99 and is "),
        ("settings", "deterministic", True, "settings: deterministic was True and is False"),
        ("settings", "matmul_precision", "medium", "settings: matmul precision was medium and is "),
        ("environment", "MKL_CBWR", "COMPATIBLE", "MKL_CBWR was COMPATIBLE and is unset"),
        ("cuda", "driver", "1.0", "cuda: driver was 1.0 and is unset"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) and " " not in value else "",
)
def test_what_a_checkpoint_was_computed_by_is_compared(
    section: str, name: str, value: Any, why: str
) -> None:
    now = numerics("pretrain", Pretrain.version)
    assert [*changes(now, now)] == []
    (told,) = changes({**now, section: {**now[section], name: value}}, now)
    assert told.startswith(why)


def test_an_environment_that_changes_numbers_makes_a_recovery_inexact(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.write(only=TRAIN)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    trials.carry_out(stop_at=13)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setenv("TORCH_HOME", "elsewhere")
    trials.carry_out().raise_for_failure()
    run = trials.stage_run("pretrain")
    (recovered,) = [line for line in run.attempts() if line["event"] == "recovered"]
    assert not recovered["exact"]
    assert recovered["why"] == ["NVIDIA_TF32_OVERRIDE was 0 and is 1"]


def test_a_checkpoint_of_an_earlier_release_is_still_one(trials: Trials) -> None:
    trials.write(only=TRAIN)
    trials.carry_out(stop_at=13)
    run = trials.stage_run("pretrain")
    path = run.checkpoint_dir(13) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    for later in ("resolved", "data_read", "numerics"):
        del manifest[later]
    path.write_text(json.dumps(sealed(manifest)), encoding="utf-8")
    trials.carry_out().raise_for_failure()
    (recovered,) = [line for line in run.attempts() if line["event"] == "recovered"]
    assert (recovered["step"], recovered["exact"]) == (13, False)
    (told,) = recovered["why"]
    assert "of the previous attempt are unknown" in told


def test_damaged_weights_of_a_parent_are_told_with_what_to_do(trials: Trials) -> None:
    trials.run(only=TRAIN)
    weights = trials.stage_run("pretrain").output_dir / "lit_model.pth"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    before = weights.stat()
    weights.unlink()  # a hard link of the checkpoint's
    weights.write_bytes(data)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # a new one would be noticed
    trials.write(only=RESUME)
    with pytest.raises(IntegrityError) as caught:
        trials.carry_out().raise_for_failure()
    assert "lit_model.pth does not match its recorded checksum" in str(caught.value)
    assert "rebuild it with `continuum run --rerun pretrain`" in str(caught.value)


def test_a_resume_is_refused_a_metric_that_nobody_evaluates(trials: Trials) -> None:
    runtime = {"micro_batch_size": 4, "checkpoint": {"keep_best": "val_loss/typo"}}
    trials.write(only=RESUME, longer__runtime=runtime)
    (problem,) = trials.plan().problems
    assert problem.message == "unknown metric 'val_loss/typo'; known: val_loss, loss"
    assert problem.path == ("stages", "longer", "runtime", "checkpoint", "keep_best")
    with pytest.raises(PreflightError, match="val_loss/typo"):
        trials.carry_out()


def test_what_is_kept_is_saved_where_the_clock_alone_says_when(trials: Trials) -> None:
    policy = {"every": None, "minutes": 60, "keep_last": 2, "keep_every": 8}
    trials.run(only=TRAIN, pretrain__runtime__checkpoint=policy)
    assert steps_of(trials.stage_run("pretrain").checkpoints()) == [8, 16, 20]


def test_what_is_null_in_the_spec_is_null_in_the_worker(trials: Trials) -> None:
    fields = {"every": None, "minutes": 60, "keep_last": 2}
    trials.run(only=TRAIN, pretrain__runtime__checkpoint=fields)
    record = trials.stage_run("pretrain").record()
    stage = rebuild_stage(record)
    assert isinstance(stage, Pretrain)
    assert stage.runtime.checkpoint.every is None
    recipe = Recipe.model_validate(record.recipe, strict=False)
    assert recipe.runtime.checkpoint.every is None


def test_skipped_steps_are_told_at_the_end(
    trials: Trials, capsys: pytest.CaptureFixture[str]
) -> None:
    trials.write(
        only=TRAIN,
        pretrain__optimizer={"name": "SGD", "lr": 1e30},
        pretrain__max_steps=6,
        pretrain__on_nonfinite="skip",
        pretrain__runtime__checkpoint={"every": None},
    )
    events: list[Event] = []
    progress = PlainProgress()
    trials.carry_out(events=events)
    for event in events:
        progress.observe("pretrain", event)
    skipped = trials.rows("pretrain")[-2]["skipped_steps"]
    told = capsys.readouterr().err
    assert f"skipped {skipped} of 6 steps (on_nonfinite: skip)" in told
    assert "val_loss is nan at step 6" in told


DAMAGED_LINES = ["[]\n", "no JSON\n", '{"a": 1}\n']


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("attempts.jsonl", damage) for damage in DAMAGED_LINES),
        *(("metrics.jsonl", damage) for damage in DAMAGED_LINES),
        *(("resolved.json", damage) for damage in ("", "{", "[]")),
    ],
)
def test_a_damaged_record_is_told_with_what_to_do(trials: Trials, name: str, damage: str) -> None:
    trials.write(only=TRAIN)
    trials.carry_out(stop_at=3)
    path = trials.stage_run("pretrain").path / name
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(IntegrityError) as caught:
        trials.carry_out().raise_for_failure()
    assert str(path) in str(caught.value)
    assert "remove" in str(caught.value)


def test_a_model_cannot_go_on_with_another_tokenizers_data(trials: Trials) -> None:
    other = {"kind": "train_tokenizer", "corpus": "prose", "vocab_size": 400}
    with pytest.raises(StageFailedError) as caught:
        trials.run(
            only=(*TRAIN, "retrain"),
            other=other,
            code_tokens__tokenizer="other",
            retrain__from="pretrain",
            retrain__data="code_tokens",
        )
    told = "pretrain: retrain: dataset 'code_tokens' uses another tokenizer than the model"
    assert str(caught.value).startswith(told)


def test_what_was_extended_is_not_extended_by_nothing(trials: Trials) -> None:
    told = refusal(trials, only=RESUME, longer__max_steps=20)
    assert "max_steps 20 is 20 steps, and the parent already took 20" in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_refused(trials: Trials) -> None:
    told = refusal(trials, pretrain__runtime__accelerator="cuda")
    assert "runtime.accelerator is cuda, but no CUDA device was found" in told


def test_half_precision_on_a_cpu_is_refused_rather_than_replaced(trials: Trials) -> None:
    told = refusal(trials, pretrain__precision="16-mixed", pretrain__runtime__accelerator="cpu")
    assert "precision 16-mixed needs a CUDA device" in told


def test_what_torchs_optimizer_does_not_take_is_refused(trials: Trials) -> None:
    with pytest.raises(SpecError, match="fused and foreach are mutually exclusive"):
        trials.run(only=TRAIN, pretrain__optimizer={"lr": 1e-3, "fused": True, "foreach": True})


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_weights_are_kept_in_the_type_the_precision_says(trials: Trials, precision: str) -> None:
    trials.run(only=TRAIN, pretrain__precision=precision, pretrain__max_steps=2)
    expected = torch.bfloat16 if precision == "bf16-true" else torch.float32
    assert {tensor.dtype for tensor in trials.weights("pretrain").values()} == {expected}


def test_a_diverged_run_fails_with_advice(trials: Trials) -> None:
    with pytest.raises(StageFailedError, match=r"at step .*training has diverged; lower"):
        trials.run(only=TRAIN, pretrain__optimizer={"name": "SGD", "lr": 1e30})


@pytest.mark.slow
def test_a_compiled_run_makes_plain_weights(trials: Trials) -> None:
    trials.run(only=TRAIN, pretrain__runtime__compile="on", pretrain__max_steps=3)
    assert "lm_head.weight" in trials.weights("pretrain")
