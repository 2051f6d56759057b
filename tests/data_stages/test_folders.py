"""Which files of a folder become a corpus, and what the plan says of the others."""

import os
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from continuum.disk_errors import describe_disk_error
from continuum.errors import PreflightError
from continuum.experiment.forecast import Forecast
from continuum.experiment.stage import Stage
from continuum.runs.artifacts import Corpus
from continuum.sources.globs import expand
from continuum.sources.local_files import describe_files, find_files
from continuum.stages.fetch import Fetch
from continuum.stages.import_ import Import
from tests.support import make_stage, run_stage

BESIDE = (
    "README.md",
    "README_zh.txt",
    "sub/LICENSE",
    "LICENCE.txt",
    "COPYING",
    "NOTICE.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "dataset_info.json",
    ".gitattributes",
    ".git/HEAD.txt",
    ".ipynb_checkpoints/a.txt",
    ".hidden.txt",
    "__pycache__/a.cpython-311.pyc",
    "node_modules/x/index.txt",
    "x.egg-info/top_level.txt",
    "Thumbs.db",
    "a.txt~",
    "#a.txt#",
    "a.swp",
    "cover.png",
)


def fill(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}\n", encoding="utf-8")


def corpus(folder: Path, path: str = "data", **fields: Any) -> Stage:
    return make_stage(Import, folder, path=path, **{"as": "corpus", **fields})


def forecast(folder: Path, path: str = "data", **fields: Any) -> Forecast:
    return corpus(folder, path, **fields).forecast({}, folder)


def problem(folder: Path, path: str = "data", **fields: Any) -> str:
    (found,) = map(str, forecast(folder, path, **fields).problems)
    return found


def sources(folder: Path, path: str = "data", **fields: Any) -> list[str]:
    made = run_stage(corpus(folder, path, **fields), folder)
    assert isinstance(made, Corpus)
    return [item.source for item in made.items]


@pytest.mark.parametrize("format_", [None, "txt"])
def test_a_folder_gives_its_data_alone(format_: str | None, tmp_path: Path) -> None:
    fill(tmp_path / "data", ["a.txt", "sub/b.txt", *BESIDE])
    assert sources(tmp_path, format=format_) == ["a.txt", "sub/b.txt"]


def test_the_plan_lists_what_is_taken_and_left_by_suffix(tmp_path: Path) -> None:
    fill(tmp_path / "data", ["a.txt", "sub/b.TXT", *BESIDE])
    found = forecast(tmp_path)
    assert found.taken_files == {".txt": 2}
    assert found.left_files == {
        "README/LICENSE files": 8,
        "dataset_info.json": 1,
        "hidden": 4,
        ".pyc": 1,
        "node_modules/": 1,
        "x.egg-info/": 1,
        ".db": 1,
        "~": 1,
        ".txt#": 1,
        ".swp": 1,
        ".png": 1,
    }
    (note,) = found.notes
    assert note.startswith("2 .txt taken; skipped: 8 README/LICENSE files, 4 hidden, ")
    assert note.endswith("3 of 3 other kinds")


@pytest.mark.parametrize("pattern", ["data/*.md", "data/README.md", "data/**/READ*.md"])
def test_a_pattern_takes_what_it_names(pattern: str, tmp_path: Path) -> None:
    fill(tmp_path / "data", ["README.md", "a.txt"])
    assert sources(tmp_path, pattern) == ["README.md"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/**/*", ["a.txt", "node/b.txt"]),
        ("data/*", ["a.txt"]),
        ("data/*/*", ["node/b.txt"]),
        ("data/**/.*/*.txt", [".hid/c.txt"]),
        ("data/.hid/*", ["c.txt"]),
        ("data/__pycache__/*.txt", ["d.txt"]),
        ("data/**/__pycache__/*.txt", ["__pycache__/d.txt"]),
        ("data/*.txt~", ["a.txt~"]),
        ("data/node/../*.txt", ["a.txt"]),
        ("data/[!b]*.txt", ["a.txt"]),
        ("data/**/**/b.txt", ["node/b.txt"]),
        ("data/**", ["a.txt", "node/b.txt"]),
    ],
)
def test_globs_are_a_shell_s(pattern: str, expected: list[str], tmp_path: Path) -> None:
    fill(tmp_path / "data", ["a.txt", "node/b.txt", ".hid/c.txt", "__pycache__/d.txt", "a.txt~"])
    assert [file.name for file in find_files(pattern, tmp_path).files] == expected


