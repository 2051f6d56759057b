"""Results in columns: drawn by rich on a terminal, aligned text anywhere else.

Rich wraps the cells to the width of the window and paints them; importing it and measuring every
cell costs more than planning does. A file or a pipe has no width and no colours, and rows that are
whole are easier to search.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table

MAX_DRAWN = 500
"""More rows than this are not drawn on a terminal either: nobody reads them there."""
GAP = "  "


class Styled(NamedTuple):
    """A text with rich's name for how it looks: `bold red`."""

    text: str
    style: str


Cell = str | Styled


@dataclass(frozen=True)
class Columns:
    """A table; a cell may have several lines."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def show(self) -> None:
        """Print it on stdout."""
        if is_for_people() and len(self.rows) <= MAX_DRAWN:
            from continuum.cli.console import results

            results().print(self.drawn())
        else:
            print(self.plain())

    def drawn(self) -> "Table":
        """For a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0))
        for heading in self.headings:
            table.add_column(heading, overflow="fold", header_style="bold")
        for row in self.rows:
            cells = (cell if isinstance(cell, Styled) else Styled(cell, "") for cell in row)
            table.add_row(*(Text(cell.text, cell.style) for cell in cells))
        return table

    def plain(self) -> str:
        """The lines, each column as wide as its widest cell."""
        lines = [list(self.headings)]
        for row in self.rows:
            cells = [_text(cell).split("\n") for cell in row]
            for number in range(max(map(len, cells))):
                lines.append([cell[number] if number < len(cell) else "" for cell in cells])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines)


def show_line(text: str, style: str = "") -> None:
    """Print a line on stdout, in a style where people read it."""
    if is_for_people():
        from rich.text import Text

        from continuum.cli.console import results

        results().print(Text(text, style))
    else:
        print(text)


def is_for_people() -> bool:
    """Whether stdout is a terminal, or is to be treated as one (https://force-color.org)."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Styled) else cell
