"""Tokenize stages: their splits, tokens and marks, what the plan knows, and their memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from litgpt.data import LitData
from litgpt.tokenizer import Tokenizer as LitgptTokenizer
from pydantic import ValidationError
from tokenizers import Tokenizer

from continuum.errors import ContinuumError, PreflightError
from continuum.runs.events import Event, Progressed
from continuum.runs.files import hash_tree
from continuum.stages.tokenize import Tokenize
from continuum.text.inspection import inspect_tokenizer
from tests.experiments import small_flow
from tests.in_process import plan_folder
from tests.support import make_stage, run_stage, warnings_in
from tests.text.samples import json_lines, messy_text, prose, write_corpus
from tests.text.tokenizations import encode_whole, forecast_of, make, read_back, tokenize


def test_documents_get_special_tokens_and_are_packed(
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


def test_a_special_token_in_the_text_is_not_repeated(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
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
        (("a.txt", "z*"), "'z[*]' matches no source; the corpus has a.txt, b.txt"),
        (("*",), "must not match the entire corpus"),
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
    with pytest.raises(PreflightError, match=r"of 6 characters .* documents? .* or add text"):
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
    assert "1 chunk of more than" in warning


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ("none", {"train": 1000}),
        ({"fraction": 0.1}, {"train": 1000, "validation": 1000}),
        ({"files": ("a.txt",)}, {"train": 1000, "validation": 1000}),
        ({"corpus": "others"}, {"train": 1000, "validation": 70}),
    ],
    ids=["none", "fraction", "files", "corpus"],
)
def test_before_it_exists_a_corpus_bounds_the_tokens(
    tmp_path: Path, validation: Any, expected: dict[str, int]
) -> None:
    stage = make(tmp_path, validation=validation)
    assert forecast_of(stage, books=1000, others=70).max_tokens == expected
    assert forecast_of(stage, books=None, others=None).max_tokens == {}


def test_a_corpus_that_exists_bounds_each_split(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": "x" * 100, "b.txt": "y" * 50})
    stage = make(tmp_path, validation={"files": ("b.txt",)})
    assert forecast_of(stage, books=corpus).max_tokens == {"train": 102, "validation": 52}


def test_the_bound_holds_for_text_that_grows_or_is_compressed(tmp_path: Path) -> None:
    latin = write_corpus(tmp_path / "a", {"a.txt": "é" * 100}, encoding="latin-1")
    packed = write_corpus(tmp_path / "b", {"a.txt.gz": "x" * 10_000})
    assert forecast_of(make(tmp_path), books=latin).max_tokens["train"] >= 200
    assert forecast_of(make(tmp_path), books=packed).max_tokens == {}


@pytest.mark.parametrize(
    "validation",
    ["nothing", {}, {"share": 1}, {"fraction": 0}, {"fraction": 1}, {"files": ()}, 5, None,
     {"fraction": 0.1, "files": ("a",)}],
    ids=str,
)  # fmt: skip
def test_other_forms_of_validation_are_no_spec(tmp_path: Path, validation: Any) -> None:
    with pytest.raises(ValidationError, match="validation"):
        make(tmp_path, validation=validation)


def test_validation_is_required(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="validation"):
        make_stage(Tokenize, tmp_path, corpus="a", tokenizer="b")


def test_a_spoiled_corpus_is_an_error_the_user_can_act_on(
    trained_tokenizer: Path, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "c", {"a.txt": b"good text \xff"})
    with pytest.raises(ContinuumError, match="byte 10 is not valid utf-8"):
        tokenize(tmp_path, trained_tokenizer, {"books": corpus})


def test_the_plan_needs_no_heavy_library() -> None:
    code = (
        "import sys, continuum.stages.tokenize, continuum.stages.train_tokenizer\n"
        "print([m for m in ('torch', 'numpy', 'tokenizers', 'litdata') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("vocab_size", "is_doubted"), [(512, False), (2048, True)])
def test_a_vocabulary_beyond_the_models_is_reported_before_the_tokens_exist(
    vocab_size: int, is_doubted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(small_flow(tokenizer__vocab_size=vocab_size), encoding="utf-8")
    plan = plan_folder(tmp_path)
    reported = "dataset 'tokens' may have token ids up to 2,047, but pythia-14m has 512 embeddings"
    for stage in ("pretrain", "retrain"):  # what resumes does not repeat it
        found = plan.stages[stage].forecast.warnings
        assert any(str(warning).startswith(reported) for warning in found) == is_doubted


MEASURE = """
import re, sys
from pathlib import Path
from continuum.runs.artifacts import Corpus
from continuum.text.dataset import write_splits
from continuum.text.encoding import choose_method
from continuum.text.documents import DocumentLog
from continuum.text.loss_watch import LossWatch
from continuum.text.special_tokens import DocumentTokens
from continuum.text.reading import read_documents
from continuum.text.sampling import sample_windows
from continuum.text.splits import by_draw, draw, survey
folder, tokenizer = Path(sys.argv[1]), Path(sys.argv[2])
corpus = Corpus.model_validate_json((folder / "corpus.json").read_bytes())
names = ("train", "validation")
method = choose_method(tokenizer, tuple(it.text for it in sample_windows(corpus)))
with DocumentLog(folder, names, corpus.items) as log:
    splits = write_splits(
        by_draw(corpus, draw(survey(read_documents(corpus), 1), 0.1)),
        {name: folder / name for name in names},
        method=method,
        special=DocumentTokens(0, None),
        num_ids=3000,
        watch=LossWatch(method.tokenizer),
        log=log,
        chunk_bytes=1 << 20,  # a chunk is held in memory: let both sizes fill many
    )
peak_kb = re.search("VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]
print(splits["train"].num_tokens, int(peak_kb) // 1024)
"""


# Not `getrusage`: its peak begins with that of the process that started this one.


def measure(folder: Path, tokenizer: Path, copies: int) -> tuple[int, int]:
    """Tokens made and peak memory in MB of a fresh process."""
    corpus = write_corpus(folder, {"a.txt": (prose() + messy_text(5000)) * copies})
    (folder / "corpus.json").write_text(corpus.model_dump_json(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(tokenizer)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    num_tokens, peak_mb = map(int, done.stdout.split())
    return num_tokens, peak_mb


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(trained_tokenizer: Path, tmp_path: Path) -> None:
    small_tokens, small_mb = measure(tmp_path / "small", trained_tokenizer, copies=12)
    large_tokens, large_mb = measure(tmp_path / "large", trained_tokenizer, copies=60)
    assert large_tokens > 4 * small_tokens
    assert large_mb < small_mb + 40
