"""`continuum explain`: codes, fields by any of their names, kinds, words, and what is unknown."""

import json
from typing import Any

import pytest

from continuum.spec.codes import CODES
from continuum.spec.manual import all_fields
from continuum.stage import stage_kinds
from tests.commands import Cli


def told(cli: Cli, topic: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cli("explain", topic, "--json").stdout)
    assert document["schema"] == "continuum.explain/1"
    assert document["topic"] == topic
    return document


def test_a_code_is_told_with_its_examples(cli: Cli) -> None:
    shown = cli("explain", "E101").stdout
    assert shown.startswith("E101: A key that is not known at this place.\n")
    assert "Wrong:\n  sead: 7\n" in shown
    assert "Right:\n  seed: 7\n" in shown
    assert "never dropped" in shown
    assert cli("explain", "e101").stdout == shown


def test_a_warning_is_explained_as_a_mistake_is(cli: Cli) -> None:
    shown = cli("explain", "W002").stdout
    assert shown.startswith("W002: The warm-up takes more than a tenth of the run.\n")
    assert "Right:\n" in shown


def test_a_control_character_is_shown_not_sent_to_the_terminal(cli: Cli) -> None:
    shown = cli("explain", "E001").stdout + cli("explain", "E005").stdout
    assert "caf␁" in shown
    assert "␉kind: fetch" in shown
    assert not set(shown) & {chr(code) for code in range(32)} - {"\n"}


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
def test_a_field_goes_by_its_path_from_anywhere(cli: Cli, name: str) -> None:
    (field,) = told(cli, name)["fields"]
    assert field["path"] == "optimizer.lr"
    assert field["type"] == "a number (above 0)"
    assert field["is_required"]
    assert field["role"] == "identity"
    assert field["description"].startswith("The peak learning rate.")
    of = [kind for kind in ("pretrain", "retrain") if name.removeprefix("stages.").startswith(kind)]
    assert field["kinds"] == (of or ["pretrain", "retrain"])


def test_a_field_is_told_for_people(cli: Cli) -> None:
    assert cli("explain", "runtime.checkpoint.keep_last").stdout == (
        "runtime.checkpoint.keep_last (of pretrain, resume, retrain)\n"
        "  How many of the newest to keep: two, since the last may turn out damaged.\n"
        "  type      a whole number (at least 2)\n"
        "  default   2\n"
        "  role      runtime\n"
        "  unit      checkpoints\n"
    )


def test_the_item_of_a_list_is_found(cli: Cli) -> None:
    for name in ("fetch.sources.0.sha256", "stages.books.sources[1].sha256", "sha256"):
        (field,) = told(cli, name)["fields"]
        assert field["path"] == "sources.sha256"


def test_an_amount_shows_its_forms(cli: Cli) -> None:
    shown = cli("explain", "retrain.schedule.warmup").stdout
    assert "type      a whole number (at least 0) or text or a mapping\n" in shown
    assert "default   5%\n" in shown
    assert "examples  100, 5%, {tokens: 300k}\n" in shown


def test_choices_are_listed(cli: Cli) -> None:
    (field,) = told(cli, "pretrain.precision")["fields"]
    assert field["choices"] == ["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed"]
    (model,) = told(cli, "pretrain.model.name")["fields"]
    assert "pythia-160m" in model["choices"]


def test_a_kind_is_told_with_its_fields(cli: Cli) -> None:
    shown = cli("explain", "retrain").stdout
    assert shown.startswith("retrain (a kind of stage): Train weights on; data, optimizer and")
    assert "sequence_length              Tokens in a training sequence. (required)" in shown
    assert told(cli, "stages.retrain")["kinds"][0]["fields"][:3] == ["kind", "description", "from"]


def test_a_word_and_a_field_of_one_name_are_both_told(cli: Cli) -> None:
    document = told(cli, "runtime")
    assert document["concepts"][0]["text"].startswith("A role")
    assert {tuple(field["kinds"]) for field in document["fields"]} == {
        ("pretrain", "retrain"),
        ("resume",),
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
def test_an_unknown_name_gets_the_right_suggestion(cli: Cli, wrong: str, meant: str) -> None:
    done = cli("explain", wrong, expect=2)
    assert done.stdout == ""
    assert f"did you mean {meant!r}?" in done.stderr


def test_what_is_like_nothing_is_an_error_too(cli: Cli) -> None:
    for name in ("xyzzyqwop", "E999", "", "a.b.c", "pretrain.", "..."):
        done = cli("explain", name, expect=None)
        assert done.returncode == 2, name
        assert done.stdout == ""


def test_without_an_argument_everything_is_listed(cli: Cli) -> None:
    shown = cli("explain").stdout
    for name in (*CODES, *stage_kinds(), *(field.path for field in all_fields())):
        assert name in shown, name
    document = json.loads(cli("explain", "--json").stdout)
    assert {code["code"] for code in document["codes"]} >= CODES.keys()
    assert len(document["fields"]) == len(all_fields())
    assert len(document["kinds"]) == len(stage_kinds())
