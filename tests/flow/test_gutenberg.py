"""The shipped experiment at real size, cut to a CPU's size by --set alone, on loopback servers."""

import json
import pydoc_data
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from continuum.text.bpe import train_bpe
from tests.commands import Cli
from tests.servers.hub import COMMIT, HubServer, serve_hub
from tests.servers.texts import TextServer, serve_texts

REPOSITORY = Path(__file__).parent.parent.parent
EXPERIMENT = "experiments/pythia-160m-gutenberg"
REPO = "EleutherAI/pythia-160m"
NUM_IDS = 512
BOOKS = ("24440", "26393", "14263", "16215")
SMALLER = {
    "pretrain.model": f"{{name: pythia-14m, n_layer: 2, n_embd: 64, vocab_size: {NUM_IDS}}}",
    "pretrain.sequence_length": 64,
    "pretrain.global_batch_size": 8,
    "pretrain.max_tokens": 8192,
    "pretrain.evaluate": "{every: 8, sequences: 8}",
    "pretrain.optimizer.lr": 3e-3,
    "pretrain.runtime.accelerator": "cpu",
    "pretrain.runtime.micro_batch_size": 4,
    "longer.max_tokens": 16_384,
    "retrain.sequence_length": 64,
    "retrain.global_batch_size": 8,
    "retrain.max_tokens": 4096,
    "retrain.runtime.accelerator": "cpu",
    "retrain.runtime.micro_batch_size": 4,
}


@dataclass(frozen=True)
class Shipped:
    """A copy of the shipped experiment, the servers it uses, and the command that uses them."""

    folder: Path
    hub: HubServer
    texts: TextServer
    cli: Cli

    @property
    def overrides(self) -> list[str]:
        fields = {f"stages.{path}": value for path, value in SMALLER.items()}
        settings = {"vars.books": f"{self.texts.url}/cache/epub", **fields}
        return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]

    @property
    def num_requests(self) -> int:
        return len(self.hub.requests) + len(self.texts.requests)

    def say(self, command: str) -> str:
        """What a command prints of the experiment, cut to size."""
        return self.cli(command, self.folder, *self.overrides).stdout


def help_text() -> str:
    return (Path(pydoc_data.__path__[0]) / "topics.py").read_text(encoding="utf-8")


def gutenberg_book(number: int) -> bytes:
    """120 kB of prose as Project Gutenberg sends it: a byte order mark, and CRLF line ends."""
    start = number * 120_000
    text = help_text()[start : start + 120_000]
    return text.replace("\n", "\r\n").encode("utf-8-sig")


def make_repository(folder: Path) -> None:
    """A repository like the real one; only its tokenizer is small, and its weights are no use."""
    folder.mkdir(parents=True)
    train_bpe(
        [help_text()[:200_000]],
        folder,
        vocab_size=NUM_IDS,
        min_frequency=2,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )
    (folder / "config.json").write_text('{"model_type": "gpt_neox"}')
    (folder / "model.safetensors").write_bytes(bytes(4096))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    """The experiment and its bases in their places, nothing run yet."""
    root = tmp_path_factory.mktemp("checkout")
    (root / EXPERIMENT).mkdir(parents=True)
    shutil.copy(REPOSITORY / EXPERIMENT / "experiment.yaml", root / EXPERIMENT)
    shutil.copytree(REPOSITORY / "configs", root / "configs")
    make_repository(root / "hub" / REPO)
    paths = {f"/cache/epub/{n}/pg{n}.txt": gutenberg_book(i) for i, n in enumerate(BOOKS)}
    with serve_hub(root / "hub") as hub, serve_texts(paths) as texts:
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(root / "hf"),
            "HF_HUB_OFFLINE": "",
            "HF_TOKEN": "",
            # The model is tiny: on a busy machine more threads only wait for each other.
            "OMP_NUM_THREADS": "1",
        }
        yield Shipped(root / EXPERIMENT, hub, texts, Cli(environment))


@pytest.fixture(scope="module")
def finished(shipped: Shipped) -> Shipped:
    """The experiment, run."""
    shipped.say("run")
    return shipped


def test_checking_and_planning_ask_no_server(shipped: Shipped) -> None:
    before = shipped.num_requests
    assert "valid, 9 stages" in shipped.say("validate")
    assert "16 steps, 8,192 tokens" in shipped.say("plan")
    assert shipped.num_requests == before


def test_at_real_size_the_plan_has_whole_steps_and_warns_of_no_waste(shipped: Shipped) -> None:
    planned = shipped.cli("plan", shipped.folder).stdout
    assert planned.count("125 steps, 1,000,000 tokens") == 2
    assert "60 steps, 480,000 tokens" in planned
    codes = set(re.findall("warning (E403|W...)", planned))
    assert codes - {"E403"} == {"W003"}, "nothing is pinned yet; E403 is of this machine"


def test_with_litgpts_own_batch_the_plan_refuses_to_train_nothing(shipped: Shipped) -> None:
    batch = ("stages.pretrain.sequence_length=2048", "stages.pretrain.global_batch_size=512")
    words = [word for setting in batch for word in ("--set", setting)]
    refused = shipped.cli("plan", shipped.folder, *words, expect=4).stderr
    assert "max_tokens 1,000,000 is less than one optimizer step of 1,048,576" in refused


def test_every_stage_is_complete(finished: Shipped) -> None:
    assert finished.say("status").count("complete") == 9


def test_the_tokenizer_comes_from_the_commit_that_main_meant(finished: Shipped) -> None:
    files = [path for path in finished.hub.paths() if "/resolve/" in path]
    assert sorted(files) == [
        f"/{REPO}/resolve/{COMMIT}/{name}" for name in ("tokenizer.json", "tokenizer_config.json")
    ]
    graph = json.loads((finished.folder / "lineage.json").read_text())
    (tokenizer,) = (node for node in graph["nodes"] if node["type"] == "tokenizer")
    assert (tokenizer["facts"]["repo"], tokenizer["facts"]["commit"]) == (REPO, COMMIT)


def test_each_book_is_fetched_once_and_named_by_its_address(finished: Shipped) -> None:
    asked = [request.path for request in finished.texts.requests]
    assert sorted(asked) == sorted(f"/cache/epub/{n}/pg{n}.txt" for n in BOOKS)
    tree = finished.say("lineage")
    assert all(f"{finished.texts.url}/cache/epub/{n}/pg{n}.txt  source" in tree for n in BOOKS)


def test_the_lineage_counts_tokens_through_the_ancestry(finished: Shipped) -> None:
    tree = finished.say("lineage")
    assert "retrain@step-8  training checkpoint  4,096 tokens, 20,480 in total" in tree
    assert "longer@step-32  training checkpoint  16,384 tokens, 16,384 in total" in tree
    assert "pretrain@step-16  training checkpoint  8,192 tokens, 8,192 in total" in tree


def test_a_second_run_reuses_everything_and_asks_no_server(finished: Shipped) -> None:
    before = finished.num_requests
    assert finished.say("run").count("reused") == 9
    assert finished.num_requests == before


def test_in_another_place_on_another_runtime_base_nothing_runs_again(
    finished: Shipped, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder.parent.parent, tmp_path / "moved")
    folder = tmp_path / "moved" / EXPERIMENT
    spec = folder / "experiment.yaml"
    written = spec.read_text(encoding="utf-8")
    spec.write_text(written.replace("configs/gpu.yaml", "configs/cpu.yaml"), encoding="utf-8")
    assert spec.read_text(encoding="utf-8") != written
    assert replace(finished, folder=folder).say("plan").count("  reuse  ") == 9
