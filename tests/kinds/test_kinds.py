"""A new kind of stage touches no other file: it is a file in the package, or comes from another."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import continuum
from continuum.training.weights import load_weights
from tests.commands import Cli, only
from tests.experiments import TOY_MODEL, TRAINING, small_stages
from tests.kinds.offering import GROUP, offer
from tests.spec.documents import HEAD, write

PACKAGE = Path(continuum.__file__).parent
MODULE = Path(__file__).with_name("new_kinds.py")
KINDS = {"recite": "Recite", "average": "Average", "finetune": "Finetune"}
SPEC = HEAD + "stages:\n  a: {kind: fetch, sources: [{python: keyword.py}]}\n"
CHECKPOINTS = ["pretrain@step-10", "pretrain"]


@dataclass(frozen=True)
class Extended:
    """An experiment of the new kinds, and a command that knows them."""

    root: Path
    cli: Cli

    @property
    def folder(self) -> Path:
        return self.root / "extended"

    def write(self, name: str, checkpoints: list[str], **more: dict[str, Any]) -> Path:
        """The experiment with these checkpoints to average, and other stages; in its own folder."""
        path = self.root / name / "experiment.yaml"
        path.parent.mkdir(parents=True)
        small = small_stages()
        stages = {
            "prose": {"kind": "recite", "text": "So much depends upon", "times": 2000},
            **{stage: small[stage] for stage in ("tokenizer", "tokens", "pretrain")},
            "average": {"kind": "average", "checkpoints": checkpoints},
            "tuned": {"kind": "finetune", "from": "average", "data": "tokens", "max_steps": 2},
        }
        stages["tuned"] |= TRAINING
        document = {"continuum": 1, "name": "extended", "stages": stages | more}
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def json(self, *arguments: object) -> Any:
        return json.loads(self.cli(*arguments, "--json").stdout)


def copied(root: Path) -> dict[str, str]:
    """A copy of continuum with one more file, found before the installed one."""
    shutil.copytree(PACKAGE, root / "continuum", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(MODULE, root / "continuum" / "stages" / MODULE.name)
    return {"PYTHONPATH": str(root)}


def installed(root: Path) -> dict[str, str]:
    """A package that pip has built and installed."""
    source, target = root / "source", root / "site"
    source.mkdir()
    shutil.copy(MODULE, source)
    offered = "".join(f'{kind} = "{MODULE.stem}:{cls}"\n' for kind, cls in KINDS.items())
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "recitals"\nversion = "2.5"\n'
        f'[project.entry-points."{GROUP}"]\n{offered}'
        '[tool.setuptools]\npy-modules = ["new_kinds"]\n',
        encoding="utf-8",
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--target", str(target), str(source)]
    subprocess.run(pip, check=True)
    return {"PYTHONPATH": str(target)}


WAYS = [pytest.param(copied, marks=pytest.mark.slow), installed]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.__name__)
def extended(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Extended]:
    root = tmp_path_factory.mktemp("kinds")
    # The model is tiny: on a busy machine more threads than one only wait for each other.
    made = Extended(root, Cli({**request.param(root), "OMP_NUM_THREADS": "1"}))
    made.write("extended", CHECKPOINTS)
    with pytest.MonkeyPatch.context() as patch:
        # `python -m` looks into the working folder before PYTHONPATH.
        patch.chdir(root)
        yield made


@pytest.fixture(scope="module")
def finished(extended: Extended) -> Path:
    """The experiment's folder after a run."""
    extended.cli("run", extended.folder)
    return extended.folder


def test_a_file_in_the_package_is_a_kind(tmp_path: Path) -> None:
    made = Extended(tmp_path, Cli(copied(tmp_path)))
    path = made.write("extended", CHECKPOINTS)
    os.chdir(tmp_path)
    assert "6 stages" in made.cli("validate", path).stdout


def test_nobody_else_knows_the_kinds(extended: Extended) -> None:
    refused = Cli()("validate", extended.folder, expect=3).stderr
    assert "unknown kind 'recite'" in refused


def test_the_kinds_are_validated_and_planned(extended: Extended) -> None:
    assert "valid, 6 stages" in extended.cli("validate", extended.folder).stdout
    planned = extended.cli("plan", extended.folder).stdout
    rows = [line.split()[:2] for line in planned.splitlines()]
    assert [row for row in rows if row[1:] in (["recite"], ["average"], ["finetune"])] == [
        ["prose", "recite"],
        ["average", "average"],
        ["tuned", "finetune"],
    ]


def test_lint_asks_the_kinds(extended: Extended) -> None:
    told = " ".join(extended.cli("validate", extended.folder).stderr.split())
    assert "W003" in told
    assert "the latest edition may be another tomorrow" in told
    assert "W008" in told, "a training that saves after its end"


def test_schema_and_explain_know_the_kinds(extended: Extended, tmp_path: Path) -> None:
    extended.cli("schema", "--out", tmp_path / "schema.json")
    schema = (tmp_path / "schema.json").read_text(encoding="utf-8")
    assert all(f'"{kind}"' in schema for kind in KINDS)
    assert "The edition of the text." in schema
    assert "Train weights on, from the beginning" in extended.cli("explain", "finetune").stdout
    assert "What is recited." in extended.cli("explain", "stages.recite.text").stdout


