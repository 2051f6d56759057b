"""`continuum validate` as a process: formats, exit codes, loudness, colours."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.lint.test_rules import SPECS
from tests.spec.documents import TRAINING, write

WARNED = SPECS / "W002-steps.yaml"
CLEAN = SPECS / "W002-steps.right.yaml"


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A spec with one mistake, on line 14."""
    text = TRAINING.replace("lr: 1e-3", "lr: fast") + "    evaluate: null\n"
    return write(tmp_path / "specs" / "wrong.yaml", text)


def test_a_clean_spec_is_one_line(cli: Cli) -> None:
    done = cli("validate", CLEAN)
    assert (done.stdout, done.stderr) == ("lint: valid, 4 stages\n", "")


def test_a_warning_goes_to_stderr_and_does_not_fail(cli: Cli) -> None:
    done = cli("validate", WARNED)
    assert done.stdout == "lint: valid, 4 stages\n"
    assert f"{WARNED}:16:38: warning W002: warm-up takes 5 of 20 steps" in done.stderr


def test_a_plan_tells_a_warning_in_one_line(cli: Cli) -> None:
    told = [line for line in cli("plan", WARNED).stdout.splitlines() if "warning" in line]
    (line,) = told
    assert line.startswith(f"{WARNED}:16:38: warning W002: warm-up takes 5 of 20 steps")
    assert "warning" not in cli("plan", CLEAN).stdout


def test_strict_makes_an_error_of_a_warning(cli: Cli) -> None:
    done = cli("validate", "--strict", WARNED, expect=3)
    assert done.stdout == ""
    assert f"{WARNED}:16:38: error W002: " in done.stderr
    assert cli("validate", "--strict", CLEAN).stdout == "lint: valid, 4 stages\n"


@pytest.mark.parametrize(
    ("arguments", "code", "ok", "severities"),
    [
        ((CLEAN,), 0, True, []),
        ((WARNED,), 0, True, ["warning"]),
        ((WARNED, "--strict"), 3, False, ["error"]),
        ((WARNED, "--set", "seed=x", "--set", "sead=1"), 3, False, ["error", "error"]),
    ],
    ids=["clean", "warned", "strict", "wrong"],
)
def test_json_is_one_document(
    arguments: tuple[object, ...], code: int, ok: bool, severities: list[str], cli: Cli
) -> None:
    done = cli("validate", "--format", "json", *arguments, expect=code)
    document = json.loads(done.stdout)
    assert done.stderr == ""
    assert document.keys() == {"schema", "ok", "diagnostics"}
    assert (document["schema"], document["ok"]) == ("continuum.diagnostics/1", ok)
    assert [found["severity"] for found in document["diagnostics"]] == severities
    for found in document["diagnostics"]:
        wanted = {"code", "severity", "message", "file", "line", "column", "path", "suggestion"}
        assert found.keys() == wanted


def test_github_gets_a_path_from_the_root_of_the_checkout(
    wrong: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wrong.parents[1] / ".git").mkdir()
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.chdir(wrong.parent)
    cli.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = cli("validate", "--format", "github", "wrong.yaml", expect=3)
    assert done.stdout == (
        "::error file=specs/wrong.yaml,line=14,col=21,title=E103::lr must be a number, not 'fast'\n"
    )


