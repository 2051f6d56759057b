"""The resolved spec is the same experiment, whatever it was composed of."""

import json
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.experiment.experiment import Experiment
from continuum.loading.load import Document, load_document, load_experiment
from continuum.loading.render import rendered_lines, resolve
from tests.commands import Cli
from tests.experiments import small_stages
from tests.in_process import plan_experiment
from tests.shipped import NAMES
from tests.spec.documents import HEAD, TRAINING, write

NUM_ROUNDS = 100
NASTY = [
    "plain", "", " ", "1", "1.5", "1e3", "true", "null", "~", "yes", "- a", "a: b", "a:b", "# c",
    "a # b", "{a: 1}", "[1]", "'q'", '"q"', "it's", "a\\nb", "two\nlines", "tab\there", "${x}",
    "$${x}", "${", "$", "%", "@a", "`", "*a", "&a", "!t", "|", ">", "?", "...", "---", "<<", "=",
    "é\u2028ü\U0001f600", "0x1F", ".5", "a,b", "a]b", "x:", ":x", "C:\\dir", "-1", "1_000",
    "2024-01-01", "\u00a0", "\\",
]  # fmt: skip


def rendered(document: Document, *, defaults: bool = False) -> str:
    lines = rendered_lines(document, resolve(document, defaults=defaults))
    return "\n".join(line.text for line in lines) + "\n"


def fingerprints(experiment: Experiment, folder: Path) -> dict[str, str]:
    plan = plan_experiment(experiment, folder.resolve())
    return {planned.name: planned.fingerprint for planned in plan}


def assert_same(path: Path, *overrides: str) -> None:
    """Loading what is rendered gives the same experiment, with defaults or without."""
    document = load_document(path, overrides)
    for defaults in (False, True):
        again = write(path.parent / "rendered.yaml", "")
        again.write_text(rendered(document, defaults=defaults), encoding="utf-8")
        loaded = load_document(again)
        assert loaded.experiment.model_copy(update={"vars": {}}) == document.experiment.model_copy(
            update={"vars": {}}
        )
        assert loaded.experiment.in_order() == document.experiment.in_order()
        assert fingerprints(loaded.experiment, path.parent) == fingerprints(
            document.experiment, path.parent
        )
        assert rendered(loaded, defaults=defaults) == again.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_experiment_is_rendered_to_itself(name: str, shipped: Path) -> None:
    assert_same(shipped / "experiments" / name / "experiment.yaml", "seed=3")


def as_yaml(document: dict[str, Any]) -> str:
    """JSON is YAML, but for letters that YAML takes for ends of lines."""
    return json.dumps(document, ensure_ascii=False, indent=1).replace("\u2028", "\\u2028")


class Composer:
    """Random experiments over random files: values move to bases and into variables."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.variables: dict[str, Any] = {}

    def write(self) -> Path:
        stages = json.loads(json.dumps(small_stages()))  # its parts are shared
        document: dict[str, Any] = {"continuum": 1, "name": "random", "stages": stages}
        for stage in document["stages"].values():
            stage["description"] = self.random.choice(NASTY).replace("${", "$${")
            self._shuffle(stage)
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "data" / "a.txt").write_text("some text\n" * 50, encoding="utf-8")
        document["stages"]["code"]["sources"] = [{"path": "data/a.txt"}]
        self._hide_in_variables(document["stages"])
        base, own = self._split(document)
        write(self.folder / "bases" / "base.yaml", as_yaml(base))
        own |= {"extends": "bases/base.yaml", "vars": self.variables}
        return write(self.folder / "spec.yaml", as_yaml(own))

    def _shuffle(self, stage: dict[str, Any]) -> None:
        items = list(stage.items())
        self.random.shuffle(items)
        stage.clear()
        stage.update(items)

    def _hide_in_variables(self, below: Any) -> None:
        """Some values become `${v1}`, some texts `…${v2}…`."""
        for key, value in list(below.items() if isinstance(below, dict) else enumerate(below)):
            if isinstance(value, (dict, list)):
                self._hide_in_variables(value)
            elif self.random.random() < 0.2 and "${" not in str(value):
                name = "".join(self.random.choices(string.ascii_lowercase, k=8))
                self.variables[name] = value
                below[key] = f"${{{name}}}"

    def _split(self, whole: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Each key to the base, to the file, or (with another value in the base) to both."""
        base: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in whole.items():
            if isinstance(value, dict) and value:
                base[key], own[key] = self._split(value)
                if not base[key]:
                    del base[key]
            elif self.random.random() < 0.5 and key != "sources":
                base[key] = value
            else:
                own[key] = value
                if self.random.random() < 0.5 and key != "sources":
                    base[key] = "replaced"
        return base, own


