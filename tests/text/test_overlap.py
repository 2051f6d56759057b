"""Documents on both sides of a dataset are counted and named, however they are named or split."""

from pathlib import Path

import numpy as np

from continuum.runs.artifacts import TokenizedDataset
from continuum.runs.events import Event
from continuum.runs.text_records import LeakedDocument, Overlap
from continuum.text.chunks import SplitName, TextChunk
from continuum.text.documents import TRAIN, DocumentLog, Listed, count_repeats, find_overlap
from continuum.text.inspection import inspect_tokenizer
from continuum.text.reading import read_documents
from tests.support import run_stage, warnings_in
from tests.text.samples import json_lines, prose, write_corpus
from tests.text.tokenizations import make, tokenize

SPLITS: tuple[SplitName, ...] = ("train", "validation")


def leaked(validation: str, training: str) -> LeakedDocument:
    return LeakedDocument(validation=validation, training=training)


def test_copies_under_other_names_are_found(trained_tokenizer: Path, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.txt": "one text", "b.txt": "another", "copy.md": "one text"}
    corpora = {"books": write_corpus(tmp_path / "c", files)}
    validation = {"files": ("copy.md",)}
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation=validation)
    assert made.overlap == Overlap(num_documents=1, examples=(leaked("copy.md", "a.txt"),))
    assert "(1 of its documents are also training documents)" in made.summary()


def test_a_line_of_another_corpus_is_compared_with_a_file(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    corpora = {
        "books": write_corpus(tmp_path / "c", {"a.txt": "one text", "b.txt": "two"}),
        "held": write_corpus(tmp_path / "d", {"h.jsonl": json_lines(["new", "one text", "two"])}),
    }
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation={"corpus": "held"})
    examples = (leaked("h.jsonl, document 2", "a.txt"), leaked("h.jsonl, document 3", "b.txt"))
    assert made.overlap == Overlap(num_documents=2, examples=examples)


def test_a_fraction_puts_no_equal_documents_on_both_sides(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    texts = [f"text {number % 40}" for number in range(200)]
    files: dict[str, str | bytes] = {f"{n}.txt": text for n, text in enumerate(texts[:40])}
    corpora = {"books": write_corpus(tmp_path / "c", {"a.jsonl": json_lines(texts), **files})}
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation={"fraction": 0.5})
    assert made.overlap == Overlap(num_documents=0)
    assert made.validation is not None
    assert (made.train.num_documents, made.validation.num_documents) == (120, 120)


def test_a_text_whose_end_is_a_training_document_is_found(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    beginning, end = "First words. " * 140 + "\n\n", "Last words. " * 17
    files: dict[str, str | bytes] = {"a.txt": beginning + end, "b.jsonl": json_lines([end])}
    corpora = {"books": write_corpus(tmp_path / "c", files)}
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation={"fraction": 0.1})
    assert made.overlap == Overlap(
        num_documents=1, examples=(leaked("a.txt", "b.jsonl, document 1"),)
    )


def test_copies_of_a_divided_text_are_no_leak(trained_tokenizer: Path, tmp_path: Path) -> None:
    text = prose()[:20_000]
    corpora = {"books": write_corpus(tmp_path / "c", {"a.txt": text, "b.txt": text})}
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation={"fraction": 0.05})
    assert made.overlap == Overlap(num_documents=0)


def test_without_validation_there_is_no_warning(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpora = {"books": write_corpus(tmp_path / "c", {"a.txt": "one", "b.txt": "one"})}
    assert tokenize(tmp_path, trained_tokenizer, corpora).overlap is None


def test_a_leak_is_a_warning_of_the_run(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "one", "b.txt": "one"})
    events: list[Event] = []
    made = run_stage(
        make(tmp_path, validation={"files": ("b.txt",)}),
        tmp_path,
        inputs={"books": corpus, "tokenizer": inspect_tokenizer(trained_tokenizer)},
        events=events,
    )
    assert isinstance(made, TokenizedDataset)
    (reported,) = [reported for reported in warnings_in(events) if "word for word" in reported]
    assert reported.startswith("1 of 1 validation documents are training documents too")
    assert "b.txt (in training: a.txt)" in reported


def test_a_record_of_an_earlier_release_says_nothing_of_leaks(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    corpora = {"books": write_corpus(tmp_path / "c", {"a.txt": "one", "b.txt": "two"})}
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation={"files": ("b.txt",)})
    fields = made.model_dump(exclude={"overlap"})
    assert TokenizedDataset.model_validate(fields).leaks() is None


def test_documents_of_two_datasets_are_compared(trained_tokenizer: Path, tmp_path: Path) -> None:
    text = prose()[:20_000]
    lines = json_lines(["new", "both", "divided", ""])
    held = {
        "books": write_corpus(tmp_path / "c", {"a.txt": "own", "d.txt": text}),
        "held": write_corpus(tmp_path / "d", {"h.jsonl": lines, "h.txt": "twice"}),
    }
    trained = {"books": write_corpus(tmp_path / "e", {"t.jsonl": json_lines(["x", text, "both"])})}
    lists = []
    for number, (corpora, validation) in enumerate(
        ((held, {"corpus": "held"}), (trained, "none"), (held, {"fraction": 0.05}))
    ):
        folder = tmp_path / f"made{number}"
        made = tokenize(folder, trained_tokenizer, corpora, validation=validation)
        used = list(corpora.values())[: 2 if number == 0 else 1]
        lists.append(Listed(made.documents_dir, [it for corpus in used for it in corpus.items]))
    reported = find_overlap(lists[1], lists[0])
    examples = (leaked("h.jsonl, document 2", "t.jsonl, document 3"),)
    assert reported == Overlap(num_documents=1, examples=examples)
    examples = (leaked("d.txt", "t.jsonl, document 2"),)  # its end validates, all of it trains
    assert find_overlap(lists[1], lists[2]) == Overlap(num_documents=1, examples=examples)
    assert find_overlap(lists[0], lists[1]) == Overlap(num_documents=0)
    nameless = find_overlap(Listed(lists[1].folder, ()), lists[0])
    assert nameless.examples[0].training == "document 3 of text 1"


def test_a_list_of_documents_does_not_hang_on_names_or_on_the_size_of_its_slices(
    tmp_path: Path,
) -> None:
    made = []
    for name, slice_rows in (("a.jsonl", 100), ("b.jsonl", 3)):
        texts = json_lines([f"text {n % 9}" for n in range(20)])
        corpora = {
            "train": write_corpus(tmp_path / name / "c", {name: texts}),
            "validation": write_corpus(tmp_path / name / "d", {name: texts[: len(texts) // 2]}),
        }
        items = [item for corpus in corpora.values() for item in corpus.items]
        with DocumentLog(tmp_path / name, SPLITS, items, slice_rows) as log:
            for split in SPLITS:
                for number, document in enumerate(read_documents(corpora[split])):
                    log.add(TextChunk("".join(document.fragments), document, split=split))
                    log.end_document(split, number + 1)
        made.append(Listed(tmp_path / name / "documents", items, slice_rows))
        assert find_overlap(made[-1], made[-1]).num_documents == 10
        assert count_repeats(made[-1], "train") == 20 - 9
        assert count_repeats(made[-1], "validation") == 10 - 9
    rows = [np.fromfile(it.folder / "train.rows", dtype=TRAIN) for it in made]
    assert sorted(rows[0].tolist()) == sorted(rows[1].tolist())
    assert rows[0].tolist() != rows[1].tolist()
    held = [(it.folder / "validation.rows").read_bytes() for it in made]
    assert held[0] == held[1]
