"""kind: download, against a loopback Hub; weights with real shapes and LitGPT's own converter."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.scripts.convert_lit_checkpoint import copy_weights_gpt_neox
from safetensors.torch import save_file

from continuum.errors import IntegrityError, PreflightError, StageFailedError
from continuum.runs.artifacts import ModelWeights, TokenizerFiles
from continuum.sources.hub import fetch_file, resolve
from continuum.stages.download import Download
from tests.servers.hub import COMMIT, HubServer
from tests.servers.texts import serve_texts
from tests.support import make_stage, run_stage

REPO = "toys/tiny"
WEIGHTS_REPO = "toys/pythia-14m"
QUICK = (0.01,)


@pytest.fixture
def repo(hub: HubServer, tokenizer_dir: Path) -> Path:
    folder = hub.root / REPO
    shutil.copytree(tokenizer_dir, folder)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "README.md").write_text("A toy.")
    return folder


def download(folder: Path, **fields: Any) -> TokenizerFiles:
    stage = make_stage(Download, folder, **{"repo": REPO, "files": "tokenizer", **fields})
    tokenizer = run_stage(stage, folder)
    assert isinstance(tokenizer, TokenizerFiles)
    return tokenizer


@pytest.mark.parametrize("commit", [COMMIT, "f" * 40])
def test_a_tokenizer_is_downloaded_at_the_commit_the_branch_means(
    commit: str, hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    hub.commits["main"] = commit
    tokenizer = download(tmp_path)
    assert (tokenizer.repo, tokenizer.commit, tokenizer.num_ids) == (REPO, commit, 512)
    names = [file.path for file in tokenizer.files]
    assert names == ["merges.txt", "tokenizer.json", "tokenizer_config.json"]
    assert hub.paths() == [
        f"/api/models/{REPO}/revision/main",
        *(f"/{REPO}/resolve/{commit}/{name}" for name in names),
    ]
    assert not any(path.is_symlink() for path in tokenizer.path.iterdir())
    assert not (tokenizer.path.parent / "partial").exists()


def test_a_download_that_is_refused_keeps_no_files(
    hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    (repo / "tokenizer.json").write_text('{"model": {"type": "Unknown"}}')
    with pytest.raises(PreflightError, match=r"tokenizer\.json"):
        download(tmp_path)
    assert not list(tmp_path.glob("runs/*/partial"))


def bring(folder: Path, name: str) -> bytes:
    revision = resolve(REPO, "main")
    file = revision.named(name)
    assert file is not None
    fetch_file(revision, file, folder, on_progress=lambda *_: None)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("understands_range", [True, False])
def test_a_dropped_connection_is_resumed(
    *, understands_range: bool, hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    body = os.urandom(2 * DOWNLOAD_CHUNK_SIZE)
    (repo / "large.bin").write_bytes(body)
    hub.drop_after, hub.understands_range = [DOWNLOAD_CHUNK_SIZE + 5_000], understands_range
    assert bring(tmp_path / "x", "large.bin") == body
    resumed = [request.first_byte for request in hub.requests if "Range" in request.headers]
    assert resumed == [DOWNLOAD_CHUNK_SIZE]


def test_the_token_does_not_follow_a_redirect_to_another_host(
    hub: HubServer, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens[REPO] = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    body = (repo / "tokenizer.json").read_bytes()
    with serve_texts({"/blob": body}) as storage:
        hub.storage_url = f"{storage.url.replace('127.0.0.1', 'localhost')}/blob"
        assert bring(tmp_path / "x", "tokenizer.json") == body
    assert ["authorization" in request.headers for request in storage.requests] == [False]


def test_a_storage_that_refuses_access_is_named_with_the_token_that_it_never_got(
    hub: HubServer, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens[REPO] = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serve_texts({}) as storage:
        storage.status = 403
        hub.storage_url = f"{storage.url.replace('127.0.0.1', 'localhost')}/blob?Signature=canary"
        message = (
            "redirected to localhost, which answers with HTTP status 403; the token is not sent"
        )
        with pytest.raises(StageFailedError, match=message) as caught:
            bring(tmp_path / "x", "tokenizer.json")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"], ids=["lfs", "git"])
def test_a_hash_mismatch_is_an_error(name: str, hub: HubServer, repo: Path, tmp_path: Path) -> None:
    hub.corrupt = {name}
    with pytest.raises(IntegrityError, match=f"{name}: hash mismatch: got .*, expected"):
        download(tmp_path)


def test_the_token_is_sent_and_never_shown(
    hub: HubServer, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens[REPO] = "hf_secret"
    with pytest.raises(PreflightError, match="or private; check the name, or set HF_TOKEN"):
        download(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PreflightError) as error:
        download(tmp_path)
    assert "hf_wrong" not in str(error.value)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(tmp_path)


def test_a_password_of_the_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://me:canary@127.0.0.1:9")
    with pytest.raises(
        StageFailedError, match=r"from http://<redacted>@127\.0\.0\.1:9: "
    ) as caught:
        resolve(REPO, "main", pauses_s=QUICK)
    assert "canary" not in str(caught.value)


def test_a_gated_repository_says_where_to_ask(hub: HubServer, repo: Path, tmp_path: Path) -> None:
    hub.gated = {REPO}
    message = f"{REPO} at revision main: access is gated; ask for it at {hub.url}/{REPO}, then set"
    with pytest.raises(PreflightError, match=message):
        download(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"repo": "toys/none"}, "toys/none at revision main.*repository not found, or private"),
        ({"revision": "v9"}, "toys/tiny at revision v9.*branch, tag or commit not found"),
        ({"files": "all", "model": "pythia-14m"}, "no supported weights found"),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    fields: dict[str, str], message: str, hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    with pytest.raises(PreflightError, match=message):
        download(tmp_path, **fields)


def test_a_repository_without_a_vocabulary_is_refused(
    hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    (repo / "tokenizer.json").unlink()
    with pytest.raises(PreflightError, match=r"tokenizer\.json \(or tokenizer\.model\) not found"):
        download(tmp_path)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, r"429 \(too many requests\) from the Hub; wait"),
        (503, "503 from the Hub; it may be down"),
    ],
)
def test_a_busy_hub_is_asked_again(status: int, message: str, hub: HubServer, repo: Path) -> None:
    hub.failures = [status]
    assert resolve(REPO, "main", pauses_s=QUICK).commit == COMMIT
    hub.failures = [status] * 9
    with pytest.raises(StageFailedError, match=f"{REPO} at revision main.*{message}"):
        resolve(REPO, "main", pauses_s=QUICK)


def test_an_unreachable_hub_says_what_to_check(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StageFailedError, match=r"cannot reach the Hub.*HF_ENDPOINT"):
        resolve(REPO, "main", pauses_s=QUICK)


def test_offline_an_empty_cache_is_a_clear_error(
    hub: HubServer, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PreflightError, match=r"HF_HUB_OFFLINE is set.*hf download toys/tiny"):
        download(tmp_path)
    assert hub.requests == []


def test_offline_the_library_s_cache_is_used(
    hub: HubServer, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(REPO, endpoint=hub.url, cache_dir=tmp_path / "hf" / "hub")
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tokenizer = download(tmp_path)
    assert (tokenizer.commit, hub.requests) == (COMMIT, [])
    assert not any(path.is_symlink() for path in tokenizer.path.iterdir())


def test_a_damaged_file_in_the_cache_is_fetched_again(
    hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    from huggingface_hub import hf_hub_download

    cached = hf_hub_download(
        REPO, "tokenizer.json", endpoint=hub.url, cache_dir=tmp_path / "hf" / "hub"
    )
    Path(cached).resolve().write_bytes(b"{}")
    download(tmp_path)


def test_a_file_fetched_before_is_not_fetched_again(
    hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        bring(tmp_path / "x", "tokenizer.json")
    assert len([path for path in hub.paths() if "/resolve/" in path]) == 1


def test_the_result_s_types_follow_from_the_files(tmp_path: Path) -> None:
    fields = {"repo": "EleutherAI/pythia-14m"}
    types = {
        files: make_stage(Download, tmp_path, files=files, **fields).output_types()
        for files in ("tokenizer", "weights", "all")
    }
    assert types == {
        "tokenizer": (TokenizerFiles,),
        "weights": (ModelWeights,),
        "all": (ModelWeights, TokenizerFiles),
    }


@pytest.mark.parametrize(
    ("fields", "path", "suggestion"),
    [
        ({"repo": "me/pythia-14n", "files": "weights"}, ("repo",), "model: pythia-14m"),
        ({"repo": "me/x", "files": "tokenizer", "model": "pythia-14m"}, ("model",), ""),
    ],
)
def test_a_model_litgpt_does_not_know_is_a_problem(
    fields: dict[str, str], path: tuple[str, ...], suggestion: str, tmp_path: Path
) -> None:
    (problem,) = make_stage(Download, tmp_path, **fields).problems({})
    assert problem.path == path
    assert suggestion in (problem.suggestion or "")


def test_the_plan_knows_the_architecture(tmp_path: Path) -> None:
    stage = make_stage(Download, tmp_path, repo="EleutherAI/pythia-14m", files="weights")
    architecture = stage.forecast({}, tmp_path).architecture
    assert architecture is not None
    assert architecture.name == "pythia-14m"


@pytest.mark.parametrize("index", [{"weight_map": {"a": "model-2.safetensors"}}, {}, []])
def test_an_index_that_does_not_fit_is_refused(
    index: Any, hub: HubServer, repo: Path, tmp_path: Path
) -> None:
    (repo / "model-00001-of-00002.safetensors").write_bytes(b"x")
    (repo / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PreflightError, match=r"safetensors\.index\.json (names it|is not)"):
        download(tmp_path, files="weights", model="pythia-14m")


@pytest.mark.slow
def test_weights_are_fetched_at_one_commit_and_converted_for_litgpt(
    hub: HubServer, tokenizer_dir: Path, tmp_path: Path
) -> None:
    folder = hub.root / WEIGHTS_REPO
    shutil.copytree(tokenizer_dir, folder)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights once more")
    config = Config.from_name("pythia-14m")
    exported: dict[str, torch.Tensor] = {}
    original = GPT(config).half().state_dict()
    copy_weights_gpt_neox(config, exported, original)
    save_file(exported, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))
    hub.drop_after = [10_000_000]
    weights = run_stage(make_stage(Download, tmp_path, repo=WEIGHTS_REPO, files="all"), tmp_path)
    assert isinstance(weights, ModelWeights)
    assert (weights.repo, weights.commit) == (WEIGHTS_REPO, COMMIT)
    assert {file.path for file in weights.files} == {
        "config.json",
        "lit_model.pth",
        "model_config.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    converted = torch.load(weights.path / "lit_model.pth", weights_only=True)
    assert all(torch.equal(converted[name], tensor) for name, tensor in original.items())
    assert isinstance(weights.view(TokenizerFiles), TokenizerFiles)
    assert weights.model_config_fields["name"] == "pythia-14m"
    assert not any("pytorch_model" in path for path in hub.paths())


def test_the_server_agrees_with_itself_and_runs_as_a_program(hub: HubServer, repo: Path) -> None:
    command = [sys.executable, "-m", "tests.servers.hub", "--port", "0", "--root", str(hub.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip().removeprefix("export HF_ENDPOINT=")
        api = HfApi(endpoint=url, token=False)
        info = api.model_info(REPO, revision="main", files_metadata=True)
        tree = {entry.path for entry in api.list_repo_tree(REPO, revision=COMMIT)}
        program.terminate()
    assert info.sha == COMMIT
    assert {entry.rfilename for entry in info.siblings or ()} == tree