def test_diff_compares_fields_of_the_kinds(extended: Extended, tmp_path: Path) -> None:
    other = extended.write(tmp_path.name, CHECKPOINTS)
    text = other.read_text(encoding="utf-8").replace("times: 2000", "times: 2001")
    other.write_text(text, encoding="utf-8")
    told = extended.cli("diff", extended.folder, other.parent).stdout
    assert "2000" in told
    assert "2001" in told
    assert "tuned" in told, "it runs again, too"


@pytest.mark.parametrize(
    ("checkpoints", "complaint"),
    [
        pytest.param(["pretrain"], "at least 2", id="one"),
        pytest.param(["pretrain", "tokens"], "'tokens' outputs a tokenized dataset", id="no model"),
        pytest.param(["pretrain", "pretran"], "did you mean 'pretrain'", id="misspelt"),
        pytest.param(["pretrain", "pretrain@final"], "is listed twice", id="twice"),
    ],
)
def test_errors_are_found_with_their_line(
    extended: Extended, tmp_path: Path, checkpoints: list[str], complaint: str
) -> None:
    path = extended.write(tmp_path.name, checkpoints)
    lines = path.read_text().splitlines()
    refused = " ".join(extended.cli("validate", path, expect=3).stderr.split())
    assert complaint in refused
    number = int(refused.partition("experiment.yaml:")[2].partition(":")[0])
    first = lines.index("    checkpoints:")
    assert number - 1 in range(first, first + 1 + len(checkpoints))


def test_the_plan_refuses_to_average_different_models(extended: Extended, tmp_path: Path) -> None:
    deeper = {**small_stages()["pretrain"], "model": {**TOY_MODEL, "n_layer": 3}}
    path = extended.write(tmp_path.name, ["pretrain", "deeper"], deeper=deeper)
    refused = extended.cli("plan", path, expect=4).stderr
    assert "'deeper' and 'pretrain' are different models" in " ".join(refused.split())


def test_the_kinds_run(extended: Extended, finished: Path) -> None:
    first = load_weights(only(finished, "runs/pretrain-*/checkpoints/step-00000010"))
    second = load_weights(only(finished, "runs/pretrain-*/output"))
    mean = load_weights(only(finished, "runs/average-*/output"))
    assert mean.keys() == first.keys()
    for name, tensor in mean.items():
        assert not torch.equal(first[name], second[name])
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
    rows = only(finished, "runs/tuned-*/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert max(json.loads(row)["step"] for row in rows) == 2
    assert extended.cli("run", finished).stdout.count("reused") == 6


def test_the_lineage_leads_through_the_kinds_to_the_text(
    extended: Extended, finished: Path
) -> None:
    tree = extended.cli("lineage", finished).stdout
    assert tree.index("tuned") < tree.index("average") < tree.index("recital")
    after = tree[tree.index("derived average  model weights") :]
    assert "derived pretrain@step-10  training checkpoint" in after
    assert "derived pretrain@step-20  training checkpoint" in after


def test_an_attempt_records_whose_code_it_ran(extended: Extended, finished: Path) -> None:
    lines = only(finished, "runs/prose-*/attempts.jsonl").read_text(encoding="utf-8").splitlines()
    (code,) = [line for line in map(json.loads, lines) if line["event"] == "code"]
    if "site" in extended.cli.environment["PYTHONPATH"]:
        assert code["packages"]["new_kinds"]["version"] == "2.5"
    else:
        assert "new_kinds" not in code["packages"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        pytest.param("recite", "import nowhere\n", "No module named 'nowhere'", id="broken"),
        pytest.param("recite", "Recite = 7\n", "not a subclass of", id="no kind"),
        pytest.param("recital", MODULE.read_text(), "`kind` must be Literal['recital']", id="name"),
        pytest.param(
            "pretrain",
            MODULE.read_text().replace('"recite"', '"pretrain"'),
            "continuum.stages.pretrain.Pretrain already is 'pretrain'",
            id="clash",
        ),
    ],
)
def test_a_package_with_a_kind_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, text: str, complaint: str
) -> None:
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    cli = Cli(offer(tmp_path / "site", tmp_path / "mine.py", **{name: "Recite"}))
    refused = cli("validate", write(tmp_path / "experiment.yaml", SPEC), expect=4)
    told = " ".join(refused.stderr.split())
    assert f"invalid stage kind '{name}' (mine:Recite) of the package mine 1.0" in told
    assert complaint in told
    assert refused.stdout == ""


def test_two_packages_with_one_kind_are_named(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    shutil.copy(MODULE, other)
    paths = [
        offer(tmp_path / "a", MODULE, recite="Recite")["PYTHONPATH"],
        offer(tmp_path / "b", other, recite="Recite")["PYTHONPATH"],
    ]
    cli = Cli({"PYTHONPATH": os.pathsep.join(paths)})
    refused = cli("validate", write(tmp_path / "experiment.yaml", SPEC), expect=4)
    told = " ".join(refused.stderr.split())
    assert "of the package other 1.0" in told
    assert "new_kinds.Recite already is 'recite'" in told


def test_no_module_but_its_own_names_a_kind() -> None:
    """The registry, and whatever offers a choice to people, finds kinds by asking it."""
    named = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "stages"
        for line in path.read_text(encoding="utf-8").splitlines()
        if "continuum.stages." in line and "import" in line
    ]
    assert named == []
