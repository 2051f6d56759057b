import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from litgpt.tokenizer import Tokenizer as LitgptTokenizer
from pydantic import ValidationError

from continuum.errors import PreflightError
from continuum.runs.artifacts import Corpus, TokenizerFiles
from continuum.runs.events import Event
from continuum.runs.files import hash_tree
from continuum.stages.train_tokenizer import TrainTokenizer
from continuum.text.bpe import train_bpe
from continuum.text.inspection import check_tokenizer
from tests.support import make_stage, run_stage, warnings_in
from tests.text.samples import json_lines, messy_text, prose, write_corpus


def train(
    folder: Path, corpus: Corpus, events: list[Event] | None = None, **fields: Any
) -> TokenizerFiles:
    stage = make_stage(TrainTokenizer, folder, corpus="books", **fields)
    made = run_stage(stage, folder, inputs={"books": corpus}, events=events)
    assert isinstance(made, TokenizerFiles)
    return made


def test_litgpt_loads_the_tokenizer_and_gets_every_text_back(tmp_path: Path) -> None:
    made = train(tmp_path, write_corpus(tmp_path / "c", {"a.txt": prose()}), vocab_size=1000)
    tokenizer = LitgptTokenizer(made.path)
    text = "\x00" + messy_text(2000) + "\x7f"
    text = text.replace("<|endoftext|>", "")
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.bos_id, tokenizer.eos_id) == (made.bos_id, made.eos_id) == (0, 0)
    assert made.num_ids == 1000
    assert sorted(file.path for file in made.files) == ["tokenizer.json", "tokenizer_config.json"]


def test_words_of_the_corpus_become_tokens(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.jsonl": json_lines(["a whale, a whale!"] * 50)})
    tokenizer = LitgptTokenizer(train(tmp_path, corpus, vocab_size=280).path)
    assert len(tokenizer.encode("the whale").tolist()) < len("the whale") - 3


def test_equal_text_makes_equal_bytes_in_any_process(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text(prose() + messy_text(5000), encoding="utf-8", newline="")
    code = (
        "import sys; from pathlib import Path; from continuum.text.bpe import train_bpe\n"
        "text = Path(sys.argv[1]).read_bytes().decode()\n"
        "train_bpe([text[:9999], text[9999:]], Path(sys.argv[2]), vocab_size=2000,"
        " min_frequency=2, bos_token='<b>', eos_token='<e>')"
    )
    for name in ("a", "b"):
        command = [sys.executable, "-c", code, str(text), str(tmp_path / name)]
        subprocess.run(command, check=True)
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")


def test_how_text_is_cut_for_training_changes_nothing(tmp_path: Path) -> None:
    text = prose()
    corpus = write_corpus(tmp_path / "c", {"a.txt": text})
    made = train(tmp_path, corpus, vocab_size=1000)
    train_bpe(
        [text],
        tmp_path / "whole",
        vocab_size=1000,
        min_frequency=2,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )
    assert hash_tree(tmp_path / "whole") == made.files


def test_marks_can_differ_and_more_tokens_be_added(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": prose()})
    made = train(
        tmp_path,
        corpus,
        vocab_size=300,
        bos_token="<s>",
        eos_token="</s>",
        special_tokens=("<pad>", "<s>"),
    )
    assert (made.bos_id, made.eos_id) == (0, 1)
    assert LitgptTokenizer(made.path).token_to_id("<pad>") == 2


def test_a_corpus_too_small_is_a_warning_and_the_ids_are_counted(tmp_path: Path) -> None:
    events: list[Event] = []
    corpus = write_corpus(tmp_path / "c", {"a.txt": "one two one two"})
    made = train(tmp_path, corpus, events, vocab_size=5000)
    (warning,) = warnings_in(events)
    assert f"only yields {made.num_ids:,} ids" in warning
    assert 257 < made.num_ids < 300
    check_tokenizer(made.path)


@pytest.mark.parametrize(
    "files",
    [{"a.txt": ""}, {"a.txt": "\ufeff"}, {"a.jsonl": json_lines(["", ""])}, {"a.jsonl": ""}, {}],
)
def test_an_empty_corpus_is_an_error(tmp_path: Path, files: dict[str, str]) -> None:
    corpus = write_corpus(tmp_path / "c", files)
    with pytest.raises(PreflightError, match=r"books: the corpus is empty.*cannot be trained"):
        train(tmp_path, corpus, vocab_size=300)


def test_a_corpus_of_one_space_is_not_empty(tmp_path: Path) -> None:
    made = train(tmp_path, write_corpus(tmp_path / "c", {"a.txt": " "}), vocab_size=300)
    assert made.num_ids == 257


def test_line_ends_are_learned_as_they_are_read(tmp_path: Path) -> None:
    unix, dos = prose(), prose().replace("\n", "\r\n")
    one = write_corpus(tmp_path / "a", {"a.txt": unix})
    two = write_corpus(tmp_path / "b", {"a.txt": dos}, newlines="unix")
    made = [train(tmp_path, corpus, vocab_size=600).digest for corpus in (one, two)]
    assert made[0] == made[1]


def test_an_unreadable_corpus_says_where(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": b"good \xff"})
    with pytest.raises(PreflightError, match="byte 5 is not valid utf-8"):
        train(tmp_path, corpus, vocab_size=300)


@pytest.mark.parametrize("size", [259, 0, "many", 2**25])
def test_vocabularies_without_room_or_reason_are_no_spec(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValidationError, match="vocab_size"):
        make_stage(TrainTokenizer, tmp_path, corpus="books", vocab_size=size)


def test_special_tokens_must_fit_and_differ(tmp_path: Path) -> None:
    many = tuple(f"<{number}>" for number in range(9))
    crowded = make_stage(TrainTokenizer, tmp_path, corpus="b", vocab_size=260, special_tokens=many)
    doubled = make_stage(
        TrainTokenizer, tmp_path, corpus="b", vocab_size=999, special_tokens=("<x>", "<x>")
    )
    assert [problem.path for problem in crowded.problems({})] == [("vocab_size",)]
    assert [problem.path for problem in doubled.problems({})] == [("special_tokens",)]
