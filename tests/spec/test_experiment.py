import subprocess
import sys
import time
from pathlib import Path

import pytest

from continuum.errors import Problem
from continuum.experiment.architecture import config_fields
from continuum.loading.diagnostics import SpecError
from continuum.loading.load import load, load_experiment
from tests.spec.documents import HEAD, TRAINING, write

HEAVY = ("torch", "lightning", "litgpt", "litdata", "numpy", "tokenizers", "huggingface_hub")
NUM_STAGES = 1000
MAX_SECONDS = 1.5


def fetch(name: str) -> str:
    return f"  {name}: {{kind: fetch, sources: [{{python: argparse.py}}]}}\n"


def tokenize(name: str, corpus: str) -> str:
    return f"  {name}: {{kind: tokenize, corpus: {corpus}, tokenizer: tok, validation: none}}\n"


def tokenizer(corpus: str) -> str:
    return f"  tok: {{kind: train_tokenizer, corpus: {corpus}, vocab_size: 512}}\n"


def extension(name: str, parent: str) -> str:
    fields = "max_tokens: 2M, schedule: {kind: linear, to: 0}"
    return f"  {name}: {{kind: resume, from: {parent}, {fields}}}\n"


def test_stages_are_put_after_those_they_refer_to_and_else_stay_as_written(tmp_path: Path) -> None:
    text = HEAD + "stages:\n" + tokenize("t", "b") + fetch("z") + tokenizer("b") + fetch("b")
    experiment = load_experiment(write(tmp_path / "spec.yaml", text))
    assert list(experiment.stages) == ["t", "z", "tok", "b"]
    assert experiment.in_order() == ["z", "b", "tok", "t"]


def test_the_order_of_stages_does_not_depend_on_the_run_of_the_program(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(20)]
    text = HEAD + "stages:\n" + "".join(tokenize(f"t-{n}", n) for n in names)
    text += tokenizer("s0") + "".join(fetch(name) for name in names)
    path = write(tmp_path / "spec.yaml", text)
    code = (
        "import sys; from pathlib import Path;"
        "from continuum.loading.load import load_experiment;"
        "print(load_experiment(Path(sys.argv[1])).in_order())"
    )
    seeds = ("1", "2")
    orders = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in seeds
    }
    assert len(orders) == 1


def test_a_graph_as_deep_as_the_file_is_long_is_no_trouble(tmp_path: Path) -> None:
    names = ["pretrain", *(f"x{number}" for number in range(NUM_STAGES))]
    pairs = zip(names[1:], names, strict=False)
    text = TRAINING + "".join(extension(name, parent) for name, parent in pairs)
    experiment = load_experiment(write(tmp_path / "spec.yaml", text))
    assert experiment.in_order()[-1] == names[-1]


def test_a_thousand_stages_are_checked_in_a_moment(tmp_path: Path) -> None:
    _, _, body = TRAINING.partition("  pretrain:\n")
    pretrain = "".join(f"  p{number}:\n{body}" for number in range(NUM_STAGES))
    path = write(tmp_path / "spec.yaml", TRAINING + pretrain)
    started = time.process_time()
    assert len(load_experiment(path).stages) == NUM_STAGES + 4
    assert time.process_time() - started < MAX_SECONDS


def test_a_thousand_faulty_stages_are_checked_in_a_moment(tmp_path: Path) -> None:
    _, _, body = TRAINING.partition("  pretrain:\n")
    wrong = body.replace("lr: 1e-3", "lr: -1, wd: 1").replace("data: tokens", "data: tokenz")
    stages = "".join(f"  p{number}:\n{wrong}" for number in range(NUM_STAGES))
    path = write(tmp_path / "spec.yaml", TRAINING + stages)
    started = time.process_time()
    with pytest.raises(SpecError) as caught:
        load_experiment(path)
    assert time.process_time() - started < 2 * MAX_SECONDS
    assert len(caught.value.diagnostics) == 3 * NUM_STAGES  # lr, wd, data


def test_validating_imports_nothing_heavy(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", TRAINING + "    evaluate: null\n")
    code = (
        "import atexit, sys; from continuum.cli import main;"
        f"sys.argv = ['continuum', 'validate', {str(path)!r}];"
        f"atexit.register(lambda: print(sorted(set({HEAVY!r}) & set(sys.modules))));"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["toy: valid, 4 stages", "[]"]


def test_a_spec_with_errors_is_loaded_as_its_valid_stages(tmp_path: Path) -> None:
    text = TRAINING.replace("lr: 1e-3", "lr: fast") + "seed: 7\n"
    loaded = load(write(tmp_path / "spec.yaml", text))
    assert loaded.experiment is None
    assert [problem.path for problem in loaded.problems] == ["stages.pretrain.optimizer.lr"]
    assert loaded.sound is not None
    assert loaded.sound.seed == 7
    # What another value stands for is planned too, but by nothing that depends on it.
    assert list(loaded.sound.stages) == ["books", "tokenizer", "tokens", "pretrain"]
    found = loaded.place(
        [
            Problem(("stages", "tokens", "validation"), "too little text"),
            Problem(("stages", "pretrain", "schedule", "min_lr"), "min_lr is above lr"),
        ]
    )
    assert [(one.place.line, one.path) for one in found] == [(6, "stages.tokens.validation")]


def test_every_field_of_the_architecture_beside_the_model_belongs_in_it(tmp_path: Path) -> None:
    fields = [name for name in config_fields() if name not in ("name", "block_size")]
    beside = "".join(f"    {name}: 4\n" for name in fields)
    text = TRAINING.replace("    data: tokens\n", f"    data: tokens\n{beside}")
    found = load(write(tmp_path / "spec.yaml", text)).problems
    assert [it.suggestion for it in found if it.code == "E101"] == [f"model.{it}" for it in fields]
