"""A folder that takes another's place: killed at any moment, one of the two is there."""

import itertools
from pathlib import Path

import pytest

from continuum.runs.folder import StageRun
from continuum.runs.placing import put_in_place, restore_replaced
from tests.tracing import read_calls, traced

CALLS = ("rename", "renameat2", "fsync", "unlink", "unlinkat", "rmdir")
CODE = """
import sys
from pathlib import Path
from continuum.runs.placing import put_in_place
folder = Path(sys.argv[1])
put_in_place(folder / ".step-5.tmp", folder / "step-5")
"""


def prepare(folder: Path) -> Path:
    for name, text in (("step-5", "old"), (".step-5.tmp", "new")):
        (folder / name).mkdir(parents=True)
        (folder / name / "weights").write_text(text)
    return folder


def found(folder: Path) -> str:
    """What the next who works there finds."""
    restore_replaced(folder)
    assert not list(folder.glob("*.replaced"))
    return (folder / "step-5" / "weights").read_text()


@pytest.mark.parametrize(
    ("calls", "inject"),
    [
        (CALLS, []),
        ([name for name in CALLS if name != "renameat2"], ["renameat2:error=EINVAL"]),
    ],
    ids=["exchanged", "on a file system that cannot exchange"],
)
def test_a_kill_at_any_call_leaves_one_of_the_two(
    tmp_path: Path, calls: list[str], inject: list[str]
) -> None:
    after = []
    for call in calls:
        for number in itertools.count(1):
            folder = prepare(tmp_path / f"{call}-{number}")
            kill = f"{call}:signal=SIGKILL:when={number}"
            done = traced(tmp_path / "calls", CALLS, ("-c", CODE, folder), inject=[kill, *inject])
            now = found(folder)
            if done.returncode == 0:
                assert now == "new"
                break
            after.append(now)
    assert len(after) >= 4
    assert set(after) == {"old", "new"}


def test_the_kernel_exchanges_the_two_here(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "it")
    assert traced(tmp_path / "calls", CALLS, ("-c", CODE, folder)).returncode == 0
    names = [call.name for call in read_calls(tmp_path / "calls")]
    assert names[:2] == ["renameat2", "fsync"]
    assert "rename" not in names


def test_a_folder_with_no_predecessor_is_renamed(tmp_path: Path) -> None:
    folder = tmp_path / "finished"
    folder.mkdir()
    put_in_place(folder, tmp_path / "place")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_the_next_attempt_finds_a_checkpoint_that_was_about_to_be_replaced(tmp_path: Path) -> None:
    run = StageRun(tmp_path / "runs" / "pretrain-000000000000")
    for name, text in ((".step-00000005.replaced", "old"), (".step-00000005.tmp", "new")):
        (run.checkpoints_dir / name).mkdir(parents=True)
        (run.checkpoints_dir / name / "lit_model.pth").write_text(text)
    run.discard_unfinished()
    assert run.checkpoint_names() == ["step-00000005"]
    assert (run.checkpoint_dir(5) / "lit_model.pth").read_text() == "old"
