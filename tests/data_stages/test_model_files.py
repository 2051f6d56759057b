"""The files of tokenizers and weights are looked at before a loader is."""

import gzip
import io
import json
import os
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_safetensors

from continuum.errors import PreflightError
from continuum.sources.model_files import check_model_files
from continuum.stages.download import Download
from continuum.stages.import_ import Import
from tests.servers.hub import HubServer
from tests.support import make_stage, run_stage

LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 99\n".encode()
PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>\n"
REFUSED = b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>'


def saved(*, as_zip: bool = True) -> bytes:
    packed = io.BytesIO()
    state = {"a": torch.ones(9)}
    torch.save(state, packed, _use_new_zipfile_serialization=as_zip)
    return packed.getvalue()


TENSORS = save_safetensors({"a": torch.ones(9)}, metadata={"format": "pt"})
EVERY = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "lit_model.pth",
    "model_config.yaml",
    "config.json",
    "model.safetensors",
    "pytorch_model.bin",
)


def check(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    check_model_files([folder / name])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LFS, "a Git-LFS pointer, not the file itself; .*`git lfs pull`"),
        (PAGE, "an HTML page, such as a login"),
        (REFUSED, "a storage server's error message"),
        (b"", "the file is empty; download the file again"),
        (gzip.compress(b"{}"), "gzip data|not a "),
    ],
    ids=["lfs", "page", "refused", "empty", "gzip"],
)
def test_a_placeholder_of_a_file_is_recognized(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(PreflightError, match=f"{name}: .*({message})"):
        check(tmp_path, name, data)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0, ', "truncated"),
        ("tokenizer.json", b"Entry not found", "not valid JSON: it starts with 'Entry not found'"),
        ("config.json", b'{"a": "\0"}', "binary data"),
        ("lit_model.pth", saved()[:-200], "truncated"),
        ("lit_model.pth", b"Not Found", r"not a file of torch\.save"),
        ("lit_model.pth", TENSORS, "a safetensors file"),
        ("pytorch_model.bin", saved()[:-200], "truncated"),
        ("model.safetensors", TENSORS[:-1], "truncated or corrupt"),
        ("model.safetensors", TENSORS[:20], "truncated or corrupt"),
        ("model.safetensors", TENSORS + b"\0", "truncated or corrupt"),
        ("model.safetensors", b"Not Found", "not a safetensors file"),
        ("model.safetensors", saved(), r"a file of torch\.save, not a safetensors"),
    ],
)
def test_a_file_of_another_kind_or_cut_short_is_an_error(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(PreflightError, match=f"{name}: .*{message}"):
        check(tmp_path, name, data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tokenizer.json", b'\xef\xbb\xbf{"model": {}}\n'),
        ("special_tokens_map.json", b"{}"),
        ("tokenizer.model", b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\2"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n"),
        ("model_config.yaml", "name: pythia-14m # größer\n".encode()),
        ("lit_model.pth", saved()),
        ("pytorch_model.bin", saved(as_zip=False)),
        ("model.safetensors", TENSORS),
        ("model.safetensors", struct.pack("<Q", 8) + b"{}      "),
        ("model.safetensors.index.json", json.dumps({"weight_map": {}}, indent=1).encode()),
    ],
)
def test_sound_files_pass(tmp_path: Path, name: str, data: bytes) -> None:
    check(tmp_path, name, data)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getcwd, ()


@pytest.mark.parametrize(
    "options",
    [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}],
    ids=["zip", "protocol 4", "early"],
)
def test_a_pickle_with_code_is_an_error_before_it_is_loaded(
    options: dict[str, Any], tmp_path: Path
) -> None:
    packed = io.BytesIO()
    torch.save({"a": torch.ones(9), "b": Code()}, packed, **options)
    message = r"lit_model\.pth: contains objects other than tensors \(posix\.getcwd\)"
    with pytest.raises(PreflightError, match=message):
        check(tmp_path, "lit_model.pth", packed.getvalue())


def test_a_missing_file_is_not_checked(tmp_path: Path) -> None:
    check_model_files([tmp_path / "none.json"])


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_an_import_of_a_pointer_is_refused_by_the_plan_and_by_the_run(
    tmp_path: Path, tokenizer_dir: Path, name: str
) -> None:
    shutil.copytree(tokenizer_dir, tmp_path / "tok")
    (tmp_path / "tok" / name).write_bytes(LFS)
    stage = make_stage(Import, tmp_path, path="tok", **{"as": "tokenizer"})
    (problem,) = map(str, stage.forecast({}, tmp_path).problems)
    assert re.search(rf"{name}(:| is) a Git-LFS pointer", problem)
    with pytest.raises(PreflightError, match=rf"{name}(:| is) a Git-LFS pointer"):
        run_stage(stage, tmp_path)


@pytest.mark.parametrize("name", ["lit_model.pth", "model_config.yaml"])
def test_weights_that_are_a_page_are_refused_by_the_plan(
    model: Path, tmp_path: Path, name: str
) -> None:
    (model / name).write_bytes(PAGE)
    stage = make_stage(Import, tmp_path, path="model", **{"as": "weights"})
    (problem,) = map(str, stage.forecast({}, tmp_path).problems)
    assert f"{name}: an HTML page" in problem


def test_a_pointer_in_a_repository_is_not_kept(
    hub: HubServer, tmp_path: Path, tokenizer_dir: Path
) -> None:
    repo = hub.root / "toys" / "tok"
    shutil.copytree(tokenizer_dir, repo)
    whole = (repo / "tokenizer.json").read_bytes()
    (repo / "tokenizer.json").write_bytes(LFS)
    stage = make_stage(Download, tmp_path, repo="toys/tok", files="tokenizer")
    with pytest.raises(PreflightError, match=r"toys/tok.*tokenizer\.json: a Git-LFS pointer"):
        run_stage(stage, tmp_path)
    (repo / "tokenizer.json").write_bytes(whole)
    run_stage(stage, tmp_path)
