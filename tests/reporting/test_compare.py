"""`continuum compare`: what the table says of runs whose losses are known."""

import csv
import json
import math
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Cli, only
from tests.forging import reseal
from tests.reporting.recorded import Recorder, record, training, write_spec

SEEDS, RATES = (1, 2, 3), (1e-3, 3e-3)
MIXTURE = {"code_tokens": 0.75, "tokens": 0.25}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, whose data stages others copy."""
    folder = tmp_path_factory.mktemp("compare")
    record(write_spec(folder / "data", pretrain=training("pretrain", data=MIXTURE)))
    shutil.rmtree(only(folder / "data" / "runs", "pretrain-*"))
    return folder


def experiment(root: Path, name: str, *, seed: int = 1, **stages: Any) -> Path:
    """An experiment beside the others, with their data; not run yet."""
    shutil.copytree(root / "data", root / name)
    return write_spec(root / name, seed=seed, **stages)


@pytest.fixture(scope="module")
def sweep(root: Path) -> list[Path]:
    """Two learning rates with three seeds each, and a retraining of each."""
    found = []
    for rate in RATES:
        for seed in SEEDS:
            folder = experiment(
                root,
                f"lr{rate:g}-s{seed}",
                seed=seed,
                pretrain=training("pretrain", optimizer={"lr": rate}),
                longer={
                    "kind": "resume",
                    "from": "pretrain",
                    "max_steps": 12,
                    "schedule": {"kind": "constant"},
                },
                retrain=training("retrain", data=MIXTURE, **{"from": "longer"}),
            )
            found.append(record(folder))
    return found


@pytest.fixture(scope="module")
def pretrained(root: Path) -> Path:
    return record(experiment(root, "pretrained", pretrain=training("pretrain")))


def document(cli: Cli, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("compare", *arguments, "--json").stdout)
    assert found["schema"] == "continuum.compare/1"
    return found


def cells(found: dict[str, Any], name: str) -> list[Any]:
    return [row["cells"][name] for row in found["rows"]]


def names(found: dict[str, Any], group: str) -> list[str]:
    return [it["name"] for it in found["columns"] if it["group"] == group]


def rows_of(folder: Path, stage: str) -> list[dict[str, Any]]:
    text = only(folder, f"runs/{stage}-*/metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def last_of(folder: Path, stage: str, column: str) -> float:
    return float([row[column] for row in rows_of(folder, stage) if column in row][-1])


def test_runs_that_differ_in_the_seed_are_one_row_with_mean_and_deviation(
    sweep: list[Path], cli: Cli
) -> None:
    found = document(cli, *sweep, "--stage", "retrain")
    assert cells(found, "n") == [3, 3]
    assert names(found, "fields") == ["pretrain.optimizer.lr"]
    assert cells(found, "pretrain.optimizer.lr") == list(RATES)
    for number, column in ((0, "val_loss/tokens"), (3, "val_loss/code_tokens")):
        cell = found["rows"][number // 3]["cells"][column]
        values = [last_of(it, "retrain", column) for it in sweep[number : number + 3]]
        assert cell["value"] == pytest.approx(statistics.mean(values))
        assert cell["std"] == pytest.approx(statistics.stdev(values))
        assert cell["n"] == 3
    seeds = [run["seeds"]["pretrain.init"] for row in found["rows"] for run in row["runs"]]
    assert seeds == [1, 2, 3, 1, 2, 3]
    text = cli("compare", *sweep, "--stage", "retrain").stdout
    assert "5.2250 ± 0.0100" in text


def test_seeds_of_ancestors_are_seeds_too(sweep: list[Path], cli: Cli) -> None:
    found = document(cli, *sweep, "--sort", "stage")
    stages = ["longer", "longer", "pretrain", "pretrain", "retrain", "retrain"]
    assert cells(found, "stage") == stages
    assert cells(found, "n") == [3] * 6
    assert cells(found, "tokens") == [768, 768, 512, 512, 512, 512]
    assert "seeds" not in names(found, "fields")


def test_the_same_run_twice_is_not_a_second_seed(sweep: list[Path], cli: Cli) -> None:
    copy = sweep[0].with_name("copy")
    shutil.copytree(sweep[0], copy)
    found = document(cli, sweep[0], copy, sweep[1], "--stage", "pretrain")
    assert cells(found, "n") == [2, 1]
    assert found["rows"][1]["runs"][0]["experiment"] == str(copy)


def test_only_fields_that_differ_are_columns(root: Path, pretrained: Path, cli: Cli) -> None:
    other = experiment(
        root,
        "other",
        pretrain=training(
            "pretrain", max_steps=None, max_tokens=512, max_norm=None, description="as long"
        ),
    )
    found = document(cli, pretrained, record(other, losses=lambda *_: 5.0))
    assert names(found, "fields") == ["max_norm"]
    assert cells(found, "max_norm") == [1.0, None]
    more = document(cli, pretrained, other, "--columns", "stage,sequence_length,fields")
    assert names(more, "fields") == ["sequence_length", "max_norm"]


def test_losses_on_other_data_or_tokens_have_their_own_columns(
    root: Path, pretrained: Path, cli: Cli
) -> None:
    other = experiment(root, "vocabulary", pretrain=training("pretrain"))
    spec = (other / "experiment.yaml").read_text()
    (other / "experiment.yaml").write_text(spec.replace("vocab_size: 270", "vocab_size: 280"))
    renamed = experiment(root, "renamed", pretrain=training("pretrain", data="words"))
    spec = (renamed / "experiment.yaml").read_text()
    (renamed / "experiment.yaml").write_text(spec.replace("\n  tokens:", "\n  words:"))
    found = document(cli, pretrained, record(other), record(renamed))
    final = [it for it in found["columns"] if it.get("when") == "final"]
    digests = [it["data"][0]["sha256"] for it in final]
    assert len(set(digests)) == 2
    assert [it["name"] for it in final] == [
        "val_loss/tokens=words",
        "val_loss/tokens",
    ]
    first, second = (cells(found, it["name"]) for it in final)
    assert [it is None for it in first] == [False, True, False]
    assert [it is None for it in second] == [True, False, True]
    alone = document(cli, pretrained, other)
    titles = names(alone, "losses")
    assert titles[:2] == [f"val_loss/tokens[{digest[:8]}]" for digest in digests]


def test_bits_per_byte_of_one_text_share_a_column_and_losses_per_token_do_not(
    root: Path, cli: Cli
) -> None:
    scored = {"kind": "evaluate", "models": "pretrain", "on": "book"}
    stages = {"pretrain": training("pretrain"), "scored": scored}
    one, two = (experiment(root, name, seed=1, **stages) for name in ("scored", "scored280"))
    spec = (two / "experiment.yaml").read_text()
    (two / "experiment.yaml").write_text(spec.replace("vocab_size: 270", "vocab_size: 280"))
    found = document(cli, record(one), record(two), "--columns", "bits_per_byte,eval_loss")
    bits, *losses = names(found, "losses")
    assert bits == "bits_per_byte/book"
    expected = pytest.approx(4 / math.log(2) / 2)
    assert [it["value"] for it in cells(found, bits)] == [expected, expected]
    assert len(losses) == 2
    assert [[it is None for it in cells(found, name)] for name in losses] == [
        [False, True],
        [True, False],
    ]


def test_secrets_of_the_spec_are_not_shown(root: Path) -> None:
    cli, folders = Cli({"ONE": "first-1-Secret", "TWO": "second-2-Secret"}), []
    for name, variable in (("public", "ONE"), ("private", "TWO")):
        url = f"https://reader:${{env.{variable}}}@example.com/{name}.txt"
        web = {"kind": "fetch", "sources": [{"url": url, "sha256": "0" * 64}]}
        words: dict[str, Any] = {"kind": "tokenize", "corpus": "web", "tokenizer": "tokenizer"}
        words["validation"] = {"fraction": 0.1}
        pretrain = training("pretrain", data="words")
        folders.append(experiment(root, name, web=web, words=words, pretrain=pretrain))
    for flag in ("--json", "--csv", "--latex"):
        done = cli("compare", *folders, flag, "--columns", "stage,fields,web.sources.0.url")
        assert "example.com" in done.stdout
        assert "-Secret" not in done.stdout + done.stderr


def test_losses_on_more_sequences_have_their_own_column(
    root: Path, pretrained: Path, cli: Cli
) -> None:
    longer = training("pretrain", evaluate={"every": 4, "sequences": 5})
    other = record(experiment(root, "sequences", pretrain=longer))
    found = document(cli, pretrained, other)
    assert names(found, "losses")[:2] == ["val_loss/tokens[4x16]", "val_loss/tokens[5x16]"]
    assert names(found, "fields") == ["evaluate.sequences"]


def test_what_is_not_complete_is_never_called_so(root: Path, pretrained: Path, cli: Cli) -> None:
    folder = experiment(
        root,
        "broken",
        killed=training("pretrain", max_steps=9),
        failed=training("pretrain", max_steps=10),
        early=training("pretrain", max_steps=11),
    )
    record(folder, ends={"killed": ("killed", 5), "failed": ("failed", 6), "early": ("failed", 0)})
    attempts = only(folder, "runs/killed-*/attempts.jsonl")
    attempts.write_text(attempts.read_text().splitlines(keepends=True)[0])  # nobody wrote its end
    empty = experiment(root, "empty", pretrain=training("pretrain"))
    forged = root / "forged"
    shutil.copytree(pretrained, forged)
    metrics = only(forged, "runs/pretrain-*/metrics.jsonl")
    metrics.write_text(metrics.read_text().replace('"val_loss": 5.', '"val_loss": 4.'))
    found = document(cli, folder, empty, forged)
    states = {row["cells"]["stage"]: row["cells"]["state"] for row in found["rows"][:3]}
    assert states == {"killed": "interrupted", "failed": "failed", "early": "failed"}
    assert cells(found, "state")[3:] == ["not begun", "damaged"]
    losses = cells(found, "val_loss/tokens")
    assert [it and it["is_provisional"] for it in losses] == [True, True, None, None, None]
    assert cells(found, "tokens") == [320, 384, None, None, None]
    assert cells(found, "max_steps") == [9, 10, 11, 8, 8]
    assert [row["n"] for row in found["rows"]] == [1] * 5
    text = cli("compare", folder, empty, forged).stdout
    assert "complete" not in text.rpartition("\n* not a value of the last step")[0]
    name = metrics.parent.name
    assert f"{name}: damaged: metrics.jsonl was changed after the run was finished" in text


def test_the_days_until_a_killed_run_was_noticed_are_not_its_time(root: Path, cli: Cli) -> None:
    folder = experiment(root, "noticed", pretrain=training("pretrain"))
    record(folder, ends={"pretrain": ("killed", 5)})
    attempts = only(folder, "runs/pretrain-*/attempts.jsonl")
    started, ended = attempts.read_text().splitlines()
    later = json.loads(ended) | {"at": "2099-01-01T00:00:00.000+00:00"}
    attempts.write_text(f"{started}\n{json.dumps(later)}\n")
    (elapsed_s,) = cells(document(cli, folder), "elapsed_s")
    assert 0 <= elapsed_s < 600


def test_a_run_without_a_value_at_its_last_step_says_so(root: Path, cli: Cli) -> None:
    unevaluated = training("pretrain", max_steps=10, evaluate={"every": 4, "final": False})
    folder = record(experiment(root, "unevaluated", pretrain=unevaluated | {"max_steps": 10}))
    metrics = only(folder, "runs/pretrain-*/metrics.jsonl")
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(it for it in lines if '"step": 10' not in it or "val" not in it))
    reseal(metrics.parent)
    (folder / "continuum.lock").unlink()
    (cell,) = cells(document(cli, folder), "val_loss/tokens")
    assert (cell["step"], cell["is_provisional"]) == (8, True)


def test_the_best_is_the_lowest_and_not_the_last(root: Path, cli: Cli) -> None:
    folder = experiment(root, "worsening", pretrain=training("pretrain", max_steps=12))
    record(folder, losses=lambda _, column, step: 5.0 + (step - 8) ** 2 / 100)
    found = document(cli, folder)
    (best,), (last,) = (cells(found, name) for name in ("best/val_loss/tokens", "val_loss/tokens"))
    assert (best["value"], best["step"], best["tokens"]) == (5.0, 8, 512)
    assert (last["value"], last["step"]) == (5.16, 12)


def test_losses_at_a_number_of_tokens(root: Path, pretrained: Path, cli: Cli) -> None:
    short = record(experiment(root, "short", pretrain=training("pretrain", max_steps=4)))
    found = document(cli, pretrained, short, "--at", "0.5k")
    first, second = cells(found, "val_loss/tokens@0.5k")
    assert (first["step"], first["tokens"]) == (4, 256)
    assert first["value"] == last_of(short, "pretrain", "val_loss")
    assert second is None  # it ends after 256 tokens
    loss = document(cli, pretrained, "--at", "300", "--columns", "loss")
    assert cells(loss, "loss/tokens@300")[0]["step"] == 4
    assert "use e.g. 500k or 10M" in cli("compare", short, "--at", "ten", expect=2).stderr


def test_earlier_runs_of_the_folder_are_shown_when_asked_for(root: Path, cli: Cli) -> None:
    folder = experiment(root, "history", pretrain=training("pretrain"))
    record(folder)
    write_spec(folder, pretrain=training("pretrain", optimizer={"lr": 2e-3}))
    found = document(cli, folder)
    assert cells(found, "state") == ["not begun"]
    assert found["notes"] == [
        f"{folder}: 1 earlier run of these stages not shown; --all shows them"
    ]
    record(folder)
    found = document(cli, folder, "--stage", "pretrain", "--all")
    assert cells(found, "optimizer.lr") == [1e-3, 2e-3]
    assert len(set(cells(found, "run"))) == 2
    one, two = (folder / "runs" / name for name in cells(found, "run"))
    named = document(cli, one, two)
    assert cells(named, "optimizer.lr") == [1e-3, 2e-3]


def test_sorting_and_choosing_columns(sweep: list[Path], cli: Cli) -> None:
    asked = (*sweep, "--stage", "pretrain", "--columns", "optimizer.lr,val_loss,tokens/s")
    found = document(cli, *asked, "--sort", "val_loss")
    shown = ["optimizer.lr", "val_loss/tokens", "tokens_per_s"]
    assert [it["name"] for it in found["columns"]] == shown
    assert cells(found, "optimizer.lr") == [3e-3, 1e-3]
    found = document(cli, *asked, "--sort", "-best")
    assert cells(found, "optimizer.lr") == [1e-3, 3e-3]
    ambiguous = cli("compare", sweep[0], "--sort", "val_loss", expect=2).stderr
    assert "means several columns: val_loss/tokens, val_loss/code_tokens" in ambiguous
    mistyped = cli("compare", *sweep, "--columns", "optimiser.lr", expect=2).stderr
    assert "did you mean 'optimizer.lr'" in mistyped
    wrong = cli("compare", *sweep, "--stage", "pretrian", expect=2).stderr
    assert "did you mean 'pretrain'" in wrong


def test_csv_has_the_numbers_as_they_are(sweep: list[Path], cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    done = cli("compare", *sweep, "--stage", "pretrain", "--csv", "--out", out)
    assert done.stdout == ""
    with out.open(newline="") as file:
        first, second = csv.DictReader(file)
    values = [last_of(it, "pretrain", "val_loss") for it in sweep[:3]]
    assert float(first["val_loss/tokens"]) == pytest.approx(statistics.mean(values))
    assert float(first["val_loss/tokens std"]) == pytest.approx(statistics.stdev(values))
    assert (first["n"], first["optimizer.lr"], second["optimizer.lr"]) == ("3", "0.001", "0.003")
    assert first["tokens"] == "512"


def test_markdown_and_latex_escape_names(root: Path, pretrained: Path, cli: Cli) -> None:
    odd = root / "a_b&c%|<x>"
    shutil.copytree(pretrained, odd)
    latex = cli("compare", pretrained, odd, "--latex").stdout
    spelled = r"a\_\allowbreak{}b\&c\%\textbar{}\textless{}x\textgreater{}"
    assert rf"{spelled} & pretrain & complete" in latex
    body = latex.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", latex)
    assert columns is not None
    assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(columns[1])}
    assert len(lines) == 3
    markdown = cli("compare", pretrained, odd, "--md").stdout
    assert r"a\_b&amp;c%\|\<x\> | pretrain | complete |" in markdown
    assert "cannot be used together" in cli("compare", odd, "--md", "--csv", expect=2).stderr


def test_curves_name_the_first_step_that_differs(root: Path, pretrained: Path, cli: Cli) -> None:
    other = experiment(root, "drifting", pretrain=training("pretrain", max_steps=9))
    usual = Recorder().losses
    record(other, losses=lambda it, name, step: usual(it, name, step) + (step > 5) * 0.25)
    found = json.loads(cli("compare", pretrained, other, "--curves", "--json").stdout)
    assert found["schema"] == "continuum.curves/1"
    loss, validation = found["pairs"][0]["curves"]
    assert (loss["name"], loss["num_steps"], loss["only_second"]) == ("loss/tokens", 8, 1)
    assert loss["first_difference"]["step"] == 6
    assert loss["first_difference"]["difference"] == pytest.approx(0.25)
    assert validation["first_difference"]["step"] == 8
    text = cli("compare", pretrained, other, "--curves").stdout
    assert re.search(r"loss/tokens +8 +step 6 +5\.404 +5\.654 +\+0\.25 ", text)
    assert "loss/tokens: 1 only in B" in text


def test_curves_that_are_equal_or_on_other_data(root: Path, pretrained: Path, cli: Cli) -> None:
    copy = root / "same"
    shutil.copytree(pretrained, copy)
    assert "none" in cli("compare", pretrained, copy, "--curves").stdout
    on_code = record(experiment(root, "code", pretrain=training("pretrain", data="code_tokens")))
    text = cli("compare", pretrained, on_code, "--curves").stdout
    assert "no loss that both measured on the same data" in text
    refused = cli("compare", pretrained, copy, on_code, "--curves", expect=2).stderr
    assert "--curves compares two runs, not 3" in refused
