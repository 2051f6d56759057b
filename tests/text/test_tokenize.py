import json
import os
from pathlib import Path

import pytest
from litgpt.data import LitData
from litgpt.tokenizer import Tokenizer as LitgptTokenizer
from tokenizers import Tokenizer

from continuum.errors import PreflightError
from continuum.events import Event, Progressed
from continuum.files import hash_tree
from continuum.text.inspection import inspect_tokenizer
from tests.support import run_stage, warnings_in
from tests.text.samples import json_lines, messy_text, prose, write_corpus
from tests.text.tokenizations import encode_whole, forecast_of, make, read_back, tokenize

pytestmark = [
    pytest.mark.filterwarnings("ignore:The given buffer is not writable"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true"),
]


def test_documents_are_marked_and_packed_one_after_another(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    texts = [prose()[:20_000], messy_text(500), "x"]
    corpus = write_corpus(tmp_path / "c", {"a.md": texts[0], "b.jsonl.zst": json_lines(texts[1:])})
    made = tokenize(tmp_path, tokenizer_folder, {"books": corpus})
    ids = [encode_whole(tokenizer_folder, text) for text in texts]
    assert read_back(made) == [0, *ids[0], 0, *ids[1], 0, *ids[2]]
    assert (made.train.num_documents, made.validation) == (3, None)
    assert made.train.num_tokens == len(read_back(made))
    assert (made.backend, made.dtype, made.document) == ("gigatoken", "uint16", "bos")
    assert not (made.path / "validation").exists()


@pytest.mark.parametrize(
    ("policy", "before", "after"),
    [("bos", [1], []), ("eos", [], [2]), ("both", [1], [2]), ("none", [], [])],
)
def test_the_document_policy_is_carried_out(
    trained_tokenizer: Path, tmp_path: Path, policy: str, before: list[int], after: list[int]
) -> None:
    folder = marked_tokenizer(trained_tokenizer, tmp_path / "tok", bos_token="!", eos_token='"')
    corpus = write_corpus(tmp_path / "c", {"a.jsonl": json_lines(["one", "", "two"])})
    made = tokenize(tmp_path, folder, {"books": corpus}, document=policy)
    one, two = encode_whole(folder, "one"), encode_whole(folder, "two")
    assert read_back(made) == [*before, *one, *after, *before, *two, *after]
    assert made.train.num_documents == 2


def marked_tokenizer(source: Path, folder: Path, **tokens: str) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_mark_that_the_text_bears_is_not_doubled(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "<|endoftext|>one<|endoftext|>"})
    made = tokenize(tmp_path, trained_tokenizer, {"books": corpus}, document="both")
    assert read_back(made) == [0, *encode_whole(trained_tokenizer, "one"), 0]


def test_a_policy_that_the_tokenizer_cannot_serve_is_refused(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    folder = marked_tokenizer(trained_tokenizer, tmp_path / "tok", eos_token="!")
    corpus = write_corpus(tmp_path / "c", {"a.txt": "one"})
    with pytest.raises(PreflightError, match=r"BOS token, .* use document: eos or none"):
        tokenize(tmp_path, folder, {"books": corpus})
    forecast = forecast_of(make(tmp_path), books=corpus, tokenizer=inspect_tokenizer(folder))
    assert "BOS token" in str(forecast.problems[0])


def test_one_file_gives_training_and_validation_text(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": prose()})
    made = tokenize(tmp_path, tokenizer_folder, {"books": corpus}, validation={"fraction": 0.05})
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    train, validation = (
        tokenizer.decode(read_back(made, split)[1:]) for split in ("train", "validation")
    )
    assert train + validation == prose()
    assert 0.04 < len(validation) / len(prose()) < 0.06


def test_named_files_validate(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "one", "b.txt": "two", "c.md": "three"})
    made = tokenize(
        tmp_path, trained_tokenizer, {"books": corpus}, validation={"files": ("b.txt", "*.md")}
    )
    assert read_back(made)[1:] == encode_whole(trained_tokenizer, "one")
    assert made.validation is not None
    assert made.validation.num_documents == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("a.txt", "z*"), "'z[*]' matches nothing; the corpus has a.txt, b.txt"),
        (("*",), "is named"),
    ],
)
def test_names_of_no_file_or_of_all_are_refused(
    trained_tokenizer: Path, tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "one", "b.txt": "two"})
    with pytest.raises(PreflightError, match=message):
        tokenize(tmp_path, trained_tokenizer, {"books": corpus}, validation={"files": files})
    (problem,) = map(
        str, forecast_of(make(tmp_path, validation={"files": files}), books=corpus).problems
    )
    assert problem.startswith("validation.files: ")


