"""What a user does to an experiment folder between two commands."""

from collections.abc import Callable
from pathlib import Path

from tests.planning.worlds import text_of


def edit(old: str, new: str) -> Callable[[Path], None]:
    """Replace a text of the spec."""

    def change(folder: Path) -> None:
        path = folder / "experiment.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def other_book(folder: Path) -> None:
    (folder / "book.txt").write_bytes(text_of("book", 1))


def add_a_stage(folder: Path) -> None:
    with (folder / "experiment.yaml").open("a") as file:
        file.write("  more: {kind: fetch, sources: [{path: notes.txt}]}\n")


def remove_a_stage(folder: Path) -> None:
    path = folder / "experiment.yaml"
    path.write_text(path.read_text().partition("  tokenizer:")[0])


def lock_text(folder: Path) -> str:
    return (folder / "continuum.lock").read_text(encoding="utf-8")
