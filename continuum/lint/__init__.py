"""All errors and warnings of an experiment, with their places.

`check` collects the errors of loading, the problems of the plan (`Forecast.problems` and
`.warnings`), and the warnings of the rules in this package. `# continuum: allow W002` in the file
suppresses a code on its line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from continuum.lint import data, document, secrets, training  # noqa: F401 - they register rules
from continuum.lint.codes import PLAN_CODES
from continuum.lint.rules import RULES, LintContext
from continuum.lint.suppression import Allowance, read_allowances
from continuum.loading.codes import Code
from continuum.loading.diagnostics import Diagnostic, in_order
from continuum.loading.load import Loaded, load
from continuum.planning.folder_state import read_folder
from continuum.planning.plan import Plan
from continuum.planning.planner import make_plan
from continuum.runs.folder import ExperimentFolder

LINT_CODES: dict[str, Code] = dict(
    sorted({**PLAN_CODES, **{code: rule.meaning for code, rule in RULES.items()}}.items())
)
"""The codes of plans and rules, for `explain`."""
UNUSED_ALLOWANCE = "W014"


@dataclass(frozen=True)
class Checked:
    """An experiment with its plan and diagnostics."""

    loaded: Loaded
    plan: Plan | None
    """The plan of the valid stages; None if there is none."""
    found: tuple[Diagnostic, ...]
    """Sorted by place."""


def check(path: Path, overrides: Sequence[str] = (), *, strict: bool = False) -> Checked:
    """Load an experiment, plan its valid stages, and collect all errors and warnings.

    Args:
        path: The YAML file.
        overrides: The `PATH=VALUE` arguments of `--set`.
        strict: Treat warnings as errors.
    """
    loaded = load(path, overrides)
    if loaded.sound is None:
        return Checked(loaded, None, tuple(loaded.problems))
    folder = ExperimentFolder(path.parent.resolve())
    plan = make_plan(loaded.sound, read_folder(loaded.sound, folder))
    return Checked(loaded, plan, diagnose(loaded, plan, strict=strict))


def diagnose(
    loaded: Loaded, plan: Plan, *, strict: bool = False, to_run: bool = False
) -> tuple[Diagnostic, ...]:
    """Return the errors and warnings of an experiment and its plan, sorted by place.

    Problems of the folder are errors for a run, else warnings. Problems of this machine are
    warnings for a run, else not reported.

    Args:
        loaded: The loaded experiment.
        plan: The plan of its valid stages.
        strict: Treat warnings as errors.
        to_run: Check for a run, not the spec alone.
    """
    softened = "machine" if to_run else "folder"
    problems = [
        replace(it, code=it.topic, severity="warning") if it.needs == softened else it
        for it in (*plan.problems, *plan.warnings)
        if to_run or it.needs != "machine"
    ]
    first = str(loaded.problems[0].place.file) if loaded.problems else ""
    if loaded.problems:  # rules need all stages
        return in_order([*loaded.problems, *loaded.place(problems)], first)
    context = LintContext(loaded, plan)
    problems += [
        replace(it, code=rule.code, severity="warning")
        for rule in RULES.values()
        for it in rule.check(context)
    ]
    assert loaded.composition is not None, "a planned experiment was composed"
    allowances = read_allowances(loaded.composition.files)
    found = loaded.place(problems)
    suppressed = [it for it in found if any(a.covers(it) for a in allowances)]
    found = [it for it in found if it not in suppressed]
    found += _unused(allowances, suppressed, loaded.composition.files[0])
    severe = (replace(it, severity="error" if strict else it.severity) for it in found)
    return in_order(severe)


def _unused(
    allowances: tuple[Allowance, ...], suppressed: Sequence[Diagnostic], own: Path
) -> Iterator[Diagnostic]:
    """Unknown codes in allowances, and allowances that suppress nothing.

    An allowance in a base may be for another experiment.
    """
    known = {code for code in LINT_CODES if code.startswith("W") and code != UNUSED_ALLOWANCE}
    for allowance in allowances:
        used = {it.code for it in suppressed if allowance.covers(it)}
        for code, where in allowance.codes.items():
            needs = RULES[code].needs if code in RULES else "folder"
            message = ""
            if code not in known:
                message = f"unknown rule {code!r}; known rules: {', '.join(sorted(known))}"
            elif where.file == str(own) and code not in used and needs == "spec":
                message = f"unused allowance of {code}: there is no such warning here; delete it"
            if message:
                yield Diagnostic(UNUSED_ALLOWANCE, message, where, severity="warning")
