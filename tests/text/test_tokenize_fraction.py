"""`validation: {fraction: …}`: what was asked is given, recorded and stated, or refused."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from continuum.errors import PreflightError
from continuum.runs.artifacts import Corpus, TokenizedDataset
from continuum.runs.events import Event, Noted, Progressed
from continuum.text.inspection import inspect_tokenizer
from tests.commands import Cli, only
from tests.support import run_stage, warnings_in
from tests.text.samples import json_lines, prose, write_corpus
from tests.text.tokenizations import forecast_of, make, read_back, tokenize

PARAGRAPH = "Plain words follow each other in one long unwrapped paragraph. " * 40
CHINESE = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未"
THAI = "ภาษาไทยไม่มีช่องว่างระหว่างคำ"
DIGEST = base64.b64encode(bytes(range(256)) * 30).decode()
KINDS: dict[str, dict[str, str | bytes]] = {
    "a title, then a paragraph": {"a.txt": f"A Title\n{PARAGRAPH}"},
    "two paragraphs": {"a.txt": f"{PARAGRAPH}\n{PARAGRAPH}\n"},
    "one line": {"a.md": f"{PARAGRAPH}\n"},
    "Chinese on one line": {"a.txt": f"题目\n{CHINESE * 200}\n"},
    "Thai on one line": {"a.txt": f"{THAI * 200}\n"},
    "base64 on one line": {"a.txt": f"{DIGEST}\n"},
    "a folder of Chinese lines": {
        f"{n}.txt": f"{CHINESE}，{CHINESE}。" * (40 + n) + "\n" for n in range(5)  # noqa: RUF001
    },
    "a folder with a short file": {"a.txt": PARAGRAPH, "b.txt": "Short.\n", "c.txt": "A"},
    "lines of very unequal length": {"a.jsonl": json_lines([PARAGRAPH, *"abcdefgh"])},
}  # fmt: skip


def run(
    folder: Path, tokenizer: Path, corpus: Corpus, **fields: Any
) -> tuple[TokenizedDataset, list[Event]]:
    """What is made, and the events of the run."""
    events: list[Event] = []
    inputs = {"books": corpus, "tokenizer": inspect_tokenizer(tokenizer)}
    made = run_stage(make(folder, **fields), folder, inputs=inputs, events=events)
    assert isinstance(made, TokenizedDataset)
    return made, events


def notes_in(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Noted)]


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_are_hard_to_divide_give_the_share(
    trained_tokenizer: Path, tmp_path: Path, kind: str, fraction: float
) -> None:
    corpus = write_corpus(tmp_path / "c", KINDS[kind])
    made = tokenize(
        tmp_path, trained_tokenizer, {"books": corpus}, validation={"fraction": fraction}
    )
    shares = made.shares
    assert shares is not None
    assert made.validation is not None
    assert shares.asked == fraction
    assert shares.mode == ("documents" if len(corpus.items) * fraction > 2 else "ends")
    assert abs(shares.characters - fraction) <= fraction / 4
    assert made.validation.num_tokens > 10
    tokenizer = Tokenizer.from_file(str(trained_tokenizer / "tokenizer.json"))
    held = tokenizer.decode(read_back(made, "validation"), skip_special_tokens=True)
    assert len(held.strip()) == pytest.approx(shares.characters * num_chars(made), abs=3)


def num_chars(made: TokenizedDataset) -> int:
    assert made.validation is not None
    assert made.train.num_chars is not None
    assert made.validation.num_chars is not None
    return made.train.num_chars + made.validation.num_chars


def test_many_documents_are_held_out_whole(trained_tokenizer: Path, tmp_path: Path) -> None:
    texts = [f"document {number}" for number in range(500)]
    files: dict[str, str | bytes] = {"a.jsonl": json_lines(texts[:450]), "empty.txt": ""}
    files |= {f"{number}.txt": text for number, text in enumerate(texts[450:])}
    corpus = write_corpus(tmp_path / "c", files)
    made, events = run(tmp_path, trained_tokenizer, corpus, validation={"fraction": 0.1})
    assert made.shares is not None
    assert made.validation is not None
    assert made.shares.mode == "documents"
    documents = (made.train.num_documents, made.validation.num_documents)
    assert sum(documents) == 500
    assert made.shares.documents == documents[1] / 500
    tokens = (made.train.num_tokens, made.validation.num_tokens)
    assert made.shares.tokens == tokens[1] / sum(tokens)
    assert made.shares.characters == pytest.approx(0.1, abs=0.001)
    assert num_chars(made) == sum(map(len, texts))
    assert notes_in(events) == warnings_in(events) == []
    assert made.summary().endswith(f"% of tokens, {made.shares.documents:.2%} of documents)")


@pytest.mark.parametrize(
    ("policy", "event"),
    [("bos", "note"), ("none", "note"), ("eos", "warning"), ("both", "warning")],
)
def test_that_documents_are_divided_is_stated(
    trained_tokenizer: Path, tmp_path: Path, policy: str, event: str
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": prose()[:20_000], "b.txt": prose()[:5000]})
    made, events = run(
        tmp_path, trained_tokenizer, corpus, validation={"fraction": 0.1}, document=policy
    )
    (reported,) = warnings_in(events) if event == "warning" else notes_in(events)
    assert reported.startswith("the end of each document is used for validation")
    assert "`files` or `corpus`" in reported
    assert ("each EOS in training follows a cut inside a document" in reported) == (
        event == "warning"
    )
    assert made.summary().endswith("% of tokens: the end of each document)")


def test_a_share_that_documents_cannot_give_is_refused_with_the_figures(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "fourteen chars"})
    events: list[Event] = []
    inputs = {"books": corpus, "tokenizer": inspect_tokenizer(trained_tokenizer)}
    stage = make(tmp_path, validation={"fraction": 0.1})
    with pytest.raises(PreflightError) as error:
        run_stage(stage, tmp_path, inputs=inputs, events=events)
    reported = str(error.value)
    assert "asks for 1 of 14 characters (1 to 2 are accepted)" in reported
    assert "validation got 1 in 1 document (7.14%) and training 13 in 1" in reported
    assert "set another fraction, name the validation text with `files` or `corpus`" in reported
    assert not list((tmp_path / "runs").glob("*/output/train/*.bin"))


def test_a_share_that_borders_spoil_is_refused_too(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": b"xx\r\n"})
    with pytest.raises(PreflightError, match=r"asks for 1 of 4 .* got 2 in 1 document"):
        tokenize(tmp_path, trained_tokenizer, {"books": corpus}, validation={"fraction": 0.25})


def test_progress_counts_both_passes(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": prose()})
    _, events = run(tmp_path, trained_tokenizer, corpus, validation={"fraction": 0.1})
    total = 2 * corpus.size_bytes
    assert events[-1] == Progressed(total, total)


def test_characters_are_recorded_of_every_form(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpora = {
        "books": write_corpus(tmp_path / "c", {"a.txt": "naïve 😀", "b.txt": "日本語"}),
        "others": write_corpus(tmp_path / "d", {"h.txt": "held out"}),
    }
    for validation, expected in (
        ("none", (10, None)),
        ({"files": ("b.txt",)}, (7, 3)),
        ({"corpus": "others"}, (10, 8)),
    ):
        made = tokenize(tmp_path, trained_tokenizer, corpora, validation=validation)
        held = made.validation.num_chars if made.validation else None
        assert ((made.train.num_chars, held), made.shares) == (expected, None)


def test_a_record_of_an_earlier_release_knows_no_shares(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    corpora = {"books": write_corpus(tmp_path / "c", {"a.txt": prose()[:5000]})}
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation={"fraction": 0.1})
    fields = made.model_dump(exclude={"shares": True, "train": {"num_chars"}})
    earlier = TokenizedDataset.model_validate(fields)
    assert (earlier.shares, earlier.train.num_chars) == (None, None)
    assert "characters" not in earlier.summary()


def test_the_plan_states_the_mode_where_it_is_sure(tmp_path: Path) -> None:
    stage = make(tmp_path, validation={"fraction": 0.1})
    one = write_corpus(tmp_path / "a", {"a.txt": "x"})
    two = write_corpus(tmp_path / "b", {"a.txt": "x", "b.txt": "y"})
    lines = write_corpus(tmp_path / "c", {"a.jsonl": json_lines("x")})
    (note,) = forecast_of(stage, books=one).notes
    assert (
        note
        == "the corpus is one document, so its end is used for validation: 0.1 of the characters"
    )
    for corpus in (two, lines, None):
        assert forecast_of(stage, books=corpus).notes == ()
    assert forecast_of(make(tmp_path), books=one).notes == ()


def test_a_user_sees_the_shares(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(prose(), encoding="utf-8")
    (tmp_path / "experiment.yaml").write_text(
        "continuum: 1\nname: toy\nstages:\n"
        "  book: {kind: fetch, sources: [{path: book.txt}]}\n"
        "  tokenizer: {kind: train_tokenizer, corpus: book, vocab_size: 300}\n"
        "  tokens: {kind: tokenize, corpus: book, tokenizer: tokenizer, "
        "validation: {fraction: 0.1}}\n",
        encoding="utf-8",
    )
    reported = cli("run", tmp_path)
    assert "tokens: the end of each document is used for validation" in reported.stderr
    assert "of characters" in " ".join(cli("status", tmp_path).stdout.split())
    record = json.loads(only(tmp_path, "runs/tokens-*/artifact.json").read_text(encoding="utf-8"))
    shares = record["artifact"]["shares"]
    assert (shares["asked"], shares["mode"], shares["documents"]) == (0.1, "ends", 0.5)
    assert shares["characters"] == pytest.approx(0.1, abs=0.0125)
