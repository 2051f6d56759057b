"""Rules about the document: W003 unpinned sources, W011 to W013 unused or duplicate parts."""

from collections.abc import Iterator

from continuum.errors import Problem
from continuum.lint.rules import LintContext, rule
from continuum.runs.artifacts import Texts, TokenizerFiles


@rule("W003", needs="folder")
def unpinned_sources(context: LintContext) -> Iterator[Problem]:
    """Unpinned source.

    A branch moves and a file behind a URL is replaced, so the same spec gives another result next
    month. Write the commit or the SHA-256 into the spec, or commit the continuum.lock that a run
    writes, which pins the sources.

    Wrong:
        tokenizer: {kind: download, repo: EleutherAI/pythia-160m, revision: main, …}
        books: {kind: fetch, sources: [{url: https://example.org/book.txt}]}
    Right:
        tokenizer:
          kind: download
          repo: EleutherAI/pythia-160m
          revision: 50f5173d932e8e61f858120bcb800b97af589f46
        books:
          kind: fetch
          sources: [{url: https://example.org/book.txt, sha256: 9f86d08…}]
    """
    for planned in context.plan:
        for problem in planned.stage.unpinned(planned.pins):
            yield problem.below("stages", planned.name)


@rule("W011")
def unused_results(context: LintContext) -> Iterator[Problem]:
    """Unused result.

    Texts, tokenizers and datasets are inputs of other stages. One that no stage uses costs time,
    and often means that a reference was forgotten.

    Wrong:
        new_tokens: {kind: tokenize, …}
        retrain: {kind: retrain, data: tokens, …}
    Right:
        new_tokens: {kind: tokenize, …}
        retrain: {kind: retrain, data: new_tokens, …}
    """
    if not context.trainings:
        return
    used = {ref.stage for planned in context.plan for ref in planned.refs}
    for name, stage in context.plan.experiment.stages.items():
        is_input = any(issubclass(it, (Texts, TokenizerFiles)) for it in stage.output_types())
        if name not in used and is_input:
            noun = stage.output_types()[0].noun
            message = f"no stage uses the {noun} of {name!r}"
            yield Problem(("stages", name), message, at_key=True)


@rule("W012")
def equal_stages(context: LintContext) -> Iterator[Problem]:
    """Two stages with the same result.

    Everything that determines the result is equal: fields, inputs and seed. Both would run. Most
    often one is a copy of the other, and the intended change was forgotten.

    Wrong:
        low: {kind: pretrain, optimizer: {lr: 1e-4}, …}
        high: {kind: pretrain, optimizer: {lr: 1e-4}, …}
    Right:
        low: {kind: pretrain, optimizer: {lr: 1e-4}, …}
        high: {kind: pretrain, optimizer: {lr: 1e-3}, …}
    """
    unknown = _unknown_bytes(context)
    first: dict[str, str] = {}
    for name in (name for name in context.plan.experiment.stages if name not in unknown):
        same = first.setdefault(context.plan.stages[name].fingerprint, name)
        if same != name:
            message = (
                f"{name!r} has the same result as {same!r}, and both would run; use that one, or "
                "change what should differ"
            )
            yield Problem(("stages", name), message, at_key=True)


@rule("W013")
def unused_variables(context: LintContext) -> Iterator[Problem]:
    """Unused variable.

    It is a leftover, or its `${name}` is missing or misspelled. Variables of a base are not
    reported, since another experiment may use them.

    Wrong:
        vars: {books: https://example.org}
        stages: {books: {kind: fetch, sources: [{url: https://example.net/1.txt}]}}
    Right:
        vars: {books: https://example.org}
        stages: {books: {kind: fetch, sources: [{url: "${books}/1.txt"}]}}
    """
    composition = context.loaded.composition
    assert composition is not None, "a planned experiment was composed"
    declared = composition.written.child("vars")
    for name in composition.unused_variables:
        node = declared.child(name) if declared is not None else None
        if node is not None and node.place.file == str(composition.files[0]):
            yield Problem(("vars", name), f"unused variable {name!r}", at_key=True)


def _unknown_bytes(context: LintContext) -> set[str]:
    """Stages with missing local files: their fingerprints are incomplete."""
    unknown: set[str] = set()
    for planned in context.plan:
        is_below = any(ref.stage in unknown for ref in planned.refs)
        if is_below or planned.forecast.problems:
            unknown.add(planned.name)
    return unknown
