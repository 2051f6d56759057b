"""Rules about what is written: W003 not pinned, W011 to W013 made or written for nothing."""

from collections.abc import Iterator

from continuum.lint.rules import LintContext, rule
from continuum.problems import Problem
from continuum.runs.artifacts import Checkpoint


@rule("W003", needs="folder")
def unpinned_sources(context: LintContext) -> Iterator[Problem]:
    """What is fetched is not pinned.

    A branch moves and a file behind a URL is replaced, so the same spec makes something else next
    month. Write the commit or the hash into the spec, or commit the continuum.lock that a run
    writes: it pins what the sources were.

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
    """A result that no stage uses.

    Texts, tokenizers and datasets are made for other stages. One that nobody uses costs time, and
    often stands for a reference that was forgotten.

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
        is_model = any(issubclass(made, Checkpoint) for made in stage.output_types())
        if name not in used and not is_model:
            noun = stage.output_types()[0].noun
            message = f"no stage uses the {noun} that {name!r} makes"
            yield Problem(("stages", name), message, at_key=True)


@rule("W012")
def equal_stages(context: LintContext) -> Iterator[Problem]:
    """Two stages make exactly the same thing.

    All that decides about the result is equal: fields, inputs, seed. Both would be carried out.
    Most often one was copied and what should differ was not changed.

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
                f"{name!r} makes exactly what {same!r} makes, and both would be carried out; "
                "use that one, or change what was meant to differ"
            )
            yield Problem(("stages", name), message, at_key=True)


@rule("W013")
def unused_variables(context: LintContext) -> Iterator[Problem]:
    """A variable that nothing uses.

    A leftover, or a `${name}` that was written out or misspelt. Variables of a base are not meant:
    they may serve another experiment.

    Wrong:
        vars: {books: https://example.org}
        stages: {books: {kind: fetch, sources: [{url: https://example.net/1.txt}]}}
    Right:
        vars: {books: https://example.org}
        stages: {books: {kind: fetch, sources: [{url: "${books}/1.txt"}]}}
    """
    composition = context.loaded.composition
    assert composition is not None, "what is planned was composed"
    declared = composition.written.child("vars")
    for name in composition.unused_variables:
        node = declared.child(name) if declared is not None else None
        if node is not None and node.place.file == str(composition.files[0]):
            yield Problem(("vars", name), f"nothing uses the variable {name!r}", at_key=True)


def _unknown_bytes(context: LintContext) -> set[str]:
    """Stages that wait for local files which are not there yet: their fingerprints lack them."""
    unknown: set[str] = set()
    for planned in context.plan:
        is_below = any(ref.stage in unknown for ref in planned.refs)
        if is_below or planned.forecast.problems:
            unknown.add(planned.name)
    return unknown