def test_another_corpus_validates(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpora = {
        name: write_corpus(tmp_path / name, {"a.txt": f"text of {name}"})
        for name in ("books", "others")
    }
    made = tokenize(tmp_path, trained_tokenizer, corpora, validation={"corpus": "others"})
    assert read_back(made)[1:] == encode_whole(trained_tokenizer, "text of books")
    assert read_back(made, "validation")[1:] == encode_whole(trained_tokenizer, "text of others")


def test_the_training_corpus_may_not_validate(tmp_path: Path) -> None:
    (problem,) = make(tmp_path, validation={"corpus": "books"}).problems({})
    assert problem.path == ("validation", "corpus")


@pytest.mark.parametrize("fraction", [0.0001, 0.9999], ids=["tiny", "huge"])
def test_a_fraction_that_leaves_a_split_empty_is_refused(
    trained_tokenizer: Path, tmp_path: Path, fraction: float
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.jsonl": json_lines(["one", "two"])})
    with pytest.raises(PreflightError, match=r"of 6 characters .* document\(s\) .* or add text"):
        tokenize(tmp_path, trained_tokenizer, {"books": corpus}, validation={"fraction": fraction})


def test_an_empty_corpus_is_refused(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": ""})
    for validation in ("none", {"fraction": 0.1}):
        with pytest.raises(PreflightError, match="the train split is empty"):
            tokenize(tmp_path, trained_tokenizer, {"books": corpus}, validation=validation)


def test_equal_inputs_make_equal_bytes(tokenizer_folder: Path, tmp_path: Path) -> None:
    texts = [messy_text(300, seed) for seed in range(50)]
    files: dict[str, str | bytes] = {"a.jsonl.gz": json_lines(texts), "b.txt": prose()[:20_000]}
    corpus = write_corpus(tmp_path / "c", files)
    first, again, other = (
        tokenize(
            tmp_path,
            tokenizer_folder,
            {"books": corpus},
            split=split,
            validation={"fraction": 0.2},
        )
        for split in (1, 1, 2)
    )
    assert first.digest == again.digest != other.digest


def test_the_number_of_processors_changes_no_byte(tokenizer_folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": prose(), "b.txt": messy_text(100_000)})
    everywhere = os.sched_getaffinity(0)
    made = [tokenize(tmp_path, tokenizer_folder, {"books": corpus})]
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        made.append(tokenize(tmp_path, tokenizer_folder, {"books": corpus}))
    finally:
        os.sched_setaffinity(0, everywhere)
    assert made[0].digest == made[1].digest


def test_latin_1_text_gives_the_tokens_of_its_characters(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "Straße, café\r\n" * 50}, encoding="latin-1")
    made = tokenize(tmp_path, trained_tokenizer, {"books": corpus}, document="none")
    assert read_back(made) == encode_whole(trained_tokenizer, "Straße, café\r\n" * 50)


def test_litgpt_loads_the_dataset_and_its_tokenizer(tokenizer_folder: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": prose()})
    made = tokenize(tmp_path, tokenizer_folder, {"books": corpus}, validation={"fraction": 0.1})
    data = LitData(made.path, split_names=("train", "validation"), num_workers=0)
    data.connect(batch_size=1, max_seq_length=63)
    first = next(iter(data.val_dataloader()))[0].long()
    text = LitgptTokenizer(made.path / "tokenizer").decode(first[1:])
    assert text in prose()
    assert hash_tree(made.path / "tokenizer")[0] == hash_tree(tokenizer_folder)[0]


def test_progress_counts_the_corpus(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": prose(), "b.txt": prose()})
    events: list[Event] = []
    inputs = {"books": corpus, "tokenizer": inspect_tokenizer(trained_tokenizer)}
    run_stage(make(tmp_path), tmp_path, inputs=inputs, events=events)
    done = [event.done for event in events if isinstance(event, Progressed)]
    assert done == sorted(done)
    assert done[-1] == corpus.size_bytes


def test_text_without_a_place_to_cut_is_a_warning(trained_tokenizer: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "=" * 1_500_000})
    events: list[Event] = []
    inputs = {"books": corpus, "tokenizer": inspect_tokenizer(trained_tokenizer)}
    run_stage(make(tmp_path), tmp_path, inputs=inputs, events=events)
    (warning,) = warnings_in(events)
    assert "1 time(s), was tokenized in one piece" in warning
