"""Following a file that others write."""

from pathlib import Path

from continuum.cli.logs import GrowingFile
from continuum.runs.files import write_text


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def test_what_is_appended_is_news_once(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    growing = GrowingFile(path)
    assert growing.news() == ""
    append(path, "one\ntw")
    assert growing.news() == "one\ntw"
    append(path, "o\nünd drei\n")
    assert growing.news() == "o\nünd drei\n"
    assert growing.news() == ""


def test_of_a_rewritten_file_only_new_lines_are_printed(tmp_path: Path) -> None:
    """As a recovery writes metrics.jsonl: the rows of what is done again are gone."""
    path = tmp_path / "metrics.jsonl"
    growing = GrowingFile(path)
    append(path, "".join(f"row {n}\n" for n in range(6)))
    growing.news()
    write_text(path, "row 0\nrow 1\n")
    assert growing.news() == ""
    append(path, "new 2\n")
    assert growing.news() == "new 2\n"
    write_text(path, "row 0\nother 1\nother 2\nother 3\n")
    assert growing.news() == "other 1\nother 2\nother 3\n"


def test_a_file_that_became_shorter_in_place_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    growing = GrowingFile(path)
    append(path, "one\ntwo\n")
    growing.news()
    path.write_text("one\n", encoding="utf-8")
    assert growing.news() == ""
    append(path, "three\n")
    assert growing.news() == "three\n"
