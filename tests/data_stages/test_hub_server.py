"""The loopback Hub answers the real client as the Hub does, and runs by itself."""

import subprocess
import sys

from huggingface_hub import HfApi

from tests.servers.hub import COMMIT, HubServer

REPO = "toys/files"


def make_repo(hub: HubServer) -> None:
    folder = hub.root / REPO
    folder.mkdir(parents=True)
    (folder / "small.json").write_text("{}")
    (folder / "large.bin").write_bytes(b"x" * 5000)


def test_the_tree_and_the_info_agree(hub: HubServer) -> None:
    make_repo(hub)
    api = HfApi(endpoint=hub.url, token=False)
    info = api.model_info(REPO, revision="main", files_metadata=True)
    tree = {entry.path for entry in api.list_repo_tree(REPO, revision=COMMIT)}
    assert info.sha == COMMIT
    assert {entry.rfilename for entry in info.siblings or ()} == tree


def test_the_server_runs_as_a_program(hub: HubServer) -> None:
    make_repo(hub)
    command = [sys.executable, "-m", "tests.servers.hub", "--port", "0", "--root", str(hub.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip().removeprefix("export HF_ENDPOINT=")
        commit = HfApi(endpoint=url, token=False).model_info(REPO).sha
        program.terminate()
    assert commit == COMMIT
