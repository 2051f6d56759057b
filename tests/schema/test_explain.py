"""`continuum explain`: codes, fields by any of their names, kinds, topics, and unknown names.

The function is called directly, which is faster than thirty processes.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from continuum.cli.explain import explain
from continuum.errors import UsageError
from continuum.loading.aliases import NOTES, RELATED, SAME
from continuum.loading.codes import CODES
from continuum.loading.explain import all_fields
from continuum.stages import stage_kinds

Say = Callable[..., str]


@pytest.fixture
def say() -> Say:
    """What the command prints."""

    def say(topic: str | None = None, *, as_document: bool = False) -> str:
        answer = explain(topic)
        if as_document:
            return json.dumps({"schema": answer.schema, **answer.as_json()})
        return "\n".join(answer.parts()) + "\n"

    return say


def document_of(say: Say, topic: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(say(topic, as_document=True))
    assert document["schema"] == "continuum.explain/1"
    assert document["topic"] == topic
    return document


def test_a_code_is_explained_in_either_case(say: Say) -> None:
    shown = say("E101")
    assert shown.startswith("E101: Unknown key.\n\nAn unknown key is never ignored")
    assert say("e101") == shown


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_summary_and_advice(code: str) -> None:
    assert CODES[code].summary.endswith(".")
    assert len(CODES[code].advice) > 60


def test_a_warning_is_explained_with_examples(say: Say) -> None:
    shown = say("W002")
    assert shown.startswith("W002: Warm-up longer than a tenth of the run.\n")
    assert "Right:\n" in shown


@pytest.mark.parametrize(
    "name",
    [
        "stages.pretrain.optimizer.lr",
        "stages.longer.optimizer.lr",
        "pretrain.optimizer.lr",
        "retrain.optimizer.lr",
        "optimizer.lr",
        "lr",
    ],
)
def test_a_field_goes_by_its_path_from_anywhere(say: Say, name: str) -> None:
    (field,) = document_of(say, name)["fields"]
    assert field["path"] == "optimizer.lr"
    assert field["type"] == "number (greater than 0)"
    assert field["is_required"]
    assert field["role"] == "identity"
    assert field["description"].startswith("The peak learning rate.")
    of = [kind for kind in ("pretrain", "retrain") if name.removeprefix("stages.").startswith(kind)]
    assert field["kinds"] == (of or ["pretrain", "retrain"])


def test_a_field_is_printed_for_people(say: Say) -> None:
    assert say("runtime.checkpoint.keep_last") == (
        "runtime.checkpoint.keep_last (of pretrain, resume, retrain)\n"
        "  Number of newest checkpoints to keep: at least two, because the last may be corrupt.\n"
        "  type      integer (at least 2)\n"
        "  default   2\n"
        "  role      runtime\n"
        "  unit      checkpoints\n"
    )


def test_the_item_of_a_list_is_found(say: Say) -> None:
    for name in ("fetch.sources.0.sha256", "stages.books.sources[1].sha256", "sha256"):
        (field,) = document_of(say, name)["fields"]
        assert field["path"] == "sources.sha256"


def test_an_amount_shows_its_forms(say: Say) -> None:
    shown = say("retrain.schedule.warmup")
    assert "type      integer (at least 0) or string or mapping\n" in shown
    assert "default   5%\n" in shown
    assert "examples  100, 5%, {tokens: 300k}\n" in shown


def test_choices_are_listed(say: Say) -> None:
    (field,) = document_of(say, "pretrain.precision")["fields"]
    assert field["choices"] == ["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed"]
    (model,) = document_of(say, "pretrain.model.name")["fields"]
    assert "pythia-160m" in model["choices"]


def test_a_kind_is_explained_with_its_fields(say: Say) -> None:
    shown = say("retrain")
    assert shown.startswith(
        "retrain (a kind of stage): Continue training from weights, with a new optimizer"
    )
    assert "sequence_length              Tokens per training sequence. (required)" in shown
    assert document_of(say, "stages.retrain")["kinds"][0]["fields"][:3] == [
        "kind",
        "description",
        "from",
    ]


def test_a_topic_and_a_field_of_one_name_are_both_explained(say: Say) -> None:
    document = document_of(say, "runtime")
    assert document["concepts"][0]["text"].startswith("A role")
    assert {tuple(field["kinds"]) for field in document["fields"]} == {
        ("pretrain", "retrain"),
        ("resume",),
        ("evaluate",),
    }


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("pretrain.optimizr.lr", "pretrain.optimizer.lr"),
        ("optimizer.lrr", "optimizer.lr"),
        ("pretrain.max_token", "pretrain.max_tokens"),
        ("runtime.checkpoint.keep_lst", "runtime.checkpoint.keep_last"),
        ("retrian", "retrain"),
        ("sequence_lenght", "sequence_length"),
        ("amuont", "amount"),
        ("sead", "seed"),
    ],
)
def test_an_unknown_name_gets_the_right_suggestion(wrong: str, meant: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"did you mean {meant!r}?")):
        explain(wrong)


@pytest.mark.parametrize("topic", ["xyzzyqwop", "E999", "", "a.b.c", "pretrain.", "..."])
def test_an_unknown_name_is_an_error(topic: str) -> None:
    with pytest.raises(UsageError, match="no code, kind, field or topic"):
        explain(topic)


def test_without_an_argument_everything_is_listed(say: Say) -> None:
    shown = say()
    for name in (*CODES, *stage_kinds(), *(field.path for field in all_fields())):
        assert name in shown, name
    document = json.loads(say(as_document=True))
    assert {code["code"] for code in document["codes"]} >= CODES.keys()
    assert len(document["fields"]) == len(all_fields())
    assert len(document["kinds"]) == len(stage_kinds())


@pytest.mark.parametrize("word", [*SAME, *RELATED, *NOTES])
def test_every_name_of_another_program_leads_to_ours(word: str) -> None:
    answer = explain(word)
    assert answer.fields or answer.kinds or answer.topics or answer.other_name


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("learning_rate", "optimizer.lr"),
        ("checkpoint_dir", "from"),
        ("per_device_train_batch_size", "runtime.micro_batch_size"),
        ("--train.max_seq_length", "sequence_length"),
        ("train.global_batch_size", "global_batch_size"),
        ("save_steps", "runtime.checkpoint.every"),
        ("bf16", "precision"),
        ("num_hidden_layers", "model.n_layer"),
    ],
)
def test_a_name_of_another_program_shows_our_field(word: str, path: str, say: Say) -> None:
    head, _, first, *_ = say(word).splitlines()
    assert head.startswith(f"{word}, of other programs: see ")
    assert first.startswith(f"{path} (of ")
    assert json.loads(say(word, as_document=True))["fields"][0]["path"] == path


def test_a_name_of_another_program_may_be_a_kind_or_need_none(say: Say) -> None:
    assert "\nfetch (a kind of stage): " in say("TextFiles")
    assert say("finetune").startswith("finetune, of other programs: see kind: retrain\n")
    assert "an optimizer is written `{name: AdamW, lr: 3e-4}`" in say("init_args")
    written = "everything is written below `runs/` in the experiment's folder"
    assert say("out_dir") == f"out_dir, of other programs: {written}\n"