@pytest.mark.parametrize(
    ("names", "fields", "words"),
    [
        (["a.txt", "b.jsonl", "c.jsonl"], {}, ["2 .jsonl, 1 .txt", "`path: data/**/*.jsonl`"]),
        (["a.txt", "b.jsonl"], {"format": "txt"}, ["1 .jsonl, 1 .txt, and `format: txt`"]),
        (["b.jsonl"], {"format": "txt"}, ["contains 1 .jsonl, and `format: txt` is set"]),
        (["b.jsonl.gz"], {"format": "txt"}, ["`path: data/**/*.jsonl.gz`"]),
        (["a.txt", "b.ndjson"], {"format": "txt"}, ["1 .ndjson, 1 .txt"]),
        (["a.txt", "b.parquet"], {"format": "txt"}, ["1 .parquet"]),
        (["a.md", "b.txt"], {}, ["1 .md, 1 .txt"]),
        (["a.txt", "b.text", "c"], {}, ["unknown format of 1 .text, 1 without a suffix"]),
        (["a.txt", "b.text"], {}, ["set `format: txt`", "`path: data/**/*.txt`"]),
        (["README.md", "x/LICENSE"], {}, ["no texts found", "skipped: 2 README/LICENSE files"]),
        (["m.json", "lit_model.pth", "t.yaml"], {}, ["no texts in", "import weights with `kind:"]),
        ([".a.txt"], {}, ["skipped: 1 hidden"]),
        ([], {}, ["it is empty"]),
    ],
)
def test_a_folder_that_does_not_say_what_its_texts_are_needs_a_pattern(
    names: list[str], fields: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", names)
    said = problem(tmp_path, **fields)
    assert said.startswith("data: ")
    assert all(word in said for word in words), said


def test_other_suffixes_are_read_as_stated(tmp_path: Path) -> None:
    fill(tmp_path / "data", ["1.", "2", "c.text", "d.TXT"])
    assert sources(tmp_path, format="txt") == ["1.", "2", "c.text", "d.TXT"]
    fill(tmp_path / "rows", ["a.json", "b.ndjson"])
    assert forecast(tmp_path, "rows", format="jsonl").taken_files == {".json": 1, ".ndjson": 1}


def test_json_lines_that_a_pattern_reads_as_prose_are_a_warning(tmp_path: Path) -> None:
    fill(tmp_path / "data", ["a.jsonl", "b.txt"])
    (warning,) = map(str, forecast(tmp_path, "data/*", format="txt").warnings)
    assert "1 .jsonl (each file is one document)" in warning
    source = {"path": "data/a.jsonl", "format": "txt"}
    fetched = make_stage(Fetch, tmp_path, sources=(source,)).forecast({}, tmp_path)
    assert len(fetched.warnings) == 1
    assert forecast(tmp_path, "data/b.txt", format="md").warnings == ()


def test_the_plan_lists_what_a_fetch_takes(tmp_path: Path) -> None:
    fill(tmp_path / "data", ["a.txt", "b.txt", "c.md", "x/__pycache__/a.pyc"])
    stage = make_stage(Fetch, tmp_path, sources=({"path": "data/**/*.*"}, {"path": "data/c.md"}))
    found = stage.forecast({}, tmp_path)
    assert found.notes == ("data/**/*.*: 2 .txt, 1 .md taken; skipped: 1 .pyc",)
    assert found.taken_files == {".txt": 2, ".md": 2}


def test_linked_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    fill(tmp_path, ["data/a.txt", "data/sub/b.txt", "elsewhere/c.txt"])
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "self").symlink_to(".")
    (tmp_path / "data" / "sub" / "up").symlink_to("..")
    assert sources(tmp_path) == ["a.txt", "more/c.txt", "sub/b.txt"]
    assert forecast(tmp_path).left_files == {"circular links": 2}