def test_the_environment_chooses_the_format_of_other_commands(wrong: Path, cli: Cli) -> None:
    cli.environment |= {"CONTINUUM_FORMAT": "json"}
    planned = cli("plan", wrong, expect=3)
    assert json.loads(planned.stdout)["diagnostics"][0]["code"] == "E103"
    assert planned.stderr == ""
    assert json.loads(cli("validate", wrong, expect=3).stdout)["ok"] is False
    assert "error E103" in cli("validate", wrong, "--format", "human", expect=3).stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("/dev/null", "/dev/null: not a regular file"),
        ("-", "a spec is not read from standard input, because its folder holds its runs"),
        ("missing.yaml", "missing.yaml: no such file"),
        ("bare", "bare/experiment.yaml: no such file"),
        ("other", "other/experiment.yaml: no such file; found train.yaml"),
        ("hidden", "hidden/experiment.yaml: no such file; found experiment.yaml.txt"),
        ("other/trian.yml", "other/trian.yml: no such file; found train.yaml"),
    ],
)
def test_what_is_not_a_spec_is_named(
    spec: str, said: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare").mkdir()
    write(Path("other/train.yaml"), TRAINING)
    write(Path("hidden/experiment.yaml.txt"), TRAINING)
    done = cli("validate", spec, expect=2)
    assert done.stderr == f"error: {said}; give an experiment.yaml or its folder\n"


@pytest.mark.parametrize("name", ["continuum.lock", "lineage.json"])
def test_a_record_is_not_read_as_a_spec(name: str, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / name, "continuum_lock: 1\n")
    said = f"error: {tmp_path / name} is a record of runs, not a spec; give its folder\n"
    assert cli("validate", tmp_path / name, expect=2).stderr == said


def test_a_word_where_a_mapping_is_expected_is_shown_as_one(tmp_path: Path, cli: Cli) -> None:
    text = TRAINING.replace("optimizer: {lr: 1e-3}", "optimizer: adamw\n    n_layer: 2")
    path = write(tmp_path / "wrong.yaml", text)
    shown = cli("validate", path, expect=3).stderr
    said = "optimizer must be a mapping such as {name: AdamW, lr: 3e-4}, not 'adamw'"
    assert f"{path}:14:16: error E103: {said}\n" in shown
    assert "unknown key 'n_layer' in stage 'pretrain'\n" in shown
    assert "did you mean 'model.n_layer'?" in shown


def test_an_unknown_format_is_an_error_that_lists_them(wrong: Path, cli: Cli) -> None:
    done = cli("validate", wrong, "--format", "jsn", expect=2)
    said = "error: --format jsn: must be one of human, json, github; did you mean 'json'?\n"
    assert done.stderr == said


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_leaves_results_and_errors(option: str, wrong: Path, cli: Cli) -> None:
    arguments = (option, "validate")
    done = cli(*arguments, WARNED)
    assert (done.stdout, done.stderr) == ("lint: valid, 4 stages\n", "")
    assert "error E103" in cli(*arguments, wrong, expect=3).stderr
    assert "error W002" in cli(*arguments, "--strict", WARNED, expect=3).stderr
    assert cli(*arguments, WARNED, "--format", "json").stdout.count('"W002"') == 1


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_shows_where_an_error_was_raised(option: str) -> None:
    command = [sys.executable, "-m", "continuum", option, "plan", "nowhere.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: nowhere.yaml: no such file")


@pytest.mark.parametrize(
    ("environment", "has_colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    environment: dict[str, str], has_colours: bool, wrong: Path
) -> None:
    main, side = pty.openpty()
    inherited = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "continuum", "validate", str(wrong)],
        stderr=side,
        stdout=subprocess.DEVNULL,
        env={**inherited, "TERM": "xterm", **environment},
    )
    os.close(side)
    shown = b""
    try:
        while piece := os.read(main, 4096):
            shown += piece
    except OSError:
        pass  # the other side was closed: the process has ended
    os.close(main)
    assert process.wait() == 3
    assert b"lr must be a number" in shown
    assert (b"\x1b[31m" in shown) == has_colours


def test_a_full_disk_behind_stdout_is_no_bug() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the device /dev/full is Linux's")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "continuum", "validate", str(CLEAN)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "error: No space left on device\n")


def test_epochs_of_a_finished_dataset_are_exact(tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "experiment.yaml"
    shutil.copy(SPECS / "W001-budget.right.yaml", path)
    assert cli("validate", path).stderr == ""
    text = path.read_text(encoding="utf-8")
    data_alone = text[: text.index("  pretrain:")]
    path.write_text(data_alone, encoding="utf-8")
    made = cli("run", path).stdout
    path.write_text(text, encoding="utf-8")
    assert "bytes per token + " in made
    assert "W001" in cli("validate", path).stderr, "a token of this text has several bytes"
