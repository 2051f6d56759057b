"""The identity of a stage: what determines its result, independent of names.

The hashed payload contains a stage's inputs by field, with their fingerprints instead of their
names, so that renaming a stage or a dataset changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.errors import Problem
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import Ref, Spec
from continuum.experiment.recipe import Recipe, evaluation_identity, training_identity
from continuum.experiment.stage import Stage
from continuum.experiment.url import Url
from continuum.runs.fingerprint import canonical_json, fingerprint

PAYLOAD = 2
"""Version of the payload. The first version has no such field and keys inputs by their names."""
_TAKEN_OUT = object()


@dataclass(frozen=True)
class Identity:
    """A stage, and everything that determines its result."""

    stage: Stage
    """The stage with its seeds filled in."""
    recipe: Spec | None
    """The complete recipe, if it trains."""
    refs: tuple[Ref[Any], ...]
    """All inputs, including those that a resume inherits."""
    inputs: Mapping[str, tuple[str, ...]]
    """The possible fingerprints of each input's stage, by reference."""
    payload: dict[str, Any]
    """As it is recorded: URLs without credentials."""
    fingerprint: str
    earlier: str | None = None
    """The fingerprint by the first version of the payload, if that is equivalent."""

    @property
    def known_by(self) -> tuple[str, ...]:
        """The possible fingerprints of its runs, the current one first."""
        return (self.fingerprint, self.earlier) if self.earlier else (self.fingerprint,)

    @property
    def made_from(self) -> tuple[Ref[Any], ...]:
        """The inputs that affect the result, without those that are only evaluated."""
        observed = self.stage.observed(self.recipe)
        return tuple(ref for ref in self.refs if ref not in observed)


def identify_stages(
    experiment: Experiment, folder: Path, sha256: Callable[[Path], str | None]
) -> dict[str, Identity]:
    """The identities of all stages, in an order of execution.

    Args:
        folder: The experiment's folder.
        sha256: Hashes a local file.
    """
    seeds, found = experiment.all_seeds(), dict[str, Identity]()
    for name in experiment.in_order():
        stage: Stage = experiment.stages[name].seeded(seeds)
        own = stage.refs().values()
        recipe = stage.recipe({ref.stage: found[ref.stage].recipe for ref in own})
        files = {path: sha256(place) for path, place in stage.local_inputs(folder).items()}
        found[name] = _identify(stage, recipe, found, {"files": files} if files else {})
    return found


def _identify(
    stage: Stage, recipe: Spec | None, above: Mapping[str, Identity], files: Mapping[str, Any]
) -> Identity:
    refs = {str(ref): ref for ref in stage.refs().values()}
    if recipe is not None:
        refs |= {str(ref): ref for ref in recipe.refs().values()}
    inputs: dict[str, Any] = {}
    spelled = stage.identity()
    canonical = training_identity(spelled, recipe) if isinstance(recipe, Recipe) else spelled
    fields = _without_inputs(canonical, "", inputs, lambda ref: input_identity(ref, above))
    earlier = _earlier_payload(stage, refs, above, files)
    version = stage.own_version
    payload = {"payload": PAYLOAD, "version": version, "stage": fields, "inputs": inputs, **files}
    return Identity(
        stage,
        recipe,
        tuple(refs.values()),
        {name: above[ref.stage].known_by for name, ref in refs.items()},
        payload,
        fingerprint(_as_written(payload)),
        fingerprint(_as_written(earlier)) if earlier is not None else None,
    )


def _as_written(value: Any) -> Any:
    """The value with URLs as they are written: a credential may select the file."""
    if isinstance(value, dict):
        return {key: _as_written(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_written(item) for item in value]
    return value.written if isinstance(value, Url) else value


def input_identity(ref: Ref[Any], above: Mapping[str, Identity]) -> Any:
    """An input without its name: its fingerprint, and the selected checkpoint.

    The best checkpoint depends on when and on how much the selected stage evaluates, so `evaluate`
    is part of the identity of the stage that selects it.
    """
    it = above[ref.stage]
    recipe = it.recipe if isinstance(it.recipe, Recipe) else None
    last_step = recipe.num_steps(None) if recipe is not None else None
    if ref.step is not None and ref.step != last_step:
        return {"fingerprint": it.fingerprint, "step": ref.step}
    if ref.metric is not None:
        metric, _, dataset = ref.metric.partition("/")
        if dataset:
            known = above.get(dataset)
            metric = f"{metric}/{known.fingerprint if known else dataset}"
        evaluate = evaluation_identity(recipe) if recipe is not None else {}
        return {"fingerprint": it.fingerprint, "best": metric, "evaluate": evaluate}
    return it.fingerprint


def _without_inputs(
    value: Any, path: str, inputs: dict[str, Any], identity_of: Callable[[Ref[Any]], Any]
) -> Any:
    """The value without its references, which are added to `inputs` by field."""
    if isinstance(value, Ref):
        inputs[path] = identity_of(value)
        return _TAKEN_OUT
    if isinstance(value, dict) and any(isinstance(key, Ref) for key in value):
        mixed = [[identity_of(ref), share] for ref, share in value.items()]
        inputs[path] = sorted(mixed, key=canonical_json)
        return _TAKEN_OUT
    if isinstance(value, dict):
        start = f"{path}." if path else ""
        parts = {
            k: _without_inputs(v, f"{start}{k}", inputs, identity_of) for k, v in value.items()
        }
        return {key: part for key, part in parts.items() if part is not _TAKEN_OUT}
    if isinstance(value, (list, tuple)):
        found = (
            _without_inputs(v, f"{path}.{n}", inputs, identity_of) for n, v in enumerate(value)
        )
        return [item for item in found if item is not _TAKEN_OUT]
    return value


def _earlier_payload(
    stage: Stage,
    refs: Mapping[str, Ref[Any]],
    above: Mapping[str, Identity],
    files: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The stage's payload in its first version.

    None if the result or the canonical form of the stage, or of an input, has changed since.
    """
    if stage.own_version != 1 or stage.trains:
        return None
    inputs = {name: above[ref.stage].earlier for name, ref in refs.items()}
    if None in inputs.values():
        return None
    return {"version": 1, "stage": stage.identity(), "inputs": inputs, **files}


def same_data_problems(recipe: Spec | None, above: Mapping[str, Identity]) -> Iterator[Problem]:
    """Errors of datasets that occur twice in a mixture under different names.

    Args:
        above: The datasets to compare; others of the mixture are not known yet.
    """
    seen: dict[str, str] = {}
    data = recipe.data if isinstance(recipe, Recipe) else ()
    for ref in (it for it in data if it.stage in above):
        first = seen.setdefault(above[ref.stage].fingerprint, str(ref))
        if first != ref:
            yield Problem(
                ("data", str(ref)),
                f"{first!r} and {str(ref)!r} are the same dataset under two names; "
                "keep one of them, with the sum of their shares",
                at_key=True,
            )