@pytest.mark.parametrize("block", range(4))
def test_a_random_composition_is_rendered_to_itself(block: int, tmp_path: Path) -> None:
    for seed in range(block * NUM_ROUNDS // 4, (block + 1) * NUM_ROUNDS // 4):
        path = Composer(seed, tmp_path / str(seed)).write()
        assert_same(path, f"seed={seed}", "stages.pretrain.optimizer={lr: 2e-3, eps: 1e-8}")


@pytest.mark.parametrize("text", NASTY)
def test_any_text_survives(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", "")
    quoted = yaml.safe_dump(text.replace("${", "$${"), default_style='"', allow_unicode=True)
    path.write_text(TRAINING + f"description: {quoted}", encoding="utf-8")
    document = load_document(path)
    assert document.experiment.description == text
    again = write(tmp_path / "again.yaml", "")
    again.write_text(rendered(document), encoding="utf-8")
    assert load_experiment(again).description == text


def test_keys_stay_in_their_order_and_paths_lead_to_the_same_files(tmp_path: Path) -> None:
    stages = "stages:\n  b: {sources: [{path: x/b.txt}], kind: fetch}\n  a: {kind: fetch, "
    write(tmp_path / "bases" / "base.yaml", stages + "sources: [{path: /srv/a.txt}]}\n")
    path = write(tmp_path / "spec.yaml", "extends: bases/base.yaml\nseed: 1\n" + HEAD)
    assert rendered(load_document(path)) == (
        "continuum: 1\nname: toy\nseed: 1\nstages:\n"
        "  b:\n    kind: fetch\n    sources:\n      - path: bases/x/b.txt\n"
        "  a:\n    kind: fetch\n    sources:\n      - path: /srv/a.txt\n"
    )


class TestOrigins:
    def write(self, folder: Path) -> Path:
        write(folder / "bases" / "base.yaml", TRAINING)
        text = """\
            extends: ../bases/base.yaml
            vars: {rate: 2e-3}
            stages:
              pretrain:
                optimizer: {lr: "${rate}"}
            """
        return write(folder / "toy" / "experiment.yaml", text)

    def test_each_line_says_where_it_comes_from(self, tmp_path: Path, cli: Cli) -> None:
        path = self.write(tmp_path)
        options = (
            "--defaults",
            "--set",
            "stages.pretrain.max_tokens=2M",
            "--set",
            "vars.rate=4e-3",
        )
        shown = cli("render", path, "--origins", *options).stdout
        lines = [line.strip() for line in shown.splitlines()]
        columns = {line.index("  # ") for line in shown.splitlines() if len(line) < 60}
        found = dict(re.split(r"\s+# ", line) for line in lines)
        assert found["name: toy"] == "../bases/base.yaml:2"
        assert found["pretrain:"] == "experiment.yaml:4"
        assert found["max_tokens: 2M"] == "--set stages.pretrain.max_tokens=2M"
        assert found["lr: 0.004"] == "experiment.yaml:5, rate from --set vars.rate=4e-3"
        assert found["warmup: 5%"] == "default"
        assert len(columns) == 1

    def test_the_document_for_programs_has_the_origins_beside_it(
        self, tmp_path: Path, cli: Cli
    ) -> None:
        path = self.write(tmp_path)
        made = json.loads(cli("render", path, "--json", "--set", "seed=3").stdout)
        assert made["schema"] == "continuum.rendered/1"
        assert made["document"]["stages"]["pretrain"]["optimizer"] == {"lr": 2e-3}
        assert made["document"]["seed"] == 3
        lr = made["origins"]["stages.pretrain.optimizer.lr"]
        assert lr == {"file": str(path), "line": 5, "column": 21}
        assert made["origins"]["seed"]["file"] == "--set seed=3"

    def test_what_is_printed_is_a_spec(self, tmp_path: Path, cli: Cli) -> None:
        path = self.write(tmp_path)
        shown = cli("render", path, "--origins").stdout
        again = path.with_name("again.yaml")
        again.write_text(shown, encoding="utf-8")
        assert fingerprints(load_experiment(again), path.parent) == fingerprints(
            load_experiment(path), path.parent
        )
