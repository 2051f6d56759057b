"""Every command that prints facts prints them as a JSON document too, which names its schema."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum.cli import COMMANDS
from tests.commands import Cli

SPEC, STAGE = "the spec", "prose"
WITHOUT_DOCUMENT = {"init", "logs", "schema", "stop"}
"""They write, stream or ask; `schema` prints nothing but a document."""
ARGUMENTS = {
    "diff": (SPEC, SPEC),
    "doctor": (),
    "explain": ("lr",),
    "memory": ("pythia-14m",),
    "peek": (SPEC, STAGE),
    "validate": (SPEC,),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "book.txt").write_text("A cat sat.\n" * 200, encoding="utf-8")
    (folder / "experiment.yaml").write_text(
        "continuum: 1\nname: small\nstages:\n"
        "  prose: {kind: fetch, sources: [{path: book.txt}]}\n"
        "  tokenizer: {kind: train_tokenizer, corpus: prose, vocab_size: 270}\n",
        encoding="utf-8",
    )
    Cli()("run", folder, "--plain")
    return folder


@pytest.fixture
def document_of(finished: Path, cli: Cli) -> Callable[..., dict[str, Any]]:
    """The document that a command prints."""

    def ask(command: str, *more: str, expect: int | None = 0) -> dict[str, Any]:
        words = ARGUMENTS.get(command, (SPEC,))
        arguments = [finished if word == SPEC else word for word in words]
        done = cli(command, *arguments, *more, "--json", expect=expect)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    return ask


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - WITHOUT_DOCUMENT))
def test_a_command_prints_a_document(
    document_of: Callable[..., dict[str, Any]], command: str
) -> None:
    document = document_of(command, expect=None if command == "doctor" else 0)
    name = document["schema"].replace("/", ".").split(".")
    assert name[0] == "continuum"
    assert name[-1].isdigit()


def test_a_status_holds_what_the_table_shows(document_of: Callable[..., dict[str, Any]]) -> None:
    found = document_of("status")
    assert (found["experiment"], found["is_running"]) == ("small", False)
    prose, tokenizer = found["stages"]
    assert (prose["name"], prose["kind"], prose["state"]) == (STAGE, "fetch", "complete")
    assert (tokenizer["attempts"], tokenizer["run"][:10]) == (1, "tokenizer-")


def test_an_ancestry_holds_what_a_stage_came_from(
    document_of: Callable[..., dict[str, Any]],
) -> None:
    whole, part = document_of("lineage"), document_of("lineage", STAGE)
    assert {node["stage"] for node in whole["nodes"]} >= {STAGE, "tokenizer"}
    assert {node["stage"] for node in part["nodes"]} & {STAGE, "tokenizer"} == {STAGE}
    assert {node["type"] for node in part["nodes"]} == {"source", "run", "corpus"}
    known = {node["id"] for node in part["nodes"]}
    assert all({edge["source"], edge["target"]} <= known for edge in part["edges"])
    assert set(part["roots"]) <= known
