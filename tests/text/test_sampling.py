from pathlib import Path

from continuum.runs.artifacts import Corpus
from continuum.text.sampling import SAMPLE_BYTES, WINDOW_CHARS, sample_windows
from tests.text.samples import json_lines, write_corpus


def sample_texts(corpus: Corpus) -> tuple[str, ...]:
    return tuple(sampled.text for sampled in sample_windows(corpus))


def numbers(count: int) -> str:
    return "".join(f"{number:07d}\n" for number in range(count))


def test_a_large_file_is_sampled_from_beginning_to_end(tmp_path: Path) -> None:
    text = numbers(1_000_000)
    sample = sample_texts(write_corpus(tmp_path, {"a.txt.gz": text}))
    assert text.startswith(sample[0])
    assert text.endswith(sample[-1])
    assert len(sample) > 10
    assert SAMPLE_BYTES / 2 < sum(map(len, sample)) <= SAMPLE_BYTES


def test_a_small_file_is_sampled_once(tmp_path: Path) -> None:
    assert sample_texts(write_corpus(tmp_path, {"a.txt": "small"})) == ("small",)


def test_many_files_are_sampled_all_over(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{n:03d}.txt": f"{n} " * 5000 for n in range(500)}
    sample = sample_texts(write_corpus(tmp_path, files))
    assert len({text[:4] for text in sample}) > 30


def test_json_lines_give_their_texts(tmp_path: Path) -> None:
    texts = [f"document {number} " * 100 for number in range(5000)]
    sample = sample_texts(write_corpus(tmp_path, {"a.jsonl": json_lines(texts)}))
    assert sample[0] == texts[0]
    assert sample[-1] == texts[-1]
    assert set(sample) & set(texts)
    assert max(map(len, sample)) <= WINDOW_CHARS


def test_an_empty_corpus_has_no_sample(tmp_path: Path) -> None:
    assert sample_texts(write_corpus(tmp_path, {"a.txt": ""})) == ()
    assert sample_texts(write_corpus(tmp_path, {})) == ()
