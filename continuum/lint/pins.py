"""W003: what is fetched from elsewhere without saying which bytes."""

import re
from collections.abc import Iterator, Mapping

from continuum.lint.subject import Finding, Subject
from continuum.stages.download import Download
from continuum.stages.fetch import Fetch

COMMIT = re.compile(r"[0-9a-f]{40}")


def unpinned_revisions(subject: Subject) -> Iterator[Finding]:
    """Downloads without a commit and URLs without a hash that the lock does not pin either."""
    for name, stage in subject.document.experiment.stages.items():
        pins = subject.plan.stages[name].pins
        if isinstance(stage, Download) and f"{stage.repo}@{stage.revision}" not in pins:
            yield from _unpinned_download(name, stage, subject)
        elif isinstance(stage, Fetch):
            yield from _unpinned_sources(name, stage, pins)


def _unpinned_download(name: str, stage: Download, subject: Subject) -> Iterator[Finding]:
    if COMMIT.fullmatch(stage.revision):
        return
    path = ("stages", name, "revision")
    yield Finding(
        path if subject.is_written(path) else ("stages", name, "repo"),
        f"revision {stage.revision!r} may mean another commit tomorrow",
        "write the commit's 40 hexadecimal digits, or commit the continuum.lock that a run writes",
    )


def _unpinned_sources(name: str, stage: Fetch, pins: Mapping[str, str]) -> Iterator[Finding]:
    for index, source in enumerate(stage.sources):
        if source.url is not None and source.sha256 is None and source.url not in pins:
            yield Finding(
                ("stages", name, "sources", index, "url"),
                "nothing says which bytes this address has to give",
                "add the file's `sha256`, or commit the continuum.lock that a run writes",
            )
