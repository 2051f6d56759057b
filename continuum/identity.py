"""What makes a stage the stage it is, and where its run lies: by meaning, whatever it is called.

The payload that is hashed keys a stage's inputs by the field that names them and holds their
fingerprints in the place of their names; so a stage or a dataset that is renamed stays what it
was. Its run folder may carry the older name: it is found by the fingerprint.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from continuum.errors import IntegrityError
from continuum.fields import Ref, Spec, field_values
from continuum.fingerprint import canonical_json, fingerprint
from continuum.problems import Problem
from continuum.recipe import Recipe, evaluation_identity
from continuum.runs import FINGERPRINT_LETTERS, ExperimentFolder, StageRun
from continuum.stage import Stage

PAYLOAD = 2
"""The form of the payload. In the first, which does not say so, inputs are keyed by their names."""
_TAKEN_OUT = object()


@dataclass(frozen=True)
class Identity:
    """A stage's identity and what that of a stage below it hangs on."""

    payload: dict[str, Any]
    fingerprint: str
    refs: tuple[Ref[Any], ...]
    recipe: Spec | None
    earlier: str | None = None
    """The fingerprint by the first form of the payload, where that means the same."""

    @property
    def known_by(self) -> tuple[str, ...]:
        """The fingerprints that a run of it may have, today's first."""
        return (self.fingerprint, self.earlier) if self.earlier else (self.fingerprint,)


def identify(
    stage: Stage,
    refs: tuple[Ref[Any], ...],
    recipe: Spec | None,
    above: Mapping[str, Identity],
    around: Mapping[str, Any],
) -> Identity:
    """The identity of a stage.

    Args:
        refs: All its inputs, those a resume inherits included.
        above: The identities of the stages it refers to, by their names.
        around: What else decides what is made: the digests of local files, the seed.
    """
    inputs: dict[str, Any] = {}
    fields = _without_inputs(
        stage.identity_with(recipe), "", inputs, lambda ref: input_identity(ref, above)
    )
    payload = {
        "payload": PAYLOAD,
        "version": stage.own_version,
        "stage": fields,
        "inputs": inputs,
        **around,
    }
    earlier = _earlier_fingerprint(stage, refs, above, around)
    return Identity(payload, fingerprint(payload), refs, recipe, earlier)


def input_identity(ref: Ref[Any], above: Mapping[str, Identity]) -> Any:
    """An input without its name: its fingerprint, and which of its checkpoints is selected.

    Which is best hangs on when and on how much the selected stage evaluates, which else only
    observes: so that is part of who selects.
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
    """The value without its references, which are put into `inputs` by their fields."""
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


def _earlier_fingerprint(
    stage: Stage,
    refs: Iterable[Ref[Any]],
    above: Mapping[str, Identity],
    around: Mapping[str, Any],
) -> str | None:
    """The stage's fingerprint as the first form of the payload gave it.

    None where the stage, or one above it, makes something else since, or is spelled otherwise.
    """
    if stage.own_version != 1 or stage.trains:
        return None
    inputs = {str(ref): above[ref.stage].earlier for ref in refs}
    if None in inputs.values():
        return None
    payload = {"version": 1, "stage": stage.identity(), "inputs": inputs}
    return fingerprint(payload | ({"files": around["files"]} if "files" in around else {}))


def same_data_problems(recipe: Spec | None, above: Mapping[str, Identity]) -> Iterator[Problem]:
    """Datasets of a mixture that are one and the same: their samples would come twice."""
    seen: dict[str, str] = {}
    for ref in recipe.data if isinstance(recipe, Recipe) else ():
        first = seen.setdefault(above[ref.stage].fingerprint, str(ref))
        if first != ref:
            yield Problem(
                ("data", str(ref)),
                f"{first!r} and {str(ref)!r} are the same dataset under two names; "
                "name one of them, with the sum of their shares",
                at_key=True,
            )


class RunFinder:
    """Finds the run folder of each stage of an experiment, whatever it was called when it ran."""

    def __init__(self, folder: ExperimentFolder, stages: Mapping[str, Stage]) -> None:
        self._folder = folder
        self._stages = stages
        self._found: dict[str, Identity] = {}
        self._taken: dict[str, str] = {}
        """The names of stages, by the names of the folders that were found for them."""

    def find(self, name: str, it: Identity) -> StageRun:
        """The stage's run folder, whether it exists or not.

        A folder that carries the stage's own name comes first, then one of the same fingerprint
        whose name no other stage has a claim to.
        """
        self._found[name] = it
        found = self._find(name, it)
        self._taken.setdefault(found.name, name)
        return found

    def _find(self, name: str, it: Identity) -> StageRun:
        own = [self._folder.run(name, known) for known in it.known_by]
        endings = [known[:FINGERPRINT_LETTERS] for known in it.known_by]
        taken_by = self._taken.get(own[0].name)
        if taken_by is not None:  # a stage that means the same: the folder it would have had
            return self._folder.run(taken_by, it.fingerprint)
        if own[0].is_begun:
            return own[0]
        others = (
            StageRun(self._folder.runs_dir / n) for e in endings for n in self._lying.get(e, ())
        )
        for run in (*own, *others):
            is_free = run.name not in self._taken and not self._is_claimed(name, run)
            if is_free and run.is_begun and _is_of(run, it):
                return run
        return own[0]

    def _is_claimed(self, name: str, run: StageRun) -> bool:
        """Whether the stage that has the folder's name now is the one that ran in it."""
        other = run.stage_name
        if other == name or other not in self._stages:
            return False
        found = self._found.get(other)
        if found is None:  # Its turn is still to come: it is, if it is spelled as this one is.
            return _spelled(self._stages[other]) == _spelled(self._stages[name])
        return any(run.name == self._folder.run(other, known).name for known in found.known_by)

    @cached_property
    def _lying(self) -> dict[str, list[str]]:
        """Names of run folders by the fingerprint that they end with."""
        found: dict[str, list[str]] = {}
        for name in self._folder.run_names():
            found.setdefault(name[-FINGERPRINT_LETTERS:], []).append(name)
        return found


def _spelled(stage: Stage) -> dict[str, Any]:
    """All that a spec says of what a stage makes, local paths too."""
    told = field_values(stage)
    return {it.path: it.value for it in told if it.role in ("identity", "location")}


def _is_of(run: StageRun, it: Identity) -> bool:
    try:
        known = run.record().fingerprint
    except IntegrityError:
        return False
    # What the first form calls the same is taken when it is whole, and never gone on from.
    return known == it.fingerprint or (known == it.earlier and run.is_complete)
