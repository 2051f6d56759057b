"""Rules about what is made or written for nothing: W011, W012, W013."""

from collections.abc import Iterator

from continuum.artifacts import Checkpoint
from continuum.lint.subject import Finding, Subject


def unused_results(subject: Subject) -> Iterator[Finding]:
    """Texts, tokenizers and datasets that no other stage uses, where the aim is a model."""
    if not subject.trainings:
        return
    used = {ref.stage for planned in subject.plan for ref in planned.refs}
    for name, stage in subject.document.experiment.stages.items():
        is_model = any(issubclass(made, Checkpoint) for made in stage.output_types())
        if name not in used and not is_model:
            noun = stage.output_types()[0].noun
            message = f"no stage uses the {noun} that {name!r} makes"
            yield Finding(("stages", name), message, at_key=True)


def equal_stages(subject: Subject) -> Iterator[Finding]:
    """Stages that make the same thing twice."""
    unknown = _unknown_bytes(subject)
    first: dict[str, str] = {}
    for name in (name for name in subject.document.experiment.stages if name not in unknown):
        same = first.setdefault(subject.plan.stages[name].fingerprint, name)
        if same != name:
            message = (
                f"{name!r} makes exactly what {same!r} makes, and both would be carried out; "
                "use that one, or change what was meant to differ"
            )
            yield Finding(("stages", name), message, at_key=True)


def unused_variables(subject: Subject) -> Iterator[Finding]:
    """Variables of the experiment's own file that no value uses; a base may serve others."""
    composition = subject.document.composition
    declared = composition.written.child("vars")
    for name in composition.unused_variables:
        node = declared.child(name) if declared is not None else None
        if node is not None and node.place.file == str(composition.files[0]):
            yield Finding(("vars", name), f"nothing uses the variable {name!r}", at_key=True)


def _unknown_bytes(subject: Subject) -> set[str]:
    """Stages that wait for local files which are not there yet: their fingerprints lack them."""
    unknown: set[str] = set()
    for planned in subject.plan:
        is_below = any(ref.stage in unknown for ref in planned.refs)
        if is_below or planned.forecast.problems:
            unknown.add(planned.name)
    return unknown
