"""`continuum peek` shows what a model gets to read."""

import json
from pathlib import Path

import pytest

from tests.commands import Cli

SPEC = """
continuum: 1
name: peek
stages:
  texts: {kind: fetch, sources: [{path: lines.jsonl}, {path: book.txt, encoding: latin-1}]}
  tokenizer: {kind: train_tokenizer, corpus: texts, vocab_size: 270}
  tokens:
    kind: tokenize
    corpus: texts
    tokenizer: tokenizer
    document: eos
    validation: {files: [book.txt]}
  taken: {kind: import, as: dataset, path: elsewhere, tokenizer: tokenizer}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose first three stages have run."""
    folder = tmp_path_factory.mktemp("peek")
    (folder / "experiment.yaml").write_text(SPEC.replace("  taken:", "  # taken:"))
    texts = ["one\ttwo\n", "three \x1b[31m", "日本"]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "lines.jsonl").write_text(lines, encoding="utf-8")
    (folder / "book.txt").write_bytes("né en été\n".encode("latin-1") * 9)
    Cli()("run", folder)
    return folder


def test_the_terminal_shows_borders_special_tokens_and_what_is_invisible(
    folder: Path, cli: Cli
) -> None:
    shown = cli("peek", folder, "tokens").stdout.splitlines()
    assert shown[0].startswith("document 1  lines.jsonl, document 1  ")
    assert "".join(shown[1:]).replace("│", "") == "one⇥two↵<|endoftext|>"
    assert "│⇥│" in shown[1]
    escaped = cli("peek", folder, "tokens", "--document", 2).stdout
    assert "\x1b" not in escaped
    assert "\\x1b" in escaped
    corpus = cli("peek", folder, "texts", "--document", 4, "--length", 9).stdout.splitlines()
    assert corpus == ["document 4  book.txt  90 characters, 1 to 9 shown", "né en été"]
    split = cli("peek", folder, "tokens", "--split", "validation", "--length", 4).stdout
    assert split.startswith("document 1  book.txt")


def test_json_has_ids_bytes_of_parts_of_characters_and_special_tokens(
    folder: Path, cli: Cli
) -> None:
    document = json.loads(cli("peek", folder, "tokens", "--grep", "日", "--json").stdout)
    assert document["schema"] == "continuum/peek/1"
    assert document["stage"] == "tokens"
    assert not document["has_more"]
    (found,) = document["documents"]
    assert (found["number"], found["source"], found["position"]) == (3, "lines.jsonl", 3)
    assert found["text"] == "日本<|endoftext|>"
    *pieces, end = found["tokens"]
    assert end["special"] is True
    assert end["text"] == "<|endoftext|>"
    told = b"".join(
        bytes.fromhex(it["bytes"]) if "bytes" in it else it["text"].encode() for it in pieces
    )
    assert told == "日本".encode()
    assert (
        json.loads(cli("peek", folder, "tokens", "--grep", "absent", "--json").stdout)["documents"]
        == []
    )
    drawn = json.loads(cli("peek", folder, "texts", "--random", 2, "--seed", 3, "--json").stdout)
    assert len(drawn["documents"]) == 2


def test_a_dataset_from_elsewhere_is_shown_as_one_document(
    folder: Path, tmp_path: Path, cli: Cli
) -> None:
    made = next((folder / "runs").glob("tokens-*")) / "output"
    (tmp_path / "elsewhere").symlink_to(made)
    for name in ("lines.jsonl", "book.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "experiment.yaml").write_text(SPEC)
    cli("run", tmp_path)
    told = cli("peek", tmp_path, "taken")
    assert "is shown as one document" in told.stderr
    assert told.stdout.count("<|endoftext|>") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["token"], "did you mean 'tokens'?"),
        (["tokenizer"], "makes a tokenizer; peek shows corpora and datasets only"),
        (["tokens", "--document", "4"], "no document 4: the train split has 3"),
        (
            ["tokens", "--document", "1", "--grep", "x"],
            "--document and --grep cannot be used together",
        ),
        (["tokens", "--grep", "("], "not a regular expression"),
        (["tokens", "--split", "test"], "must be train or validation"),
        (["tokens", "--seed", "1"], "--seed can only be used with --random"),
    ],
)
def test_what_cannot_be_shown_is_an_error(
    folder: Path, cli: Cli, arguments: list[str], message: str
) -> None:
    assert message in cli("peek", folder, *arguments, expect=2).stderr


def test_a_stage_that_has_not_run_has_nothing_to_show(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "experiment.yaml").write_text(SPEC)
    assert "has not run yet" in cli("peek", tmp_path, "texts", expect=2).stderr
