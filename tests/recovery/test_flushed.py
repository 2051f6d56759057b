"""What a record names is on the disk before the record is: counted in the system's own calls."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import TIMEOUT_S, only
from tests.experiments import FIRST_STAGES, small_flow

TRACED = re.compile(r'fsync\(\d+<(?P<flushed>[^>]+)>|rename\("[^"]+", "(?P<renamed>[^"]+)"')


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """A folder after a run of four stages, and what was flushed and renamed in it, in order."""
    if shutil.which("strace") is None or subprocess.run(["strace", "-qq", "true"]).returncode:
        pytest.skip("needs strace, and leave to trace")
    folder = tmp_path_factory.mktemp("traced")
    spec = small_flow(only=FIRST_STAGES, pretrain__max_steps=2, pretrain__evaluate=None)
    (folder / "experiment.yaml").write_text(spec, encoding="utf-8")
    log = folder / "calls"
    trace = [
        "strace",
        "-f",
        "-y",
        "-qq",
        "--seccomp-bpf",
        "-e",
        "trace=fsync,rename",
        "-o",
        str(log),
    ]
    command = [sys.executable, "-m", "continuum", "run", str(folder), "--in-process"]
    subprocess.run([*trace, *command], check=True, capture_output=True, timeout=TIMEOUT_S)
    found = map(TRACED.search, log.read_text(encoding="utf-8").splitlines())
    return folder, [(call.lastgroup or "", call[call.lastgroup or 0]) for call in found if call]


def test_an_artifacts_files_are_flushed_before_its_record(
    calls: tuple[Path, list[tuple[str, str]]],
) -> None:
    folder, made = calls
    for stage in FIRST_STAGES:
        run = only(folder, f"runs/{stage}-*")
        before = made[: made.index(("renamed", str(run / "artifact.json")))]
        files = [path for path in (run / "output").rglob("*") if path.is_file()]
        assert files
        assert [path for path in files if ("flushed", str(path)) not in before] == []
        assert ("flushed", str(run / "output")) in before


def test_a_checkpoints_files_are_flushed_before_its_manifest(
    calls: tuple[Path, list[tuple[str, str]]],
) -> None:
    folder, made = calls
    final = only(folder, "runs/pretrain-*/checkpoints/step-00000002")
    (manifest,) = (
        path for what, path in made if what == "renamed" and path.endswith("/manifest.json")
    )
    begun = Path(manifest).parent
    before = made[: made.index(("renamed", manifest))]
    names = [path.name for path in final.iterdir() if path.name != "manifest.json"]
    assert len(names) > 3
    assert [name for name in names if ("flushed", str(begun / name)) not in before] == []
    published = made.index(("renamed", str(final)))
    assert ("flushed", str(final.parent)) in made[published:]
