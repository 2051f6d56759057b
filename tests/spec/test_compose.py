import os
import time
from pathlib import Path

import pytest

from continuum.loading.compose import MAX_CHAIN
from continuum.loading.diagnostics import SpecError
from continuum.loading.load import load_experiment
from tests.spec.documents import BOOKS, HEAD, TRAINING, training, write


class TestExtends:
    def test_mappings_are_merged_deeply(self, tmp_path: Path) -> None:
        write(tmp_path / "base.yaml", TRAINING + "    runtime: {devices: 2, log_every: 5}\n")
        path = write(
            tmp_path / "spec.yaml",
            """\
            extends: base.yaml
            name: child
            stages:
              pretrain: {optimizer: {weight_decay: 0.2}, runtime: {devices: 4}}
            """,
        )
        experiment = load_experiment(path)
        pretrain = experiment.stages["pretrain"]
        assert experiment.name == "child"
        assert (pretrain.optimizer.lr, pretrain.optimizer.arguments) == (
            1e-3,
            {"weight_decay": 0.2},
        )
        assert (pretrain.runtime.devices, pretrain.runtime.log_every) == (4, 5)

    def test_lists_and_plain_values_are_replaced(self, tmp_path: Path) -> None:
        write(tmp_path / "base.yaml", HEAD + BOOKS)
        path = write(
            tmp_path / "spec.yaml",
            """\
            extends: [base.yaml]
            stages: {books: {sources: [{python: ast.py}, {python: cmd.py}]}}
            """,
        )
        sources = load_experiment(path).stages["books"].sources
        assert [source.python for source in sources] == ["ast.py", "cmd.py"]

    def test_a_later_base_wins_and_the_file_itself_wins_over_all(self, tmp_path: Path) -> None:
        write(tmp_path / "a.yaml", "continuum: 1\nname: a\nseed: 1\ndescription: a\n")
        write(tmp_path / "b.yaml", "name: b\nseed: 2\n")
        path = write(tmp_path / "spec.yaml", "extends: [a.yaml, b.yaml]\nname: own\n" + BOOKS)
        experiment = load_experiment(path)
        assert (experiment.name, experiment.seed, experiment.description) == ("own", 2, "a")

    def test_a_base_may_extend_another_file(self, tmp_path: Path) -> None:
        write(tmp_path / "configs" / "all" / "root.yaml", "continuum: 1\nseed: 7\n")
        write(tmp_path / "configs" / "base.yaml", "extends: all/root.yaml\n" + BOOKS)
        path = write(
            tmp_path / "experiments" / "x" / "spec.yaml",
            "name: x\nextends: ../../configs/base.yaml\n",
        )
        assert load_experiment(path).seed == 7

    def test_relative_paths_are_relative_to_the_file_that_says_them(self, tmp_path: Path) -> None:
        write(
            tmp_path / "configs" / "base.yaml",
            "stages: {old: {kind: fetch, sources: [{path: data/old.txt}]}}\n",
        )
        path = write(
            tmp_path / "experiments" / "x" / "spec.yaml",
            """\
            extends: ../../configs/base.yaml
            continuum: 1
            name: x
            stages:
              new: {kind: fetch, sources: [{path: data/new.txt}, {path: /srv/data/far.txt}]}
            """,
        )
        stages = load_experiment(path).stages
        assert stages["old"].sources[0].path == "../../configs/data/old.txt"
        assert [s.path for s in stages["new"].sources] == ["data/new.txt", "/srv/data/far.txt"]

    def test_many_paths_to_one_base_cost_no_more_than_one(self, tmp_path: Path) -> None:
        write(tmp_path / "0.yaml", HEAD + BOOKS)
        for number in range(1, MAX_CHAIN):
            below = f"{number - 1}.yaml"
            write(tmp_path / f"{number}.yaml", f"extends: [{below}, {below}]\n")
        started = time.process_time()
        assert load_experiment(tmp_path / f"{MAX_CHAIN - 1}.yaml").name == "toy"
        assert time.process_time() - started < 1.0

    def test_a_long_chain_of_bases_is_refused(self, tmp_path: Path) -> None:
        for number in range(MAX_CHAIN + 5):
            write(tmp_path / f"{number}.yaml", f"extends: {number + 1}.yaml\n")
        with pytest.raises(SpecError, match=f"longer than {MAX_CHAIN} files"):
            load_experiment(tmp_path / "0.yaml")

    def test_a_name_too_long_for_the_disk_is_reported(self, tmp_path: Path) -> None:
        path = write(tmp_path / "spec.yaml", f"extends: {'x' * 5000}.yaml\n" + HEAD + BOOKS)
        with pytest.raises(SpecError) as caught:
            load_experiment(path)
        assert [found.code for found in caught.value.diagnostics] == ["E302"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_base_is_reported(self, tmp_path: Path) -> None:
        write(tmp_path / "base.yaml", HEAD).chmod(0)
        path = write(tmp_path / "spec.yaml", "extends: base.yaml\n" + BOOKS)
        with pytest.raises(SpecError, match="Permission denied"):
            load_experiment(path)


class TestVariables:
    def load(self, folder: Path, variables: str, python: str) -> str:
        text = (
            f"vars: {variables}\nstages: {{a: {{kind: fetch, sources: [{{python: {python}}}]}}}}\n"
        )
        found = load_experiment(write(folder / "spec.yaml", HEAD + text)).stages["a"].sources[0]
        return str(found.python)

    def test_a_variable_keeps_its_type(self, tmp_path: Path) -> None:
        text = TRAINING.replace("lr: 1e-3", 'lr: "${lr}"').replace("128", '"${length}"')
        path = write(tmp_path / "spec.yaml", "vars: {lr: 3e-4, length: 256}\n" + text)
        pretrain = load_experiment(path).stages["pretrain"]
        assert (pretrain.optimizer.lr, pretrain.sequence_length) == (3e-4, 256)

    def test_variables_stand_anywhere_in_a_text(self, tmp_path: Path) -> None:
        variables = "{dir: email, n: 3, yes: true, none: null}"
        found = self.load(tmp_path, variables, '"${dir}/${n}-${yes}-${none}.py"')
        assert found == "email/3-true-.py"

    def test_variables_may_use_variables_in_any_order(self, tmp_path: Path) -> None:
        assert (
            self.load(tmp_path, '{a: "${b}/x", b: "${c}", c: email}', '"${a}.py"') == "email/x.py"
        )

    def test_a_doubled_dollar_is_a_literal_dollar(self, tmp_path: Path) -> None:
        assert self.load(tmp_path, "{a: x}", '"$${a}-${a}-$a-$$.py"') == "${a}-x-$a-$$.py"

    def test_an_escaped_variable_is_not_filled_in_later(self, tmp_path: Path) -> None:
        assert self.load(tmp_path, '{a: x, b: "$${a}"}', '"${b}.py"') == "${a}.py"

    def test_variables_of_a_base_can_be_replaced(self, tmp_path: Path) -> None:
        base = 'vars: {f: ast}\nstages: {a: {kind: fetch, sources: [{python: "${f}.py"}]}}\n'
        write(tmp_path / "base.yaml", HEAD + base)
        path = write(tmp_path / "spec.yaml", "extends: base.yaml\nvars: {f: cmd}\n")
        assert load_experiment(path).stages["a"].sources[0].python == "cmd.py"
        assert load_experiment(path, ["vars.f=bdb"]).stages["a"].sources[0].python == "bdb.py"


class TestOverrides:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-4", 1e-4),
            ("3", 3.0),
            ("0.5", 0.5),
        ],
    )
    def test_values_are_typed_as_in_yaml(self, text: str, value: float, tmp_path: Path) -> None:
        pretrain = training(tmp_path, f"stages.pretrain.optimizer.lr={text}").stages["pretrain"]
        assert pretrain.optimizer.lr == value

    def test_mappings_and_lists_are_written_as_in_yaml(self, tmp_path: Path) -> None:
        stages = training(
            tmp_path,
            "stages.pretrain.optimizer={lr: 2e-3, betas: [0.8, 0.9]}",
            "stages.pretrain.description='1'",
        ).stages
        assert stages["pretrain"].optimizer.arguments == {"betas": (0.8, 0.9)}
        assert stages["pretrain"].description == "1"

    def test_text_needs_no_quotes_and_may_hold_anything(self, tmp_path: Path) -> None:
        experiment = training(tmp_path, "description=a = b: c # d")
        assert experiment.description == "a = b: c # d"

    def test_absent_mappings_are_made(self, tmp_path: Path) -> None:
        pretrain = training(
            tmp_path,
            "stages.pretrain.runtime.micro_batch_size=2",
            "stages.pretrain.runtime.checkpoint.every=10%",
        ).stages["pretrain"]
        assert pretrain.runtime.micro_batch_size == 2
        assert pretrain.runtime.checkpoint.every.percent == 10

    def test_list_items_are_reached_by_their_number(self, tmp_path: Path) -> None:
        books = training(tmp_path, "stages.books.sources.0.python=ast.py").stages["books"]
        assert books.sources[0].python == "ast.py"

    def test_a_whole_stage_can_be_added(self, tmp_path: Path) -> None:
        experiment = training(tmp_path, "stages.weights={kind: convert, from: pretrain}")
        assert experiment.stages["weights"].from_ == "pretrain"

    def test_null_switches_off(self, tmp_path: Path) -> None:
        assert (
            training(tmp_path, "stages.pretrain.evaluate=null").stages["pretrain"].evaluate is None
        )

    def test_the_last_of_several_wins(self, tmp_path: Path) -> None:
        assert training(tmp_path, "seed=1", "seed=2").seed == 2

    def test_variables_work_in_overrides(self, tmp_path: Path) -> None:
        assert training(tmp_path, "vars.s=9", "seed=${s}").seed == 9

    def test_relative_paths_are_relative_to_where_the_command_is_given(
        self, tmp_path: Path
    ) -> None:
        books = training(tmp_path, "stages.books.sources=[{path: a.txt}]").stages["books"]
        expected = os.path.relpath(Path.cwd() / "a.txt", tmp_path)
        assert books.sources[0].path == expected

    def test_a_mapping_is_replaced_not_merged(self, tmp_path: Path) -> None:
        text = TRAINING.replace("data: tokens", "data: {tokens: 1.0}")
        more = text.replace(
            "  pretrain:",
            "  more: {kind: tokenize, corpus: books, "
            "tokenizer: tokenizer, document: eos, validation: none}\n  pretrain:",
        )
        path = write(tmp_path / "spec.yaml", more)
        experiment = load_experiment(path, ["stages.pretrain.data={more: 0.9, tokens: 0.1}"])
        assert experiment.stages["pretrain"].data == {"more": 0.9, "tokens": 0.1}
        experiment = load_experiment(path, ["stages.pretrain.data={more: 1}"])
        assert experiment.stages["pretrain"].data == {"more": 1.0}

    def test_a_new_stage_can_be_made_key_by_key(self, tmp_path: Path) -> None:
        overrides = ("stages.weights.kind=convert", "stages.weights.from=pretrain")
        assert training(tmp_path, *overrides).stages["weights"].from_ == "pretrain"

    def test_an_error_in_a_new_stage_is_at_the_override(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError) as caught:
            training(tmp_path, "stages.weights.kind=convert")
        (found,) = caught.value.diagnostics
        assert (found.code, str(found.place)) == ("E102", "--set stages.weights.kind=convert")

    def test_a_variable_that_nothing_uses_is_refused(self, tmp_path: Path) -> None:
        text = "vars: {rate: 1e-3}\n" + TRAINING.replace("lr: 1e-3", 'lr: "${rate}"')
        path = write(tmp_path / "spec.yaml", text)
        assert load_experiment(path, ["vars.rate=2e-3"]).stages["pretrain"].optimizer.lr == 2e-3
        with pytest.raises(SpecError) as caught:
            load_experiment(path, ["vars.ratte=2e-3"])
        (found,) = caught.value.diagnostics
        assert (found.code, found.suggestion) == ("E304", "rate")


def test_a_variable_in_extends_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", "vars: {b: base}\nextends: ${b}.yaml\n" + HEAD + BOOKS)
    with pytest.raises(SpecError, match="variables are not substituted in `extends`"):
        load_experiment(path)
