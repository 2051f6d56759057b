"""`.ci/run` and `.ci/full`: every phase runs and is timed, and one that fails fails the run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "deptry", "git", "lint-imports", "mypy", "nvidia-smi", "pip", "pytest", "python", "python3",
    "ruff", "continuum", "slurmctld", "strace",
)  # fmt: skip
SUMMARY = re.compile(r"^(\S+) +exit (\S+) +(\d+) s$", re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts and the README, with stand-ins for the commands: they print what they are."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / ".ci", root / ".ci")
    shutil.copy(ROOT / "README.md", root)
    stand_in = 'case "$0 $*" in *tests.shares) echo 1234 ;; *) echo "${0##*/} $*" ;; esac\n'
    for name in COMMANDS:
        replace(root / "bin" / name, stand_in)
    replace(root / ".ci" / "package", stand_in)
    replace(root / ".ci" / "gpu", stand_in)
    return root


def replace(command: Path, script: str) -> None:
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    command.chmod(0o755)


def play(checkout: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / ".ci" / script), *arguments],
        env={
            **os.environ,
            "PATH": f"{checkout}/bin:{os.environ['PATH']}",
            "CI_LOGS": str(checkout / "logs"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def ends(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The exit code of each phase, from the table at the end."""
    return {name: code for name, code, _ in SUMMARY.findall(done.stdout)}


def log(checkout: Path, phase: str) -> str:
    return (checkout / "logs" / f"{phase}.log").read_text(encoding="utf-8")


def test_all_phases_run_and_are_timed(checkout: Path) -> None:
    done = play(checkout, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    phases = ["debian", "quickstart", "install", "kill", "slurm", "checks", "tests"]
    phases += ["package", "fuzz", "slow", "benchmarks"]
    assert ends(done) == dict.fromkeys(phases, "0")
    assert re.search(r"^total +\d+ s, 0 phase\(s\) failed; logs: ", done.stdout, re.MULTILINE)


def test_the_commands_are_those_of_the_readme(checkout: Path) -> None:
    play(checkout, "run")
    blocks = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    run, test = (block.replace("'", "").split(" && ") for block in blocks[:2])
    assert log(checkout, "quickstart").splitlines()[1:3] == [part.strip() for part in run]
    assert log(checkout, "install").strip() == f"{test[0]} --quiet"
    assert log(checkout, "tests").strip() == test[1].strip()


def test_long_tests_turn_with_the_commit(checkout: Path) -> None:
    play(checkout, "run")
    for phase in ("kill", "slurm", "slow", "fuzz"):
        assert re.search(
            rf"--one-in \d+ -m .*{phase}.* --turn 1234 --seed 1234", log(checkout, phase)
        )
    assert re.search(r"--quick --check --one-in \d+ --turn 1234", log(checkout, "benchmarks"))


@pytest.mark.parametrize(
    ("command", "failed"),
    [("lint-imports", ["checks"]), ("pytest", ["kill", "slurm", "tests", "fuzz", "slow"])],
)
def test_a_phase_that_fails_is_shown_and_the_others_run(
    checkout: Path, command: str, failed: list[str]
) -> None:
    replace(checkout / "bin" / command, "seq 500; exit 3\n")
    done = play(checkout, "run")
    assert done.returncode == 1
    assert [name for name, code in ends(done).items() if code != "0"] == failed
    assert {code for code in ends(done).values() if code != "0"} == {"3"}
    for name in failed:
        printed = done.stdout.split(f"=== {name}: FAILED with exit code 3")[1].split("===")[0]
        assert "\n1\n2\n" in printed, "only the end of it is printed"


def test_of_a_phase_that_succeeds_the_last_lines_are_printed(checkout: Path) -> None:
    replace(checkout / "bin" / "pytest", "seq 500\n")
    printed = play(checkout, "run").stdout.split("=== tests: ok")[1].split("===")[0].split()
    assert printed[-2:] == ["499", "500"]
    assert "100" not in printed


def test_without_an_environment_nothing_else_runs(checkout: Path) -> None:
    replace(checkout / "bin" / "pip", "echo no such package; exit 1\n")
    done = play(checkout, "run")
    assert done.returncode == 1
    assert ends(done) == {"debian": "0", "quickstart": "1"}
    assert "no such package" in done.stdout


def test_a_quickstart_that_changes_the_checkout_fails(checkout: Path) -> None:
    replace(checkout / "bin" / "git", f'ls "{checkout}"\n')
    replace(checkout / "bin" / "continuum", f'touch "{checkout}/made"\n')
    done = play(checkout, "run")
    assert ends(done)["quickstart"] == "1"
    assert "> made" in done.stdout


def test_phases_beside_do_not_outlive_the_script(checkout: Path) -> None:
    script = checkout / ".ci" / "short"
    lines = ["source .ci/phases.sh", "beside long sleep 4321", "sleep 1", "exit 7"]
    replace(script, f"exec bash -c 'cd {checkout} && {'; '.join(lines)}'\n")
    assert play(checkout, "short").returncode == 7
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "sleep 4321" not in running.stdout.splitlines()


def test_everything_is_run_in_full(checkout: Path) -> None:
    done = play(checkout, "full")
    assert done.returncode == 0, done.stdout
    parts = ["debian", "checks", "package", "tests", "slow", "kill", "fuzz", "slurm"]
    parts += ["reference", "mistakes", "mutants", "benchmarks", "gpu"]
    assert ends(done) == dict.fromkeys(parts, "0")
    assert "--kill-rounds 200" in log(checkout, "kill")
    assert "--one-in" not in log(checkout, "slow")


def test_parts_may_be_chosen(checkout: Path) -> None:
    replace(checkout / "bin" / "ruff", "exit 3\n")
    done = play(checkout, "full", "checks", "kill")
    assert done.returncode == 1
    assert ends(done) == {"checks": "3", "kill": "0"}
    done = play(checkout, "full", "everything")
    assert done.returncode == 2
    assert "no such phase: everything" in done.stderr


def test_the_workflow_runs_the_same_scripts() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert {".ci/run", ".ci/full"} <= commands
