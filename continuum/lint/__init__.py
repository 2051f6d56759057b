"""Everything that is wrong with an experiment or unwise in it, each at its place.

`check` puts together what loading finds, what the plan knows of its stages (`Forecast.problems`
and `.warnings`), and the rules of this package. `# continuum: allow W002` in the file silences a
code at its line.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from continuum.lint import data, document, secrets, training  # noqa: F401 - they hold the rules
from continuum.lint.codes import PLAN_CODES
from continuum.lint.rules import RULES, LintContext
from continuum.lint.suppression import Allowance, read_allowances
from continuum.loading.codes import Code
from continuum.loading.compose import blame_variables
from continuum.loading.diagnostics import OVERRIDE, Diagnostic, in_order
from continuum.loading.load import Loaded, load
from continuum.planning.plan import Plan
from continuum.planning.planner import make_plan
from continuum.problems import Problem
from continuum.runs.files import DigestCache
from continuum.runs.folder import ExperimentFolder

LINT_CODES: dict[str, Code] = dict(
    sorted({**PLAN_CODES, **{code: rule.meaning for code, rule in RULES.items()}}.items())
)
"""What `explain` says of all codes that loading does not have."""
USELESS_ALLOWANCE = "W014"


@dataclass(frozen=True)
class Checked:
    """An experiment that was looked through."""

    loaded: Loaded
    plan: Plan | None
    """Of the sound stages; None where there is none."""
    found: tuple[Diagnostic, ...]
    """In the order of their places."""


def check(path: Path, overrides: Sequence[str] = (), *, strict: bool = False) -> Checked:
    """Read an experiment, plan its sound stages, and tell all that is wrong or unwise.

    Args:
        path: The YAML file.
        overrides: `PATH=VALUE` texts, as `--set` takes them.
        strict: Make errors of the warnings.
    """
    loaded = load(path, overrides)
    if loaded.sound is None:
        return Checked(loaded, None, tuple(loaded.problems))
    folder = ExperimentFolder(path.parent.resolve())
    plan = make_plan(loaded.sound, folder, DigestCache(folder.digest_cache_path))
    return Checked(loaded, plan, diagnose(loaded, plan, strict=strict))


def diagnose(
    loaded: Loaded, plan: Plan, *, strict: bool = False, to_run: bool = False
) -> tuple[Diagnostic, ...]:
    """What is wrong with an experiment, and what is unwise in it, by place.

    What its folder lacks may still come: it is an error for a run, else a warning. What this
    machine lacks another may have: it is a warning for a run, else not told.

    Args:
        loaded: The experiment as it is written.
        plan: What a run of it would do.
        strict: Make errors of the warnings.
        to_run: Whether a run is asked about, and not the spec alone.
    """
    softened = "machine" if to_run else "folder"
    told = [
        replace(it, code=it.topic, severity="warning") if it.needs == softened else it
        for it in foreseen(plan)
        if to_run or it.needs != "machine"
    ]
    first = str(loaded.problems[0].place.file) if loaded.problems else ""
    if loaded.problems:  # what the faulty stages were to do is not known
        return in_order([*loaded.problems, *place(loaded, told)], first)
    context = LintContext(loaded, plan)
    told += [
        replace(it, code=rule.code, severity="warning")
        for rule in RULES.values()
        for it in rule.check(context)
    ]
    assert loaded.composition is not None, "what is planned was composed"
    allowances = read_allowances(loaded.composition.files)
    found = list(place(loaded, told))
    silenced = [it for it in found if any(a.covers(it) for a in allowances)]
    found = [it for it in found if it not in silenced]
    found += _useless(allowances, silenced, loaded.composition.files[0])
    severe = (replace(it, severity="error" if strict else it.severity) for it in found)
    return in_order(severe)


def foreseen(plan: Plan) -> Iterator[Problem]:
    """What the plan knows of its stages, by paths of the experiment."""
    for planned in plan:
        for problem in (*planned.forecast.problems, *planned.forecast.warnings):
            yield problem.below("stages", planned.name)


def place(loaded: Loaded, problems: Iterable[Problem]) -> Iterator[Diagnostic]:
    """Problems of the experiment where they are written; a secret of an override is masked."""
    assert loaded.composition is not None, "what has stages was composed"
    for made in loaded.place(problems):
        if not made.shows_source and made.place.is_override:
            path = made.place.file.removeprefix(OVERRIDE).partition("=")[0]
            yield replace(made, place=replace(made.place, file=f"{OVERRIDE}{path}=…"))
        else:
            is_error = made.severity == "error"
            yield blame_variables(made, loaded.composition) if is_error else made


def _useless(
    allowances: tuple[Allowance, ...], silenced: Sequence[Diagnostic], own: Path
) -> Iterator[Diagnostic]:
    """Allowances that silence nothing; in a base they may serve another experiment."""
    known = {code for code in LINT_CODES if code.startswith("W") and code != USELESS_ALLOWANCE}
    for allowance in allowances:
        used = {it.code for it in silenced if allowance.covers(it)}
        for code, where in allowance.codes.items():
            needs = RULES[code].needs if code in RULES else "folder"
            message = ""
            if code not in known:
                message = f"there is no rule {code!r} to allow; they are {', '.join(sorted(known))}"
            elif where.file == str(own) and code not in used and needs == "spec":
                message = f"{code} is allowed here, and nothing here breaks that rule; delete it"
            if message:
                yield Diagnostic(USELESS_ALLOWANCE, message, where, severity="warning")
