"""Tokenizers' folders: what they hold, whether they work, and what is unusual there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from litgpt.tokenizer import Tokenizer as LitgptTokenizer
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from continuum.errors import PreflightError
from continuum.experiment.forecast import Forecast
from continuum.experiment.stage import PlanInput
from continuum.runs.artifacts import TokenizerFiles
from continuum.runs.events import Event
from continuum.runs.files import sha256_file
from continuum.stages.import_ import Import
from continuum.stages.tokenize import Tokenize
from continuum.text.inspection import check_tokenizer, inspect_tokenizer
from continuum.text.special_tokens import is_chat_marker, policy_warnings
from tests.support import make_stage, run_stage, warnings_in
from tests.text.made_tokenizers import ALTERED, save
from tests.text.samples import write_corpus


@pytest.fixture
def copy(trained_tokenizer: Path, tmp_path: Path) -> Path:
    """A copy of the trained tokenizer, to spoil."""
    return Path(shutil.copytree(trained_tokenizer, tmp_path / "tok"))


def test_a_tokenizer_is_described_like_litgpt_sees_it(tokenizer_folder: Path) -> None:
    found = inspect_tokenizer(tokenizer_folder, repo="some/repo", commit="abc")
    theirs = LitgptTokenizer(tokenizer_folder)
    assert (found.bos_id, found.eos_id) == (theirs.bos_id, theirs.eos_id)
    assert found.path == tokenizer_folder
    assert found.vocabulary_digest == sha256_file(tokenizer_folder / "tokenizer.json")
    assert (found.repo, found.commit) == ("some/repo", "abc")


def test_added_tokens_count_among_the_ids(copy: Path) -> None:
    before = inspect_tokenizer(copy).num_ids
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|user|>", "<|model|>"])
    tokenizer.save(str(copy / "tokenizer.json"))
    assert inspect_tokenizer(copy).num_ids == before + 2


def test_token_texts_may_be_objects(copy: Path) -> None:
    token = {"content": "<|endoftext|>", "lstrip": False}
    write(copy, "tokenizer_config", tokenizer_class="X", bos_token=token, eos_token=None)
    found = inspect_tokenizer(copy)
    assert (found.bos_id, found.eos_id) == (0, None)


def test_the_generation_config_gives_what_the_tokenizer_config_does_not(copy: Path) -> None:
    write(copy, "tokenizer_config", tokenizer_class="X", bos_token="<|endoftext|>")
    write(copy, "generation_config", bos_token_id=5, eos_token_id=[7, 8])
    found = inspect_tokenizer(copy)
    assert (found.bos_id, found.eos_id) == (0, 7)


def test_a_generation_config_that_is_not_needed_may_be_broken(copy: Path) -> None:
    (copy / "generation_config.json").write_text('{"eos_token_id": 1,}', encoding="utf-8")
    assert inspect_tokenizer(copy).eos_id == 0


def test_a_tokenizer_without_a_config_has_no_special_tokens(copy: Path) -> None:
    (copy / "tokenizer_config.json").unlink()
    found = inspect_tokenizer(copy)
    assert (found.bos_id, found.eos_id) == (None, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", "{", "invalid JSON"),
        ("tokenizer_config.json", "[]", "not a JSON object"),
        ("tokenizer_config.json", "{}", '"tokenizer_class" is missing'),
        (
            "tokenizer_config.json",
            '{"tokenizer_class": "X", "bos_token": "<s>"}',
            "bos_token is '<s>', which is not in tokenizer.json",
        ),
        (
            "generation_config.json",
            '{"eos_token_id": 999999}',
            "EOS token's id 999999 is outside the vocabulary",
        ),
    ],
)
def test_broken_folders_are_explained(copy: Path, name: str, content: str, message: str) -> None:
    if name == "generation_config.json":
        write(copy, "tokenizer_config", tokenizer_class="X")
    (copy / name).write_text(content, encoding="utf-8")
    with pytest.raises(PreflightError, match=message):
        inspect_tokenizer(copy)


ABLE = {"honest-bytes", "lossy-strip", "lossy-compatibility", "lossy-byte"}
"""Those that give back the text of the check."""


def test_working_tokenizers_pass_the_check(tokenizer_folder: Path) -> None:
    assert check_tokenizer(tokenizer_folder) == ()


@pytest.mark.parametrize(
    "name",
    sorted(set(ALTERED) - {"honest-bytes", "lossy-strip", "lossy-compatibility", "lossy-byte"}),
)
def test_a_tokenizer_that_does_not_give_every_text_back_is_usable_with_a_warning(
    name: str, tmp_path: Path
) -> None:
    (remark,) = check_tokenizer(save(ALTERED[name](), tmp_path))
    assert "it is lossy: of 183" in remark


def test_a_tokenizer_of_known_words_alone_is_usable_with_a_warning(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"the": 0, "whale": 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (remark,) = check_tokenizer(save(tokenizer, tmp_path))
    assert "fails on words outside its vocabulary" in remark


def test_a_tokenizer_that_makes_no_token_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE({"ab": 0}, []))
    with pytest.raises(PreflightError, match="produces no tokens for any text"):
        check_tokenizer(save(tokenizer, tmp_path))


END = "<|endoftext|>"


@pytest.fixture
def folder(trained_tokenizer: Path, tmp_path: Path) -> Path:
    """A copy of the trained tokenizer without its config; `<s>` is one of its tokens."""
    copy = Path(shutil.copytree(trained_tokenizer, tmp_path / "tok"))
    add(copy, "<s>")
    (copy / "tokenizer_config.json").unlink()
    return copy


def add(folder: Path, *tokens: str) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    tokenizer.save(str(folder / "tokenizer.json"))


def write(folder: Path, name: str, **fields: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(fields), encoding="utf-8")


def config(folder: Path, **fields: Any) -> TokenizerFiles:
    write(folder, "tokenizer_config", **{"tokenizer_class": "PreTrainedTokenizerFast", **fields})
    return inspect_tokenizer(folder, source="models/tok")


def test_ordinary_files_are_nothing_to_remark_on(folder: Path) -> None:
    found = config(folder, bos_token="<s>", eos_token={"content": END, "lstrip": False})
    assert (found.bos_token, found.eos_token, found.adds_bos) == ("<s>", END, False)
    assert found.warnings == policy_warnings(found, "both") == ()


@pytest.mark.parametrize("token", ["<s>", {"content": "<s>", "__type": "AddedToken"}])
def test_a_bos_of_the_special_tokens_map_counts(token: Any, folder: Path) -> None:
    write(folder, "special_tokens_map", bos_token=token, eos_token=END)
    found = config(folder, eos_token=END)
    assert (found.bos_token, found.eos_token) == ("<s>", END)
    (warning,) = map(str, found.warnings)
    assert warning.startswith("models/tok: the BOS <s> is only in special_tokens_map.json")


def test_transformers_does_not_read_the_map_beside_added_tokens_decoder(folder: Path) -> None:
    write(folder, "special_tokens_map", bos_token="<s>")
    decoder = {"0": {"content": END, "special": True}}
    found = config(folder, eos_token=END, added_tokens_decoder=decoder)
    assert found.bos_id is None
    (warning,) = map(str, found.warnings)
    assert "BOS <s> is only in special_tokens_map.json and is ignored" in warning


def test_two_files_that_disagree_are_named(folder: Path) -> None:
    write(folder, "special_tokens_map", bos_token=END)
    found = config(folder, bos_token="<s>", eos_token=END)
    assert found.bos_token == "<s>"
    assert "bos_token is <s> in tokenizer_config.json (used)" in found.warnings[0]


def test_an_empty_bos_is_none(folder: Path) -> None:
    write(folder, "generation_config", bos_token_id=0)
    found = config(folder, bos_token="", eos_token=END)
    assert (found.bos_id, found.bos_token) == (None, None)
    assert "bos_token is empty in tokenizer_config.json" in found.warnings[0]


def test_ids_of_the_generation_config_have_texts(folder: Path) -> None:
    write(folder, "generation_config", bos_token_id=0, eos_token_id=[0, 1])
    found = config(folder, bos_token=None)
    assert (found.bos_token, found.eos_token, found.warnings) == (END, END, ())


@pytest.mark.parametrize("file", ["tokenizer_config", "added_tokens"])
def test_tokens_that_only_transformers_adds_are_named(file: str, folder: Path) -> None:
    added = {"<|im_start|>": 3001, "<|im_end|>": 3002, "<s>": 3000}
    decoder = {str(number): {"content": text} for text, number in added.items()}
    if file == "added_tokens":
        write(folder, "added_tokens", **added)
    fields = {"added_tokens_decoder": decoder} if file == "tokenizer_config" else {}
    (warning,) = map(str, config(folder, eos_token=END, **fields).warnings)
    assert f"{file}.json adds 2 tokens missing from tokenizer.json (<|im_start|>, <|im_end|>)" in (
        warning
    )
    assert "T.from_pretrained('models/tok')" in warning
    with pytest.raises(PreflightError, match=rf"'<\|im_end\|>', which is in {file}.json but not"):
        config(folder, eos_token="<|im_end|>", **fields)


@pytest.mark.parametrize("value", [5, ["<s>"], {"content": 3}])
def test_a_token_must_be_a_string(value: Any, folder: Path) -> None:
    with pytest.raises(PreflightError, match="must be a string"):
        config(folder, bos_token=value)


def test_add_bos_token_is_read(folder: Path) -> None:
    found = config(folder, bos_token="<s>", eos_token=END, add_bos_token=True)
    assert found.adds_bos
    assert policy_warnings(found, "both") == ()
    (warning,) = policy_warnings(found, "eos")
    assert "it adds <s> to the start of every text" in warning
    found = config(folder, eos_token=END, add_bos_token=True)
    assert not found.adds_bos
    assert "add_bos_token is true in tokenizer_config.json but there is no BOS" in found.warnings[0]


def test_a_tokenizer_json_that_adds_the_bos_is_known(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    bos_id = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bos_id)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    assert config(folder, bos_token="<s>", eos_token=END).adds_bos
    assert not config(folder, bos_token="<s>", eos_token=END, add_bos_token=False).adds_bos


CHAT = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "[INST]", "[/INST]", "<|user|>"]
CHAT += ["<|assistant|>", "<start_of_turn>", "<|eot_id|>", "<|start_of_role|>", "<<SYS>>"]
CHAT += ["<｜User｜>", "<|im_user|>", "<|end_of_turn|>", "<|USER_TOKEN|>"]  # noqa: RUF001


@pytest.mark.parametrize("token", CHAT)
def test_markers_of_chats_are_known(token: str) -> None:
    assert is_chat_marker(token)


OTHERS = ["<s>", "</s>", END, "<bos>", "<|begin_of_text|>", "[CLS]", "<|startoftext|>", "inst"]
OTHERS += ["<|im_patch|>", "<｜begin▁of▁sentence｜>", "<|end_of_text|>", "<unk>", "user"]  # noqa: RUF001


@pytest.mark.parametrize("token", OTHERS)
def test_other_tokens_are_not_chat_markers(token: str) -> None:
    assert not is_chat_marker(token)


@pytest.mark.parametrize(
    ("policy", "words"),
    [("bos", ["BOS"]), ("eos", ["EOS"]), ("both", ["BOS", "EOS"]), ("none", [])],
)
def test_documents_that_begin_a_chat_are_a_warning(
    policy: Any, words: list[str], folder: Path
) -> None:
    add(folder, "<|im_start|>", "<|im_end|>")
    found = config(folder, bos_token="<|im_start|>", eos_token="<|im_end|>")
    warnings = policy_warnings(found, policy)
    assert len(warnings) == len(words)
    for warning, word in zip(warnings, words, strict=True):
        assert warning.startswith(f"models/tok: its {word} is <|im_")


def test_the_plan_and_the_run_of_tokenize_say_so(folder: Path, tmp_path: Path) -> None:
    add(folder, "<|im_start|>", "<|im_end|>")
    write(folder, "special_tokens_map", bos_token="<|im_start|>")
    found = config(folder, eos_token=END)
    corpus = write_corpus(tmp_path / "c", {"a.txt": "one"})
    fields = {"corpus": "books", "tokenizer": "tok", "validation": "none"}
    stage = make_stage(Tokenize, tmp_path, **fields)
    inputs = {
        name: PlanInput(stage, Forecast(), artifact)
        for name, artifact in {"books": corpus, "tok": found}.items()
    }
    planned = stage.forecast(inputs, tmp_path).warnings
    assert [str(words).split(" <|im_start|>")[0] for words in planned] == [
        "models/tok: the BOS",
        "models/tok: its BOS is",
    ]
    events: list[Event] = []
    run_stage(stage, tmp_path, inputs={"books": corpus, "tok": found}, events=events)
    said = warnings_in(events)
    assert said[:2] == list(map(str, planned))
    assert all("output:" not in message for message in said)


def test_no_eos_at_all_is_a_warning(folder: Path) -> None:
    (warning,) = policy_warnings(config(folder, bos_token="<s>"), "bos")
    assert "it has no EOS token" in warning


def test_an_import_keeps_the_files_and_reports_what_is_unusual(folder: Path) -> None:
    write(folder, "special_tokens_map", bos_token="<s>")
    write(folder, "added_tokens", **{"<s>": 3000})
    config(folder, eos_token=END)
    stage = make_stage(Import, folder.parent, path="tok", **{"as": "tokenizer"})
    events: list[Event] = []
    made = run_stage(stage, folder.parent, events=events)
    assert isinstance(made, TokenizerFiles)
    assert made.label == "tok"
    assert {"special_tokens_map.json", "added_tokens.json"} <= {file.path for file in made.files}
    warnings = warnings_in(events)
    assert warnings == list(made.warnings)
    assert warnings[0].startswith("tok: the BOS <s> is only in special_tokens_map.json")
