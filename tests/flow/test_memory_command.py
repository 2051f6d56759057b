"""`continuum memory`: the table of what a GPU takes."""

import json

import pytest

from tests.commands import Cli

ASKED = ("pythia-160m", "pythia-410m", "pythia-1b", "Llama-2-7b-hf", "Llama-2-70b-hf")


def test_the_table_has_each_way_to_train_each_model(cli: Cli) -> None:
    document = json.loads(cli("memory", *ASKED, "--json").stdout)
    assert document["schema"] == "continuum.memory/1"
    assert [model["model"] for model in document["models"]] == list(ASKED)
    for model in document["models"]:
        keys = ("strategy", "precision", "activation_checkpointing")
        ways = {tuple(row[key] for key in keys) for row in model["rows"]}
        assert len(ways) == len(model["rows"]) == 3 * 3 * 3
        assert all(row["total_bytes"] > row["state_bytes"] for row in model["rows"])


def test_people_get_lines_and_marks_where_it_does_not_fit(cli: Cli) -> None:
    done = cli(
        "memory", "Llama-2-7b-hf", "--gpu-memory", "80", "--strategy", "fsdp", "--strategy",
        "single", "--precision", "bf16-mixed",
    )  # fmt: skip
    title, headings, single, fsdp, legend = done.stdout.strip().splitlines()
    assert "micro-batches of 4 x 2,048 tokens" in title
    assert headings.split("  ")[0] == "strategy"
    assert single.count("*") == 3
    assert fsdp.startswith("fsdp")
    assert "*" not in fsdp
    assert legend == "* does not fit into 80 GB"


def test_unsharded_gradients_are_counted(cli: Cli) -> None:
    def state(*options: str) -> int:
        options = ("--strategy", "fsdp", "--precision", "bf16-mixed", "--json", *options)
        (model,) = json.loads(cli("memory", "Llama-2-7b-hf", *options).stdout)["models"]
        return int(model["rows"][0]["state_bytes"])

    assert state("--accumulate-unsharded") - state() == 4 * 6_738_415_616
    assert state("--accumulate-unsharded", "--no-accumulate") == state()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pythia-161m"], "did you mean pythia-160m?"),
        (
            ["pythia-160m", "--strategy", "fsdp2"],
            "--strategy fsdp2: must be one of single, ddp, fsdp",
        ),
        (["pythia-160m", "--sequence-length", "4096"], "longer than the block_size 2,048"),
        (["Mixtral-8x7B-v0.1"], "cannot count the parameters of this architecture"),
    ],
    ids=["unknown model", "unknown strategy", "too long", "not counted"],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(
    arguments: list[str], message: str, cli: Cli
) -> None:
    assert message in cli("memory", *arguments, expect=2).stderr
