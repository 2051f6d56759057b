"""What validates although the model was trained on it is told by the plan, and recorded."""

import json
from pathlib import Path

import pytest

from tests.commands import Cli, only

SPEC = """
continuum: 1
name: leaks
stages:
  old: {kind: fetch, sources: [{path: old.jsonl}]}
  new: {kind: fetch, sources: [{path: new.txt}]}
  held: {kind: fetch, sources: [{path: held.jsonl}]}
  tokenizer: {kind: train_tokenizer, corpus: new, vocab_size: 300}
  first: {kind: tokenize, corpus: old, tokenizer: tokenizer, validation: none}
  second: {kind: tokenize, corpus: new, tokenizer: tokenizer, validation: {corpus: held}}
  pretrain:
    kind: pretrain
    model: {name: pythia-14m, n_layer: 1, n_embd: 16, n_head: 2, vocab_size: 320}
    data: first
    max_steps: 2
    sequence_length: 8
    global_batch_size: 4
    optimizer: {lr: 1e-3}
    evaluate: null
  retrain:
    kind: retrain
    from: pretrain
    data: second
    max_steps: 2
    sequence_length: 8
    global_batch_size: 4
    optimizer: {lr: 1e-3}
    evaluate: {every: 2, sequences: 2}
"""
TOLD = (
    "in 'second', 1 of 3 validation documents are training documents of 'first' too, word for "
    "word: held.jsonl, document 3 (in training: old.jsonl, document 2)"
)


@pytest.mark.slow
def test_a_document_that_an_ancestor_trained_on_is_recorded_and_told(
    tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "experiment.yaml").write_text(SPEC, encoding="utf-8")
    secret = "what was trained on and validates, in one line of two files\n" * 20
    (tmp_path / "new.txt").write_text("a book of the second stage\n" * 99, encoding="utf-8")
    for name, texts in (
        ("old", ["one of the old lines " * 20, secret]),
        ("held", ["held out " * 9, "and so is this " * 9, secret]),
    ):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    assert "W006" not in str(cli("plan", tmp_path))  # no file is another
    cli("run", tmp_path)
    record = json.loads(only(tmp_path, "runs/retrain-*/stage.json").read_text())
    (leak,) = record["leaks"]
    assert leak.startswith(TOLD)
    assert json.loads(only(tmp_path, "runs/pretrain-*/stage.json").read_text())["leaks"] == []
    nodes = json.loads((tmp_path / "lineage.json").read_text())["nodes"]
    (node,) = (n for n in nodes if n["type"] == "run" and n["stage"] == "retrain")
    assert node["facts"]["leaks"] == [leak]
    told = cli("plan", tmp_path)
    assert leak in " ".join((told.stdout + told.stderr).split())
    listed = only(tmp_path, "runs/first-*/output/documents/train.rows")
    whole = listed.read_bytes()
    for rest in (whole[:-1], None):  # damage is the plan's to tell, and nothing is compared
        listed.unlink()
        if rest is not None:
            listed.write_bytes(rest)
        told = cli("plan", tmp_path)
        assert "documents/train.rows" in told.stdout
        assert "W006" not in told.stderr
