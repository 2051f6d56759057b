"""All rules, and what they find in an experiment."""

from collections.abc import Iterator
from dataclasses import replace

from continuum.lint.data import evaluation_on_training_data, missing_validation, repeated_data
from continuum.lint.pins import unpinned_revisions
from continuum.lint.secrets import literal_secrets
from continuum.lint.storage import full_disk, nothing_to_resume_from
from continuum.lint.subject import Rule, Subject
from continuum.lint.suppression import Allowance, read_allowances
from continuum.lint.training import idle_resumes, long_warmups, risen_rates
from continuum.lint.waste import equal_stages, unused_results, unused_variables
from continuum.plan import Plan
from continuum.spec.diagnostics import Diagnostic, in_order
from continuum.spec.experiment import Document

RULES = (
    Rule("W001", repeated_data, depends_on_folder=True),
    Rule("W002", long_warmups),
    Rule("W003", unpinned_revisions, depends_on_folder=True),
    Rule("W004", literal_secrets),
    Rule("W005", risen_rates),
    Rule("W006", evaluation_on_training_data, depends_on_folder=True),
    Rule("W007", full_disk, depends_on_folder=True),
    Rule("W008", nothing_to_resume_from),
    Rule("W009", idle_resumes),
    Rule("W010", missing_validation),
    Rule("W011", unused_results),
    Rule("W012", equal_stages),
    Rule("W013", unused_variables),
)
USELESS_ALLOWANCE = "W014"


def lint(document: Document, plan: Plan, *, strict: bool = False) -> tuple[Diagnostic, ...]:
    """What looks unwise in an experiment, by place.

    Args:
        document: The experiment as it is written.
        plan: What a run of it would do.
        strict: Make errors of the warnings.
    """
    subject = Subject(document, plan)
    allowances = read_allowances(document.composition.files)
    found = [(rule, finding) for rule in RULES for finding in _apply(rule, subject)]
    told = [finding for _, finding in found if not any(a.covers(finding) for a in allowances)]
    told += _useless(allowances, [finding for _, finding in found], document)
    severe = (replace(finding, severity="error" if strict else "warning") for finding in told)
    return in_order(severe)


def _apply(rule: Rule, subject: Subject) -> Iterator[Diagnostic]:
    for finding in rule.check(subject):
        yield subject.diagnostic(rule.code, finding)


def _useless(
    allowances: tuple[Allowance, ...], found: list[Diagnostic], document: Document
) -> Iterator[Diagnostic]:
    """Allowances that silence nothing; in a base they may serve another experiment."""
    rules = {rule.code: rule for rule in RULES}
    own = str(document.composition.files[0])
    for allowance in allowances:
        used = {finding.code for finding in found if allowance.covers(finding)}
        for code, place in allowance.codes.items():
            if code not in rules:
                message = f"there is no rule {code!r} to allow; they are {', '.join(rules)}"
                yield Diagnostic(USELESS_ALLOWANCE, message, place)
            elif place.file == own and code not in used and not rules[code].depends_on_folder:
                message = f"{code} is allowed here, and nothing here breaks that rule; delete it"
                yield Diagnostic(USELESS_ALLOWANCE, message, place)
