"""Write a table as CSV, Markdown or LaTeX."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from continuum.reporting.escaping import escape_latex, escape_markdown


@dataclass(frozen=True)
class Heading:
    """The heading of a column."""

    text: str
    is_number: bool = False
    """Whether to align the column to the right."""


@dataclass(frozen=True)
class Table:
    """Texts in rows and columns, and notes below them."""

    headings: Sequence[Heading]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def as_csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated values (RFC 4180, with Unix line ends); None is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return out.getvalue()


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""
    headings = [escape_markdown(heading.text) for heading in table.headings]
    rules = ["---:" if heading.is_number else "---" for heading in table.headings]
    rows = [[escape_markdown(cell) for cell in row] for row in table.rows]
    lines = [*markdown_rows(headings, rows, rules)]
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def as_latex(table: Table) -> str:
    """A `tabular` with the rules of the package booktabs, for the font encoding T1."""
    width = len(table.headings)
    letters = "".join("r" if heading.is_number else "l" for heading in table.headings)
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        f"\\begin{{tabular}}{{{letters}}}",
        "\\toprule",
        _latex_row(heading.text for heading in table.headings),
        "\\midrule",
        *map(_latex_row, table.rows),
        "\\bottomrule",
        *(f"\\multicolumn{{{width}}}{{l}}{{{escape_latex(note)}}} \\\\" for note in table.notes),
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def markdown_rows(
    headings: Sequence[str], rows: Sequence[Sequence[str]], rules: Sequence[str] = ()
) -> Iterator[str]:
    """The lines of a Markdown table whose cells are escaped.

    Args:
        rules: The line below the headings, which aligns the columns; to the left by default.
    """
    for cells in (headings, rules or ["---"] * len(headings), *rows):
        yield f"| {' | '.join(cells)} |"


def _latex_row(cells: Iterable[str]) -> str:
    line = " & ".join(map(escape_latex, cells)) + r" \\"
    # After the end of a row, these two would be its arguments.
    return "{}" + line if line[0] in "[*" else line
