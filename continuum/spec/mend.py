"""Misspelt keys and kinds, noted and then read as they were meant.

A key that is one slip from a known one would otherwise cost the reader twice: the known one would
be missing too, and what stands below it would go unchecked until the next attempt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from continuum.architecture import TIED, config_field_names
from continuum.optimizers import OPTIMIZER_ARGUMENTS, Optimizer
from continuum.spec.diagnostics import MAX_MISTAKES, Diagnostic, SpecError
from continuum.spec.foreign import same_names
from continuum.spec.keys import KeyPath, field_names, models_at, required_names
from continuum.spec.merge import merge
from continuum.spec.source import Node
from continuum.spec.wording import owner_of, show
from continuum.spelling import nearest
from continuum.stage import Stage
from continuum.stages import stage_kinds

MAX_UNKNOWN = 100
"""Unknown keys of one mapping: where there are more, they are no slips."""
MAX_PAIRS = 10_000
"""Stages of the file and of its bases whose names are compared."""
_INDENT = "indent it as those below `stages`"
HEAD = ("continuum", "name", "description", "seed", "seeds", "vars", "stages", "extends")
"""Keys of a file: those of the experiment, and `extends`."""


def mend_head(root: Node, faults: list[Diagnostic]) -> Node:
    """A file whose misspelt keys at the top are put right; each is appended to `faults`.

    Stages among them, which lack their indentation, are put below `stages`.
    """
    root = _renamed(root, (), _slips(root, HEAD, ()), faults)
    stages = root.child("stages")
    assert isinstance(root.value, dict)
    if stages is None or not isinstance(stages.value, dict):
        return root
    strays = _strays(root.value, HEAD, stages.value, (), faults)
    kept = {key: node for key, node in root.value.items() if key not in strays}
    kept["stages"] = replace(stages, value={**stages.value, **strays})
    return replace(root, value=kept)


def mend_stages(root: Node, faults: list[Diagnostic]) -> Node:
    """The document whose misspelt kinds and keys below `stages` are put right."""
    stages = root.child("stages")
    if stages is None or not isinstance(stages.value, dict):
        return root
    whole = _take_out(_take_back(_join(stages.value, root, faults), faults), faults)
    mended = {name: _mend_stage(name, node, faults) for name, node in whole.items()}
    assert isinstance(root.value, dict)
    return replace(root, value={**root.value, "stages": replace(stages, value=mended)})


def is_only_in_base(node: Node, root: Node) -> bool:
    """Whether it is a part of a stage, meant to be completed by a stage that is not there."""
    return _is_elsewhere(node, root) and isinstance(node.value, dict) and "kind" not in node.value


def _join(stages: Mapping[str, Node], root: Node, faults: list[Diagnostic]) -> Mapping[str, Node]:
    """The stages, with those of bases joined to the ones that complete them by a misspelt name."""
    bases = [name for name, node in stages.items() if _is_elsewhere(node, root)]
    own = [name for name, node in stages.items() if bases and _is_own(node, root)]
    if len(bases) * len(own) > MAX_PAIRS:
        return stages
    meant: dict[str, str] = {}
    for base in bases:
        is_whole = stages[base].child("kind") is not None
        free = [n for n in own if n not in meant and not (is_whole and stages[n].child("kind"))]
        if (slip := nearest(base, free)) is not None:
            meant[slip] = base
            message = f"there is no stage {slip!r} in the bases to be completed by this one"
            place = stages[slip].key_place or stages[slip].place
            faults.append(Diagnostic("E102", message, place, f"stages.{slip}", base))
    return {
        meant.get(name, name): merge(stages[meant[name]], node, set()) if name in meant else node
        for name, node in stages.items()
        if name not in meant.values()
    }


def _is_elsewhere(node: Node, root: Node) -> bool:
    place = node.key_place
    return place is not None and not place.is_override and place.file != root.place.file


def _is_own(node: Node, root: Node) -> bool:
    """Whether all of a stage stands in the file itself."""
    below = node.value.values() if isinstance(node.value, dict) else ()
    return bool(below) and not any(_is_elsewhere(item, root) for item in (node, *below))


def _take_back(stages: Mapping[str, Node], faults: list[Diagnostic]) -> dict[str, Node]:
    """The stages, with fields that stand among them put into the stage above, which lacks them."""
    whole: dict[str, Node] = {}
    for name, node in stages.items():
        above, owner = next(reversed(whole.items()), ("", None))
        cls = _class_of(owner)
        is_field = cls is not None and node.child("kind") is None and name in field_names(cls, ())
        if not is_field or owner is None or owner.child(name) is not None:
            whole[name] = node
            continue
        message = f"{name!r} is no stage; it belongs in stage {above!r}: indent it further"
        faults.append(Diagnostic("E101", message, node.key_place or node.place, f"stages.{name}"))
        assert isinstance(owner.value, dict)
        whole[above] = replace(owner, value={**owner.value, name: node})
    return whole


def _take_out(stages: Mapping[str, Node], faults: list[Diagnostic]) -> dict[str, Node]:
    """The stages, with those that are indented into another one beside it."""
    whole = dict(stages)
    for name, node in stages.items():
        cls = _class_of(node)
        if cls is None:
            continue
        assert isinstance(node.value, dict)
        strays = _strays(node.value, field_names(cls, ()), whole, ("stages", name), faults)
        kept = {key: below for key, below in node.value.items() if key not in strays}
        whole |= {name: replace(node, value=kept), **strays}
    return whole


def _strays(
    mapping: Mapping[str, Node],
    known: Sequence[str],
    stages: Mapping[str, Node],
    where: KeyPath,
    faults: list[Diagnostic],
) -> dict[str, Node]:
    """Stages in a mapping that holds none; each is told."""
    strays = {
        key: node
        for key, node in mapping.items()
        if key not in known and key not in stages and _class_of(node) is not None
    }
    for key, node in strays.items():
        path = ".".join(str(part) for part in (*where, key))
        message = f"unknown key {key!r} in {owner_of(where)}; it looks like a stage: {_INDENT}"
        faults.append(Diagnostic("E101", message, node.key_place or node.place, path))
    return strays


def unknown_kind(kind: str) -> str:
    """What is said of a kind that does not exist."""
    return f"there is no kind {show(kind)}; known: {', '.join(stage_kinds())}"


def _mend_stage(name: str, node: Node, faults: list[Diagnostic]) -> Node:
    where = ("stages", name)
    if not isinstance(node.value, dict):
        return node
    if len(faults) > MAX_MISTAKES:
        raise SpecError(faults)
    node = _mend_kind(where, _mend_kind_key(where, node, faults), faults)
    cls = _class_of(node)
    return node if cls is None else _mend(cls, where, (), node, faults)


def _class_of(stage: Node | None) -> type[Stage] | None:
    """The kind of a stage, None if it has none that is known."""
    kind = stage.child("kind") if stage else None
    return stage_kinds().get(kind.value) if kind and isinstance(kind.value, str) else None


def _mend_kind_key(where: KeyPath, node: Node, faults: list[Diagnostic]) -> Node:
    assert isinstance(node.value, dict)
    if "kind" in node.value:
        return node
    texts = [key for key, below in node.value.items() if isinstance(below.value, str)]
    slips = [key for key in texts if nearest(key, ["kind"]) or "kind" in same_names(key)]
    return _renamed(node, where, {slips[0]: "kind"} if slips else {}, faults)


def _mend_kind(where: KeyPath, node: Node, faults: list[Diagnostic]) -> Node:
    kind, kinds = node.child("kind"), stage_kinds()
    if kind is None or not isinstance(kind.value, str) or kind.value in kinds:
        return node
    meant = nearest(kind.value, kinds)
    if meant is None:
        return node
    path = ".".join(str(part) for part in (*where, "kind"))
    faults.append(Diagnostic("E105", unknown_kind(kind.value), kind.place, path, meant))
    assert isinstance(node.value, dict)
    return replace(node, value={**node.value, "kind": replace(kind, value=meant)})


def _mend(
    cls: type[Stage], where: KeyPath, path: KeyPath, node: Node, faults: list[Diagnostic]
) -> Node:
    """The value at `path` below a stage with the keys of its mappings put right."""
    if isinstance(node.value, list):
        items = [_mend(cls, where, (*path, i), n, faults) for i, n in enumerate(node.value)]
        return replace(node, value=items)
    if not isinstance(node.value, dict):
        return node
    known = (*field_names(cls, path), *_open_keys(cls, path, node))
    if not known:
        return node
    slips = _slips(node, known, required_names(cls, path))
    node = _renamed(node, (*where, *path), slips, faults)
    assert isinstance(node.value, dict)
    below = {k: _mend(cls, where, (*path, k), n, faults) for k, n in node.value.items()}
    return replace(node, value=below)


def _open_keys(cls: type[Stage], path: KeyPath, node: Node) -> Sequence[str]:
    """Keys that a mapping may have besides the fields of its model."""
    if Optimizer in models_at(cls, path):
        name = node.child("name")
        given = str(name.value) if name is not None else Optimizer.model_fields["name"].default
        return OPTIMIZER_ARGUMENTS.get(nearest(given, OPTIMIZER_ARGUMENTS) or "", ())
    return ("name", TIED, *config_field_names()) if path == ("model",) else ()


def _slips(node: Node, known: Sequence[str], required: Sequence[str]) -> Mapping[str, str]:
    """Keys of a mapping that are none, with those meant; what is required is meant first."""
    assert isinstance(node.value, dict)
    unknown = [key for key in node.value if key not in known]
    if len(unknown) > MAX_UNKNOWN:
        return {}
    absent = [name for name in (*required, *known) if name not in node.value]
    meant: dict[str, str] = {}
    for key in unknown:
        free = [name for name in absent if name not in meant.values()]
        slip = nearest(key, [*free, *known], max_slips=1)  # of those as near, one that is absent
        same = next((ours for ours in same_names(key) if ours in free), None)
        found = slip or same or nearest(key, [*free, *known])
        if found in free:
            meant[key] = found
    return meant


def _renamed(
    node: Node, where: KeyPath, names: Mapping[str, str], faults: list[Diagnostic]
) -> Node:
    """A mapping with keys replaced, in the same order; each is told as unknown.

    What is null is left out: that a field cannot be so is no second mistake.
    """
    if not names:
        return node
    assert isinstance(node.value, dict)
    for key, meant in names.items():
        below = node.value[key]
        message = f"unknown key {key!r} in {owner_of(where)}"
        path = ".".join(str(part) for part in (*where, key))
        faults.append(Diagnostic("E101", message, below.key_place or below.place, path, meant))
    kept = {
        names.get(key, key): below
        for key, below in node.value.items()
        if key not in names or below.value is not None
    }
    return replace(node, value=kept)
