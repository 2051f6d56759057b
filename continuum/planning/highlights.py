"""What matters about a difference between two experiments, in a few words each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isclose

from continuum.formatting import plural
from continuum.planning.changes import ABSENT, Change
from continuum.planning.diff import Diff, StageDiff

MOST = 4
"""Highlights of a headline."""
TIMES = {2.0: "doubled", 0.5: "halved"}
LENGTH = ("max_tokens", "max_steps", "epochs")


@dataclass(frozen=True)
class FieldChange:
    """A change of a field, with all stages that have it: a variable or a base may set several."""

    stages: tuple[str, ...]
    """Empty for a field outside the stages."""
    change: Change

    @property
    def path(self) -> str:
        """`stages.{pretrain,longer}.optimizer.lr`."""
        if not self.stages:
            return self.change.name
        names = ",".join(self.stages)
        return f"stages.{f'{{{names}}}' if len(self.stages) > 1 else names}.{self.change.name}"

    def __str__(self) -> str:
        return str(self.change).replace(self.change.name, self.path, 1)


def field_changes(diff: Diff) -> list[FieldChange]:
    """Every changed field once; without seeds that only follow the experiment's."""
    seeds = [(it.old, it.new) for it in diff.experiment if it.name == "seed"]
    found: dict[tuple[str, str, str, str], FieldChange] = {}
    for stage in diff.stages:
        for change in stage.changes:
            if change.name.startswith("seeds.") and (change.old, change.new) in seeds:
                continue
            key = (change.name, repr(change.old), repr(change.new), change.role)
            names = found[key].stages if key in found else ()
            found[key] = FieldChange((*names, stage.name), change)
    return [*(FieldChange((), change) for change in diff.experiment), *found.values()]


def headline(diff: Diff) -> str:
    """The most important changes; empty if there are only others."""
    found = list(dict.fromkeys(_highlights(diff)))
    more = [f"{len(found) - MOST} more"] if len(found) > MOST else []
    return "; ".join([*found[:MOST], *more])


def _highlights(diff: Diff) -> Iterator[str]:
    fields = [it for it in field_changes(diff) if it.change.role == "identity"]
    for describe in (_learning_rate, _data, _model, _seed):
        yield from describe(fields)
    yield from _texts(diff.stages)
    yield from _lengths(diff.stages)
    yield from _others(fields)
    if removed := sum(stage.status == "removed" for stage in diff.stages):
        yield f"{plural(removed, 'stage')} removed"


def _learning_rate(fields: Sequence[FieldChange]) -> Iterator[str]:
    for it in fields:
        old, new = it.change.old, it.change.new
        if it.change.name != "optimizer.lr" or not (_is_number(old) and _is_number(new)):
            continue
        times = [word for ratio, word in TIMES.items() if isclose(new, ratio * old)]
        how = times[0] if times else f"changed from {old:g} to {new:g}"
        yield f"learning rate of {_listed(it.stages)} {how}"


def _data(fields: Sequence[FieldChange]) -> Iterator[str]:
    for stage in _stages(fields, _is_data):
        changes = [it.change for it in fields if _is_data(it.change.name) and stage in it.stages]
        is_replaced = all(it.name == "data" or ABSENT in (it.old, it.new) for it in changes)
        is_replaced &= any(it.name == "data" or it.old != ABSENT for it in changes)
        yield f"data of {stage} {'replaced' if is_replaced else 'mixed differently'}"


def _model(fields: Sequence[FieldChange]) -> Iterator[str]:
    if stages := _stages(fields, lambda name: name.partition(".")[0] == "model"):
        yield f"model of {_listed(stages)} changed"
    if stages := _stages(fields, lambda name: name == "from"):
        yield f"{_listed(stages)} from another start"


def _seed(fields: Sequence[FieldChange]) -> Iterator[str]:
    if any(it.change.name.partition(".")[0] in ("seed", "seeds") for it in fields):
        yield "seed changed"


def _texts(stages: Sequence[StageDiff]) -> Iterator[str]:
    found = [
        stage.name
        for stage in stages
        if any(cause.what == "file" for cause in stage.causes)
        or any(it.name.startswith("sources") for it in stage.changes if it.role == "identity")
    ]
    if found:
        yield f"files of {_listed(found)} changed"


def _lengths(stages: Sequence[StageDiff]) -> Iterator[str]:
    for stage in stages:
        if not any(it.name in LENGTH and it.role == "identity" for it in stage.changes):
            continue
        before, after = stage.before.get("tokens"), stage.after.get("tokens")
        if before and after:
            yield f"{stage.name} trains {after:,.0f} tokens instead of {before:,.0f}"
        else:
            yield f"length of {stage.name} changed"


def _others(fields: Sequence[FieldChange]) -> Iterator[str]:
    known = ("data", "model", "from", "seed", "seeds", "sources", *LENGTH)
    rest = [
        it
        for it in fields
        if it.change.name.partition(".")[0] not in known and it.change.name != "optimizer.lr"
    ]
    for it in rest[:1]:
        yield f"{it.change.name} of {_listed(it.stages)} changed" if it.stages else it.path
    if len(rest) > 1:
        yield plural(len(rest) - 1, "other field")


def _stages(fields: Sequence[FieldChange], is_meant: Callable[[str], bool]) -> list[str]:
    found = (stage for it in fields if is_meant(it.change.name) for stage in it.stages)
    return list(dict.fromkeys(found))


def _is_data(name: str) -> bool:
    return name == "data" or name.startswith("data.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and 2 more`."""
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""
