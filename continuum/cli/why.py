"""`continuum plan --why STAGE`: a stage's reasons, down to the first causes, as a tree."""

from rich.text import Text
from rich.tree import Tree

from continuum.cli.console import results
from continuum.cli.plan import STYLES
from continuum.errors import UsageError
from continuum.plan import Plan, PlannedStage
from continuum.reasons import Reason, UpstreamChanged, UpstreamRunsAgain, WaitsFor
from continuum.spelling import did_you_mean

MAX_GENERATIONS = 100
"""Farther back than this is not drawn: it is asked for by the name that the tree ends with."""


def show_reasons(made: Plan, name: str) -> None:
    """Print a stage's reasons, and below each stage named in one, that stage's own.

    Raises:
        UsageError: there is no such stage.
    """
    if name not in made.stages:
        hint = did_you_mean(name, made.stages)
        raise UsageError(f"--why {name}: there is no stage of this name{hint}")
    planned = made.stages[name]
    tree = Tree(_headline(planned))
    tree.add(Text(f"fingerprint {planned.fingerprint}, folder runs/{planned.run.name}", "dim"))
    _grow(tree, made, planned, {name}, MAX_GENERATIONS)
    results().print(tree)


def _grow(tree: Tree, made: Plan, planned: PlannedStage, shown: set[str], generations: int) -> None:
    if not generations:
        tree.add(f"… and so on: `continuum plan SPEC --why {planned.name}`")
        return
    for reason in planned.reasons:
        branch = tree.add(Text(str(reason)))
        parent = _stage_of(reason)
        if parent in made.stages and parent not in shown:
            shown.add(parent)
            above = made.stages[parent]
            _grow(branch.add(_headline(above)), made, above, shown, generations - 1)


def _headline(planned: PlannedStage) -> Text:
    action = (planned.action.value, STYLES[planned.action])
    return Text.assemble((planned.name, "bold"), f" ({planned.stage.kind}): ", action)


def _stage_of(reason: Reason) -> str:
    """The stage that a reason points at; empty for none."""
    if isinstance(reason, (UpstreamChanged, UpstreamRunsAgain)):
        return reason.ref.partition("@")[0]
    return reason.stage if isinstance(reason, WaitsFor) else ""