def test_folders_that_are_linked_to_each_other_end(tmp_path: Path) -> None:
    names = [f"d{number:02}" for number in range(12)]
    fill(tmp_path / "data", [f"{name}/a.txt" for name in names])
    for name in names:
        for other in names:
            (tmp_path / "data" / name / f"to-{other}").symlink_to(tmp_path / "data" / other)
    assert "links to folders below linked folders" in problem(tmp_path)


@pytest.mark.parametrize("pattern", ["data", "data/*.txt", "data/b.txt"])
def test_a_link_to_nothing_is_refused_by_name(pattern: str, tmp_path: Path) -> None:
    fill(tmp_path / "data", ["a.txt"])
    (tmp_path / "data" / "b.txt").symlink_to("gone.txt")
    assert "b.txt: broken link to gone.txt" in problem(tmp_path, pattern).replace(
        f"{tmp_path}/data/", ""
    )


def test_pipes_and_sockets_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data", ["a.txt"])
    os.mkfifo(tmp_path / "data" / "b.txt")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("data/c.txt")
        assert sources(tmp_path) == ["a.txt"]
        assert forecast(tmp_path).left_files == {"named pipes": 1, "sockets": 1}
        assert forecast(tmp_path, "data/*.txt").left_files == {"named pipes": 1, "sockets": 1}
        assert "not a regular file" in problem(tmp_path, "data/b.txt")
        assert "not a regular file" in problem(tmp_path, "/dev/null")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "data", ["a.txt", "closed/b.txt"])
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "data" / "a.txt").chmod(0)
    try:
        os.seteuid(65534)
        assert "a.txt: permission denied" in problem(tmp_path, "data/a.txt")
        assert "a.txt: permission denied" in problem(tmp_path)
        os.seteuid(0)
        (tmp_path / "data" / "closed").chmod(0)
        os.seteuid(65534)
        assert "closed: cannot read the folder" in problem(tmp_path).replace("closed/:", "closed:")
        for path in ("data/closed/b.txt", "data/closed/*.txt"):
            assert "permission denied" in problem(tmp_path, path)
            assert "`chmod +rx`" in problem(tmp_path, path)
        assert "cannot read the folder" in problem(tmp_path, "data/closed")
        refused = problem(tmp_path, "data/closed", **{"as": "tokenizer"})
        assert "closed cannot be read (permission denied); `chmod +rx` the folder" in refused
        with pytest.raises(PermissionError) as raised:
            (tmp_path / "data" / "closed" / "b.txt").open()
        described = describe_disk_error(raised.value, tmp_path)
        assert described is not None
        assert "b.txt: Permission denied; change its permissions" in described
    finally:
        os.seteuid(0)
        (tmp_path / "data" / "closed").chmod(0o755)


def test_the_experiment_s_runs_are_no_texts(tmp_path: Path) -> None:
    fill(tmp_path, ["a.txt", "runs/x-1/output/b.txt"])
    (tmp_path / "link").symlink_to("runs/x-1")
    (tmp_path / "c.txt").symlink_to("runs/x-1/output/b.txt")
    assert sources(tmp_path, "**/*.txt") == ["a.txt"]
    with pytest.raises(PreflightError, match="no file matches"):
        find_files("runs/*/*/*.txt", tmp_path, excluded=tmp_path / "runs")


def test_a_deep_folder_is_no_deep_recursion(tmp_path: Path) -> None:
    depth = 1100
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("a.txt", os.O_CREAT, dir_fd=here))
    os.close(here)
    (found,) = expand("**/*.txt", tmp_path).files
    assert found.name.count("/") == depth
    subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)


def test_a_listing_is_short_whatever_a_folder_holds() -> None:
    counts = {f".{number}": number for number in range(1, 101)}
    listed = describe_files(counts)
    assert listed.startswith("100 .100, 99 .99, ")
    assert listed.endswith("4,278 of 92 other kinds")
