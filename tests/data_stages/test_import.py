"""kind: import, of everything it takes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVar

import pytest
import torch
from litdata.streaming import Cache, TokensLoader
from torch.utils.data import DataLoader, TensorDataset

from continuum.errors import IntegrityError, PreflightError
from continuum.experiment.forecast import Forecast
from continuum.experiment.stage import PlanInput, Stage
from continuum.planning.plan import Action, Request
from continuum.runs.artifacts import (
    Artifact,
    Corpus,
    ModelWeights,
    TokenizedDataset,
    TokenizerFiles,
)
from continuum.stages.import_ import TYPES, Import
from continuum.text.reading import read_documents
from tests.commands import Cli
from tests.in_process import plan_folder, run_folder
from tests.support import make_stage, run_stage

ArtifactT = TypeVar("ArtifactT", bound=Artifact)


def importing(folder: Path, what: str, **fields: Any) -> Stage:
    return make_stage(Import, folder, **{"as": what, **fields})


def take(cls: type[ArtifactT], folder: Path, what: str, **fields: Any) -> ArtifactT:
    taken = run_stage(importing(folder, what, **fields), folder)
    assert isinstance(taken, cls)
    return taken


def take_weights(folder: Path, **fields: Any) -> ModelWeights:
    return take(ModelWeights, folder, "weights", path="model", **fields)


def take_corpus(folder: Path, **fields: Any) -> Corpus:
    return take(Corpus, folder, "corpus", **fields)


def take_dataset(folder: Path, tokenizer: TokenizerFiles) -> TokenizedDataset:
    stage = importing(folder, "dataset", path="data", tokenizer="tok")
    dataset = run_stage(stage, folder, inputs={"tok": tokenizer})
    assert isinstance(dataset, TokenizedDataset)
    return dataset


def refusal(folder: Path, what: str, **fields: Any) -> str:
    """Why the plan refuses it."""
    stage = importing(folder, what, **fields)
    (found,) = stage.forecast({}, folder).problems
    assert found.path == ("path",)
    assert stage.local_inputs(folder) == {} or what in ("weights", "dataset")
    return found.message


@pytest.fixture
def tokenizer(tokenizer_dir: Path, tmp_path: Path) -> TokenizerFiles:
    return take(TokenizerFiles, tmp_path, "tokenizer", path=str(tokenizer_dir))


def write_chunks(folder: Path, *, highest: int = 500, dtype: torch.dtype = torch.int32) -> None:
    cache = Cache(str(folder), item_loader=TokensLoader(block_size=9), chunk_bytes="1KB")
    for number in range(20):
        cache[number] = (torch.arange(64) * 31 % (highest + 1)).to(dtype)
    cache.done()
    cache.merge()


def test_a_tokenizer_is_checked_and_inspected(tokenizer: TokenizerFiles) -> None:
    assert (tokenizer.num_ids, tokenizer.eos_id, tokenizer.commit) == (512, 0, None)
    assert [file.path for file in tokenizer.files] == ["tokenizer.json", "tokenizer_config.json"]


CARRIED = ["chat_template.jinja", "merges.txt", "vocab.json"]


def test_all_files_of_a_tokenizer_come_along_and_identities_are_as_before(
    tokenizer_dir: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(tokenizer_dir, tmp_path / "own")
    for name in ("special_tokens_map.json", *CARRIED):
        (own / name).write_text("{}")
    stage = importing(tmp_path, "tokenizer", path="own")
    made = run_stage(stage, tmp_path)
    names = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    assert [file.path for file in made.files] == sorted([*names, *CARRIED])
    assert sorted(stage.local_inputs(tmp_path)) == names


def test_weights_come_with_their_config_and_tokenizer(
    tokenizer_dir: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tokenizer_dir, model, dirs_exist_ok=True)
    (model / "notes.txt").write_text("not part of it")
    weights = take_weights(tmp_path)
    assert weights.model_config_fields["n_embd"] == 16
    assert weights.tokenizer is not None
    assert weights.vocabulary_digest == weights.tokenizer.vocabulary_digest
    assert "notes.txt" not in {file.path for file in weights.files}


def write_both(folder: Path) -> None:
    """An experiment that imports `model` and names it as weights and as a tokenizer."""
    spec = """\
        continuum: 1
        name: both
        stages:
          own: {kind: import, path: model, as: weights}
          texts: {kind: fetch, sources: [{python: argparse.py}]}
          tokens: {kind: tokenize, corpus: texts, tokenizer: own, document: none, validation: none}
          more:
            kind: retrain
            from: own
            data: tokens
            max_steps: 1
            sequence_length: 8
            global_batch_size: 4
            optimizer: {lr: 1e-4}
            evaluate: null
        """
    (folder / "experiment.yaml").write_text(dedent(spec), encoding="utf-8")


def test_a_folder_with_weights_and_a_tokenizer_is_imported_as_both(
    tokenizer_dir: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tokenizer_dir, model, dirs_exist_ok=True)
    write_both(tmp_path)
    run_folder(tmp_path, request=Request(("stages.more=null",))).raise_for_failure()
    plan = plan_folder(tmp_path)
    assert {name: it.action for name, it in plan.stages.items() if name != "more"} == dict.fromkeys(
        ("own", "texts", "tokens"), Action.REUSE
    )
    dataset, weights = (plan.stages[it].existing.artifact for it in ("tokens", "own"))
    assert isinstance(dataset, TokenizedDataset)
    assert isinstance(weights, ModelWeights)
    assert dataset.vocabulary_digest == weights.vocabulary_digest


def test_weights_without_a_tokenizer_cannot_be_named_as_one(
    model: Path, tmp_path: Path, cli: Cli
) -> None:
    write_both(tmp_path)
    said = "'own' has no tokenizer: its folder holds none beside the weights"
    assert f":6:54: warning E402: {said}" in cli("validate", tmp_path).stderr
    assert said in cli("run", tmp_path, expect=4).stderr
    assert model.is_dir()
    assert not list(tmp_path.glob("runs/*/output"))


def write_hub_config(folder: Path, *, tied: bool) -> None:
    text = json.dumps({"model_type": "gpt_neox", "tie_word_embeddings": tied})
    (folder / "config.json").write_text(text)


def test_config_json_says_whether_weights_are_tied(model: Path, tmp_path: Path) -> None:
    write_hub_config(model, tied=True)
    planned = importing(tmp_path, "weights", path="model").forecast({}, tmp_path).architecture
    assert planned is not None
    assert planned.tied
    with pytest.raises(PreflightError, match=r"cannot tie embeddings .* differ, so"):
        take_weights(tmp_path)
    path = model / "lit_model.pth"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "lm_head.weight": state["transformer.wte.weight"]}, path)
    weights = take_weights(tmp_path)
    assert weights.is_tied
    assert "config.json" in {file.path for file in weights.files}


def test_weights_that_were_trained_apart_are_taken_when_that_is_stated(
    model: Path, tmp_path: Path
) -> None:
    write_hub_config(model, tied=True)
    weights = take_weights(tmp_path, tied=False)
    assert (weights.tied, weights.is_tied) == (False, False)


def test_weights_may_come_without_a_tokenizer(model: Path, tmp_path: Path) -> None:
    weights = take_weights(tmp_path)
    assert (weights.tokenizer, weights.vocabulary_digest) == (None, None)
    assert (weights.tokens_total, weights.has_known_total) == (0, False)
    assert weights.summary() == "unknown tokens in its ancestry"


def _in_training(state: dict[str, Any]) -> dict[str, Any]:
    return {"model": state, "step_count": 1}


def _of_another_shape(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "lm_head.weight": state["lm_head.weight"][:-1].clone()}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_in_training, r"training checkpoint.*convert"),
        (_of_another_shape, "does not match model_config"),
    ],
)
def test_weights_that_are_none_are_refused(
    edit: Callable[[dict[str, Any]], dict[str, Any]], message: str, model: Path, tmp_path: Path
) -> None:
    path = model / "lit_model.pth"
    torch.save(edit(torch.load(path, weights_only=True)), path)
    with pytest.raises(PreflightError, match=message):
        take_weights(tmp_path)


def _of_another_config(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in state.items() if ".h.0." not in name}


def _with_other_numbers(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "transformer.ln_f.bias": torch.zeros(1)}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            _in_training,
            "model/lit_model.pth is a training checkpoint (weights and optimizer state); convert "
            "it with `litgpt convert_pretrained_checkpoint model NEW`, and import NEW",
        ),
        (_of_another_config, "it has 0 layers, but pythia-14m has 1; use the model_config.yaml"),
        (
            lambda state: {**state, "transformer.wte.weight": torch.zeros(500, 16)},
            "model/lit_model.pth does not match model_config.yaml: it has an embedding of "
            "500 x 16, but pythia-14m has 512 x 16",
        ),
        (_with_other_numbers, "parameters, but pythia-14m has"),
    ],
    ids=["training", "layers", "embedding", "parameters"],
)
@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "early"])
def test_weights_of_another_model_are_known_to_the_plan(
    edit: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
    model: Path,
    tmp_path: Path,
    *,
    as_zip: bool,
) -> None:
    path = model / "lit_model.pth"
    state = edit(torch.load(path, weights_only=True))
    torch.save(state, path, _use_new_zipfile_serialization=as_zip)
    assert message in refusal(tmp_path, "weights", path="model")


def test_a_training_checkpoint_with_other_objects_is_still_called_one(
    model: Path, tmp_path: Path
) -> None:
    path = model / "lit_model.pth"
    state = torch.load(path, weights_only=True)
    torch.save({"model": state, "train_dataloader": DataLoader(TensorDataset(torch.ones(2)))}, path)
    assert "is a training checkpoint" in refusal(tmp_path, "weights", path="model")


def test_a_folder_above_the_weights_is_known_to_the_plan(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    model.rename(tmp_path / "out" / "final")
    said = refusal(tmp_path, "weights", path="out")
    assert said.endswith("name a folder below it that has one, for example out/final")
    (tmp_path / "sharded" / "shards").mkdir(parents=True)
    assert "sharded training checkpoint" in refusal(tmp_path, "weights", path="sharded")


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        ("weights", "name its folder, model"),
        ("tokenizer", "name its folder, model"),
        ("dataset", "name the folder that has `train`"),
    ],
)
def test_a_file_in_place_of_a_folder_is_known_to_the_plan(
    what: str, advice: str, model: Path, tmp_path: Path
) -> None:
    said = refusal(tmp_path, what, path="model/lit_model.pth")
    assert said == f"model/lit_model.pth is a file; {advice}"


def test_a_tokenizer_without_a_vocabulary_is_known_to_the_plan(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tokenizer_config.json").write_text("{}")
    said = refusal(tmp_path, "tokenizer", path="own")
    assert said.startswith("own: tokenizer.json (or tokenizer.model) not found: tokenizer_config")


def test_errors_of_a_run_name_the_imported_file(model: Path, tmp_path: Path) -> None:
    path = model / "lit_model.pth"
    torch.save(_in_training(torch.load(path, weights_only=True)), path)
    with pytest.raises(PreflightError, match=r"^model/lit_model\.pth is a training checkpoint"):
        take_weights(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xe9")
    with pytest.raises(PreflightError) as caught:
        take_corpus(tmp_path, path="a.txt")
    assert str(caught.value).startswith(f"{tmp_path / 'a.txt'}: byte 0 is not valid utf-8")


def test_the_plan_knows_the_architecture_of_weights(model: Path, tmp_path: Path) -> None:
    stage = importing(tmp_path, "weights", path="model")
    architecture = stage.forecast({}, tmp_path).architecture
    assert architecture is not None
    assert architecture.padded_vocab_size == 512


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_a_dataset_is_taken_with_its_tokenizer(
    validation: str, tokenizer: TokenizerFiles, tmp_path: Path
) -> None:
    write_chunks(tmp_path / "data" / "train")
    write_chunks(tmp_path / "data" / validation)
    dataset = take_dataset(tmp_path, tokenizer)
    assert (dataset.train.num_tokens, dataset.train.num_documents) == (1280, 20)
    assert dataset.validation == dataset.train
    assert (dataset.dtype, dataset.num_ids, dataset.document) == ("int32", 512, "unknown")
    assert (dataset.path / "validation" / "index.json").is_file()
    assert (dataset.path / "tokenizer" / "tokenizer.json").is_file()


def test_a_dataset_keeps_its_own_integer_type(tokenizer: TokenizerFiles, tmp_path: Path) -> None:
    write_chunks(tmp_path / "data" / "train", dtype=torch.uint16)
    dataset = take_dataset(tmp_path, tokenizer)
    assert (dataset.dtype, dataset.validation) == ("uint16", None)


def test_the_plan_knows_a_dataset_s_tokens_and_files(tmp_path: Path) -> None:
    write_chunks(tmp_path / "data" / "train")
    stage = importing(tmp_path, "dataset", path="data", tokenizer="tok")
    tokenizer = PlanInput(importing(tmp_path, "tokenizer", path="own"), Forecast(), None)
    assert stage.forecast({"tok": tokenizer}, tmp_path).max_tokens == {"train": 1280}
    names = set(stage.local_inputs(tmp_path))
    assert "train/index.json" in names
    assert "train/chunk-0-0.bin" in names


def test_ids_outside_the_tokenizer_are_refused(tokenizer: TokenizerFiles, tmp_path: Path) -> None:
    write_chunks(tmp_path / "data" / "train", highest=600)
    with pytest.raises(PreflightError, match=r"token \d+ is \d+, but the tokenizer has ids 0 to"):
        take_dataset(tmp_path, tokenizer)


def test_a_chunk_cut_short_is_an_integrity_error(tokenizer: TokenizerFiles, tmp_path: Path) -> None:
    write_chunks(tmp_path / "data" / "train")
    chunk = tmp_path / "data" / "train" / "chunk-0-0.bin"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    with pytest.raises(IntegrityError, match=r"has .* bytes, expected"):
        take_dataset(tmp_path, tokenizer)


def _without_chunk(folder: Path) -> None:
    (folder / "chunk-0-0.bin").unlink()


def _edit(**config: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = folder / "index.json"
        document = json.loads(index.read_text())
        document["config"] |= config
        index.write_text(json.dumps(document))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_chunk, "not found"),
        (
            lambda folder: (folder / "chunk-0-0.bin").write_bytes(b""),
            "data/train/chunk-0-0.bin: has 0 bytes, expected",
        ),
        (_edit(compression="zstd"), "data/train/index.json: chunks with compression are not"),
        (_edit(data_format=["jpeg"]), "unsupported data format"),
        (_edit(data_format=None), "not a valid litdata index"),
        (lambda folder: (folder / "index.json").write_text("{"), "not a valid litdata index"),
        (lambda folder: (folder / "index.json").unlink(), "one per split"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused_by_the_plan(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write_chunks(tmp_path / "data" / "train")
    damage(tmp_path / "data" / "train")
    assert message in refusal(tmp_path, "dataset", path="data", tokenizer="tok")


@pytest.mark.parametrize("path", ["texts", "texts/**/*.txt"], ids=["folder", "glob"])
def test_a_corpus_is_a_folder_or_a_glob(path: str, tmp_path: Path) -> None:
    (tmp_path / "texts" / "sub").mkdir(parents=True)
    (tmp_path / "texts" / "b.txt").write_bytes(b"b")
    (tmp_path / "texts" / "sub" / "a.txt").write_bytes(b"\xe9")
    fields = {"path": path, "encoding": "latin-1"}
    corpus = take_corpus(tmp_path, **fields)
    assert [item.source for item in corpus.items] == ["b.txt", "sub/a.txt"]
    assert importing(tmp_path, "corpus", **fields).forecast({}, tmp_path).max_text_bytes == 6


@pytest.mark.parametrize("link", [True, False])
def test_files_are_linked_only_when_asked(*, link: bool, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    corpus = take_corpus(tmp_path, path="a.txt", link=link)
    (file,) = corpus.files
    assert (corpus.path / file.path).samefile(tmp_path / "a.txt") is link


def test_linking_is_not_identity_and_neither_is_the_path(tmp_path: Path) -> None:
    one = importing(tmp_path, "weights", path="x", link=True).identity()
    assert one == importing(tmp_path, "weights", path="y").identity()
    assert one["as"] == "weights"


def test_texts_are_read_with_newlines_unless_their_ends_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\r\nb")
    corpora = [
        take_corpus(tmp_path, path="a.txt", **fields) for fields in ({}, {"newlines": "keep"})
    ]
    read = []
    for corpus in corpora:
        read += ["".join(document.fragments) for document in read_documents(corpus)]
    assert read == ["a\nb", "a\r\nb"]


def test_lines_without_a_text_are_skipped_when_asked(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"m": {"t": "a"}}\n{"m": null}\n')
    with pytest.raises(PreflightError, match=r"line 2: 'm\.t' is null"):
        take_corpus(tmp_path, path="a.jsonl", text_field="m.t")
    corpus = take_corpus(tmp_path, path="a.jsonl", text_field="m.t", missing="skip")
    assert corpus.counts is not None
    assert (corpus.counts.num_documents, corpus.counts.num_skipped) == (1, 1)


def test_only_an_import_of_texts_is_of_the_new_version(tmp_path: Path) -> None:
    versions = {what: importing(tmp_path, what, path="x").own_version for what in TYPES}
    assert versions == {"tokenizer": 1, "weights": 1, "dataset": 1, "corpus": 2}
    assert "newlines" not in importing(tmp_path, "weights", path="x").identity()


def test_a_default_that_is_stated_is_no_other_identity(tmp_path: Path) -> None:
    plain = importing(tmp_path, "corpus", path="x").identity()
    stated = importing(tmp_path, "corpus", path="x", newlines="unix", missing="error").identity()
    assert plain == stated
    assert importing(tmp_path, "corpus", path="x", newlines="keep").identity() != plain


@pytest.mark.parametrize("kind", ["tokenizer", "weights", "dataset", "corpus"])
def test_what_is_missing_is_known_to_the_plan(kind: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, kind, path="none").startswith("none")


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("weights", "own/model", "own/model: no such folder (resolved to {}/own/model)"),
        ("corpus", "own/a.txt", "own/a.txt: file not found (resolved to {}/own/a.txt)"),
    ],
)
def test_the_place_of_what_is_missing_is_named(
    kind: str, path: str, message: str, tmp_path: Path
) -> None:
    forecast = make_stage(Import, tmp_path, path=path, **{"as": kind}).forecast({}, tmp_path)
    (problem,) = map(str, forecast.problems)
    assert message.format(tmp_path) in problem


def test_an_empty_folder_is_known_to_the_plan(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refusal(tmp_path, "tokenizer", path="empty")
    assert "tokenizer.json (or tokenizer.model) not found" in said
    assert "lit_model.pth not found" in refusal(tmp_path, "weights", path="empty")


@pytest.mark.parametrize("text", ["[", "1", "n_embd: x", "unknown: 3"])
def test_a_broken_model_config_is_known_to_the_plan(text: str, model: Path, tmp_path: Path) -> None:
    (model / "model_config.yaml").write_text(text)
    assert "not a valid LitGPT model config" in refusal(tmp_path, "weights", path="model")


@pytest.mark.parametrize(
    ("what", "fields", "path"),
    [
        ("dataset", {}, "tokenizer"),
        ("weights", {"tokenizer": "tok"}, "tokenizer"),
        ("weights", {"format": "txt"}, "format"),
        ("tokenizer", {"text_field": "body"}, "text_field"),
        ("weights", {"newlines": "unix"}, "newlines"),
        ("tokenizer", {"missing": "skip"}, "missing"),
        ("corpus", {"missing": "skip", "format": "txt"}, "missing"),
        ("corpus", {"encoding": "nope"}, "encoding"),
    ],
)
def test_fields_that_do_not_go_together_are_problems(
    what: str, fields: dict[str, str], path: str, tmp_path: Path
) -> None:
    (problem,) = importing(tmp_path, what, path="x", **fields).problems({})
    assert problem.path == (path,)


def test_the_result_s_type_follows_from_as(tmp_path: Path) -> None:
    assert {what: importing(tmp_path, what, path="x").output_types() for what in TYPES} == {
        "tokenizer": (TokenizerFiles,),
        "weights": (ModelWeights, TokenizerFiles),
        "dataset": (TokenizedDataset,),
        "corpus": (Corpus,),
    }
