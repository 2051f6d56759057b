"""`continuum diff` on a scripted Git repository: ten kinds of change, each with what it means."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Cli
from tests.diff.repository import Repository
from tests.experiments import small_flow

ALL = ["books", "tokenizer", "tokens", "pretrain", "longer", "weights"]
TOKENS_PER_STEP = 32 * 8


def by_status(document: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for stage in document["stages"]:
        found.setdefault(stage["status"], []).append(stage["name"])
    return found


def changes(document: dict[str, Any], stage: str) -> list[tuple[str, Any, Any, str]]:
    (entry,) = [entry for entry in document["stages"] if entry["name"] == stage]
    return [(c["path"], c["old"], c["new"], c["role"]) for c in entry["changes"]]


def reshape(repository: Repository) -> None:
    repository.edit("max_steps: 30", "max_steps: 50")


def in_comments_only(repository: Repository) -> None:
    text = repository.spec.read_text().replace("seed: 1\n", "seed: 0x1   # the first\n")
    repository.spec.write_text("# reviewed\n" + text)


def runtime_only(repository: Repository) -> None:
    repository.edit("    max_steps: 20", "    runtime: {micro_batch_size: 8}\n    max_steps: 20")


def description_only(repository: Repository) -> None:
    repository.edit("name: studied", "name: studied\ndescription: Families.")


def corpus_bytes(repository: Repository) -> None:
    with (repository.folder / "data" / "a.txt").open("a") as file:
        file.write("Every unhappy family is unhappy in its own way.")


def added_file(repository: Repository) -> None:
    (repository.folder / "data" / "b.txt").write_text("Everything was in confusion. " * 30)


def through_a_variable(repository: Repository) -> None:
    repository.edit("vars: {rate: 1e-3}", "vars: {rate: 2e-3}")


def through_a_base(repository: Repository) -> None:
    (repository.path / "base.yaml").write_text("stages: {pretrain: {schedule: {kind: constant}}}\n")
    repository.edit("continuum: 1\n", "continuum: 1\nextends: ../../base.yaml\n")


def stage_added(repository: Repository) -> None:
    with repository.spec.open("a") as file:
        file.write("  early: {kind: convert, from: pretrain}\n")


def stage_removed(repository: Repository) -> None:
    repository.edit("  weights: {kind: convert, from: longer}\n", "")


def other_seed(repository: Repository) -> None:
    repository.edit("seed: 1", "seed: 2")


@pytest.mark.parametrize(
    ("change", "again", "field"),
    [
        (reshape, ["longer", "weights"], ("longer", ("max_steps", 30, 50, "identity"))),
        (in_comments_only, [], None),
        (
            runtime_only,
            [],
            ("pretrain", ("runtime.micro_batch_size", 4, 8, "runtime")),
        ),
        (description_only, [], None),
        (corpus_bytes, ALL, None),
        (added_file, ALL, None),
        (
            through_a_variable,
            ["pretrain", "longer", "weights"],
            ("pretrain", ("optimizer.lr", 0.001, 0.002, "identity")),
        ),
        (
            through_a_base,
            ["pretrain", "longer", "weights"],
            ("pretrain", ("schedule.kind", "cosine", "constant", "identity")),
        ),
        (stage_added, ["early"], None),
        (stage_removed, [], None),
        (
            other_seed,
            ["pretrain", "longer", "weights"],
            ("pretrain", ("seeds.init", 1, 2, "identity")),
        ),
    ],
)
def test_a_change_runs_again_what_it_must_and_nothing_else(
    repository: Repository,
    change: Callable[[Repository], None],
    again: list[str],
    field: tuple[str, tuple[str, Any, Any, str]] | None,
) -> None:
    change(repository)
    repository.commit()
    document = repository.document()
    assert document["schema"] == "continuum.diff/1"
    assert document["run_again"] == again
    if field is not None:
        assert field[1] in changes(document, field[0])
    assert document["is_empty"] == (change is in_comments_only)


def test_what_is_only_done_in_another_way_is_reused(repository: Repository) -> None:
    runtime_only(repository)
    repository.commit()
    found = by_status(repository.document())
    assert found == {"same": [name for name in ALL if name != "pretrain"], "reused": ["pretrain"]}
    assert "no stage to run; 6 unchanged" in repository.diff()


def test_values_are_spelled_as_in_yaml(repository: Repository) -> None:
    repository.edit(
        "    max_steps: 20",
        "    runtime: {deterministic: true}\n    max_norm: 9\n    max_steps: 20",
    )
    repository.edit('lr: "${rate}"', 'lr: "${rate}", betas: [0.9, 0.99]')
    repository.edit("name: studied", 'name: studied\ndescription: "null"')
    repository.commit()
    told = repository.diff()
    for change in (
        "runtime.deterministic changed: false -> true (runtime)",
        "optimizer.betas changed: (absent) -> [0.9, 0.99]",
        "max_norm changed: 1.0 -> 9.0",
        'description changed: (absent) -> "null" (cosmetic)',
    ):
        assert change in told
    table = repository.diff("--md")
    assert "| `stages.pretrain.runtime.deterministic` | `false` | `true` | runtime |" in table
    assert '| `description` | `(absent)` | `"null"` | cosmetic |' in table


def test_a_stage_is_reused_only_where_its_run_is(tmp_path: Path) -> None:
    folder, cli = tmp_path / "toy", Cli()
    folder.mkdir()
    spec = folder / "experiment.yaml"
    spec.write_text(small_flow(only=("prose",)), encoding="utf-8")
    same = tmp_path / "same.yaml"
    same.write_text(small_flow(only=("prose",)).replace("name: toy", "name: other"), "utf-8")
    assert "; 1 unchanged" in cli("diff", same, spec).stdout
    cli("run", folder)
    assert "; 1 reused" in cli("diff", same, spec).stdout
    spec.write_text(
        spec.read_text().replace("pydoc_data/topics.py", "keyword.py"), encoding="utf-8"
    )
    cli("run", folder)
    assert "1 stage runs again: prose, 1 of which ran already" in cli("diff", same, spec).stdout


def replaced_data(repository: Repository) -> None:
    repository.edit(
        "  pretrain:\n",
        "  other: {kind: tokenize, corpus: books, tokenizer: tokenizer, "
        "validation: {fraction: 0.2}}\n"
        "  pretrain:\n",
    )
    repository.edit("    data: tokens", "    data: other")


def another_rate(repository: Repository) -> None:
    repository.edit("vars: {rate: 1e-3}", "vars: {rate: 3e-4}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (through_a_variable, "learning rate of pretrain doubled; 3 stages run again"),
        (another_rate, "learning rate of pretrain changed from 0.001 to 0.0003; 3 stages"),
        (corpus_bytes, "files of books changed; 6 stages run again: books, tokenizer"),
        (replaced_data, "data of pretrain replaced; "),
        (reshape, "longer trains 7,680 tokens instead of 2,560; 2 stages run again"),
        (other_seed, "seed changed; 3 stages run again: pretrain, longer, weights (7,680 training"),
        (stage_added, "1 new stage to run: early"),
        (stage_removed, "1 stage removed; no stage to run; 5 unchanged"),
        (through_a_base, "schedule.kind of pretrain changed; 3 stages run again"),
    ],
)
def test_the_first_line_says_what_matters(
    repository: Repository, change: Callable[[Repository], None], words: str
) -> None:
    change(repository)
    repository.commit()
    first = repository.diff().splitlines()[0]
    assert first.startswith(words)
    bold = repository.diff("--md").splitlines()[2]
    assert bold.startswith(f"**{words[0].upper()}{words[1:]}")


def test_a_field_that_several_stages_have_is_listed_once(repository: Repository) -> None:
    early = repository.spec.read_text().partition("  pretrain:\n")[2].partition("  longer:")[0]
    repository.edit("  longer:", f"  second:\n{early}  longer:")
    repository.commit()
    repository.edit("vars: {rate: 1e-3}", "vars: {rate: 2e-3}")
    repository.edit("seed: 1", "seed: 2")
    repository.commit()
    for text in (repository.diff(), repository.diff("--md")):
        assert text.count("stages.{pretrain,second}.optimizer.lr") == 1
        assert len(re.findall(r"0\.001`? (?:->|\|) `?0\.002", text)) == 2  # and the variable
        assert text.count("seeds.init") == 2  # as a reason of either stage


def test_quiet_prints_nothing_and_exits_as_it_must(repository: Repository) -> None:
    reshape(repository)
    sides = ("HEAD:studies/one", "studies/one")
    for words in (("diff", "-q", *sides), ("--quiet", "diff", *sides)):
        done = repository.cli(*words, expect=10)
        assert (done.stdout, done.stderr) == ("", "")
    assert repository.cli("diff", "-q", "HEAD:studies/one", "HEAD:studies/one").stdout == ""


def test_the_cause_of_each_stage_is_named(repository: Repository) -> None:
    corpus_bytes(repository)
    repository.commit()
    causes = {s["name"]: [c["code"] for c in s["causes"]] for s in repository.document()["stages"]}
    assert causes["books"] == ["input-changed"]
    assert causes["longer"] == ["upstream-changed", "upstream-changed"]  # its parent, its data
    told = repository.diff()
    assert re.search(r"content of 0/a\.txt changed: [0-9a-f]{12} -> [0-9a-f]{12}", told)


def test_added_and_removed_stages(repository: Repository) -> None:
    stage_added(repository)
    stage_removed(repository)
    repository.commit()
    found = by_status(repository.document())
    assert (found["added"], found["removed"]) == (["early"], ["weights"])


def test_a_rename_is_told_as_one(repository: Repository) -> None:
    text = repository.spec.read_text()
    text = text.replace("  tokens:", "  words:").replace("data: tokens", "data: words")
    text = text.replace("  weights:", "  final_weights:")
    repository.spec.write_text(text.replace("max_steps: 20", "max_tokens: 5120"))
    repository.commit()
    document = repository.document()
    renamed = {s["name"]: s["was"] for s in document["stages"] if s["status"] == "renamed"}
    assert renamed == {"words": "tokens", "final_weights": "weights"}
    assert document["run_again"] == []
    assert not {"added", "removed", "again"} & by_status(document).keys()
    assert ("data", "tokens", "words", "spelling") in changes(document, "pretrain")
    assert ("max_steps", 20, "(absent)", "spelling") in changes(document, "pretrain")
    told = repository.diff()
    assert "renamed: tokens -> words" in told
    assert "no stage to run; 6 unchanged" in told
    assert "renamed: tokens" in repository.diff("--md").replace("\\", "")


def test_the_cost_is_that_of_the_work_and_of_the_change(repository: Repository) -> None:
    reshape(repository)
    repository.commit()
    document = repository.document()
    assert document["work"]["tokens"] == (50 - 20) * TOKENS_PER_STEP
    assert document["total_change"]["tokens"] == (50 - 30) * TOKENS_PER_STEP
    assert "+5,120 training tokens" in repository.diff()


def test_a_changed_lock_is_shown_with_its_difference(repository: Repository) -> None:
    path = repository.folder / "continuum.lock"
    text = path.read_text().replace("val_loss: 4.5", "val_loss: 4.25")
    text = text.replace("a111aaaa1111aaaa", "d222dddd2222dddd").replace("2.14.1", "2.15.0")
    path.write_text(text.replace("bbbb", "cccc"))
    repository.commit()
    document = repository.document()
    assert document["run_again"] == []
    assert {(c["stage"], c["what"], c["old"], c["new"]) for c in document["lock"]} == {
        ("", "version", "2.14.1", "2.15.0"),
        ("pretrain", "pin", "a111aaaa1111aaaa", "d222dddd2222dddd"),
        ("pretrain", "metric", 4.5, 4.25),
        ("pretrain", "artifact", "bbbb", "cccc"),
    }
    assert "val_loss 4.5 -> 4.25 (-0.25)" in repository.diff()


def test_markdown_has_tables_and_a_graph_of_the_affected_stages(repository: Repository) -> None:
    reshape(repository)
    repository.commit()
    text = repository.diff("--md")
    graph = text.split("```mermaid\n")[1].split("```")[0]
    nodes = dict(re.findall(r'(s\d+)\["(\w+)<br>', graph))
    assert set(nodes.values()) == {"tokens", "pretrain", "longer", "weights"}
    edges = {(nodes[a], nodes[b]) for a, b in re.findall(r"(s\d+) --> (s\d+)", graph)}
    assert ("longer", "weights") in edges
    assert ("pretrain", "longer") in edges
    assert "| `stages.longer.max_steps` | `30` | `50` | identity |" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in table)


def test_values_cannot_break_out_of_a_markdown_table(repository: Repository) -> None:
    repository.edit("name: studied", 'name: studied\ndescription: "a | b `c` <script>"')
    repository.commit()
    rows = [line for line in repository.diff("--md").splitlines() if "description" in line]
    assert rows == ["| `description` | `(absent)` | `a \\| b 'c' <script>` | cosmetic |"]


def test_the_exit_code_tells_when_it_is_asked_for(repository: Repository) -> None:
    reshape(repository)
    repository.commit()
    side = "{}:studies/one"
    repository.cli(
        "diff", side.format("HEAD~1"), side.format("HEAD"), "--detailed-exitcode", expect=10
    )
    repository.cli("diff", side.format("HEAD"), side.format("HEAD"), "--detailed-exitcode")


def test_folders_specs_and_relative_paths_name_the_same(repository: Repository) -> None:
    cli = repository.cli
    assert "no differences" in cli("diff", "studies/one", "HEAD:./studies/one").stdout
    copy = repository.path / "copy"
    shutil.copytree(repository.folder, copy)
    assert "no differences" in cli("diff", copy, repository.spec).stdout


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("nowhere", "nowhere: no such experiment"),
        ("HEAD:nowhere", "HEAD:nowhere: no such experiment"),
        ("v9.9:studies/one", "v9.9: no such revision"),
    ],
)
def test_a_side_that_is_not_there_is_told(repository: Repository, before: str, told: str) -> None:
    done = repository.cli("diff", before, "studies/one", expect=2)
    assert told in done.stderr


def test_mistakes_on_a_side_name_the_revision(repository: Repository) -> None:
    repository.edit("max_steps: 30", "max_step: 30")
    repository.commit()
    done = repository.cli("diff", "HEAD~1:studies/one", "HEAD:studies/one", expect=3)
    assert "HEAD:studies/one/experiment.yaml:17:" in done.stderr
    assert "did you mean 'max_steps'?" in done.stderr


def test_outside_a_repository_a_revision_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = Cli()("diff", "HEAD:a", "HEAD:b", expect=2)
    assert "not a git repository" in done.stderr


def test_a_hook_of_another_repository_changes_nothing(
    repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repository.edit("max_steps: 30", "max_steps: 40")
    repository.commit()
    expected = repository.diff()
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    variables = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other)}
    inside = Repository(repository.path, Cli(environment=variables))
    assert inside.diff() == expected
