"""W003: what is fetched from elsewhere without saying which bytes."""

from collections.abc import Iterator

from continuum.lint.subject import Finding, Subject


def unpinned_revisions(subject: Subject) -> Iterator[Finding]:
    """Downloads without a commit and URLs without a hash that the lock does not pin either."""
    for name, stage in subject.document.experiment.stages.items():
        for problem in stage.unpinned(subject.plan.stages[name].pins):
            yield Finding(("stages", name, *problem.path), problem.message, problem.suggestion)
