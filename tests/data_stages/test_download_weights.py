"""kind: download with weights: real shapes, LitGPT's own converter."""

import shutil
from pathlib import Path

import pytest
import torch

from continuum.artifacts import ModelWeights, TokenizerFiles
from continuum.stages.download import Download
from tests.data_stages.weights import write_gpt_neox
from tests.servers.hub import COMMIT, HubServer
from tests.support import make_stage, run_stage

REPO = "toys/pythia-14m"


@pytest.mark.slow
def test_weights_are_fetched_at_one_commit_and_converted_for_litgpt(
    hub: HubServer, tokenizer_dir: Path, tmp_path: Path
) -> None:
    folder = hub.root / REPO
    shutil.copytree(tokenizer_dir, folder)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights once more")
    original = write_gpt_neox(folder, "pythia-14m")
    hub.drop_after = [10_000_000]
    weights = run_stage(make_stage(Download, tmp_path, repo=REPO, files="all"), tmp_path)
    assert isinstance(weights, ModelWeights)
    assert (weights.repo, weights.commit) == (REPO, COMMIT)
    assert {file.path for file in weights.files} == {
        "config.json",
        "lit_model.pth",
        "model_config.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    converted = torch.load(weights.path / "lit_model.pth", weights_only=True)
    embedding = original["gpt_neox.embed_in.weight"]
    assert torch.equal(converted["transformer.wte.weight"], embedding)
    assert isinstance(weights.view(TokenizerFiles), TokenizerFiles)
    assert weights.model_config_fields["name"] == "pythia-14m"
    assert not any("pytorch_model" in path for path in hub.paths())
