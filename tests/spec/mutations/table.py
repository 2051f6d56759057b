"""The verdicts as a table, one row a class of mistakes."""

from collections.abc import Callable, Iterable, Sequence

from tests.spec.mutations.measure import Verdict

COLUMNS = ("told", "line", "column", "word", "crash", "alone")


def share(values: Iterable[bool | None]) -> str:
    """`11/12`, or a dash where nothing was asked; None does not count."""
    counted = [value for value in values if value is not None]
    return f"{sum(counted)}/{len(counted)}" if counted else "-"


def table(verdicts: Sequence[Verdict]) -> str:
    """For people, the sum of all below."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.mutant.mistake, []).append(verdict)
    width = max(map(len, groups))
    lines = [f"{'class':{width}}  " + "".join(f"{name:>10}" for name in COLUMNS)]
    lines += [_row(name, group, width) for name, group in groups.items()]
    return "\n".join(
        [*lines, _row(f"all {len(groups)} classes", verdicts, width), summary(verdicts)]
    )


def _row(name: str, verdicts: Sequence[Verdict], width: int) -> str:
    figures: Sequence[Callable[[Verdict], bool | None]] = (
        lambda v: v.is_told,
        lambda v: v.in_line,
        lambda v: v.in_column,
        lambda v: v.has_word,
        lambda v: bool(v.crash),
        lambda v: len(v.diagnostics) == 1 if not v.mutant.tells_all else None,
    )
    return f"{name:{width}}  " + "".join(f"{share(map(f, verdicts)):>10}" for f in figures)


def summary(verdicts: Sequence[Verdict]) -> str:
    """The figures that are asked for, in percent."""
    return "\n".join(
        f"{label:24} {100 * rate(values):6.2f} %"
        for label, values in (
            ("told", [v.is_told for v in verdicts]),
            ("in the exact line", [v.in_line for v in verdicts]),
            ("in the exact column", [v.in_column for v in verdicts]),
            ("right word first", [v.has_word for v in verdicts]),
            ("without a traceback", [not v.crash for v in verdicts]),
        )
    )


def rate(values: Iterable[bool | None]) -> float:
    """The share of those that count."""
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted)
