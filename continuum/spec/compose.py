"""From files to one document: `extends`, `--set`, `vars`; every value keeps its place of origin."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from continuum.spec.diagnostics import Diagnostic, Place, SpecError
from continuum.spec.overrides import override
from continuum.spec.source import Node, read_file
from continuum.spec.variables import fill_variables

MAX_CHAIN = 32
"""Files that extend one another, at most."""


def compose(path: Path, overrides: Sequence[str] = ()) -> tuple[Node, list[Diagnostic]]:
    """The whole document of an experiment: its bases merged, overrides set, variables filled in.

    Returns:
        The document, and the mistakes that do not hinder checking it further.

    Raises:
        SpecError: mistakes that do.
    """
    mild: list[Diagnostic] = []
    root = _Files(mild).read(path, (), None)
    for text in overrides:
        try:
            root = override(root, text)
        except SpecError as error:
            mild += error.diagnostics
    return fill_variables(root, mild), mild


def merge(base: Node, over: Node) -> Node:
    """Deep merge of mappings; anything else in `over` replaces what `base` has."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return replace(over, value=merged)


class _Files:
    """Reads each file once, however often it is extended."""

    def __init__(self, mild: list[Diagnostic]) -> None:
        self._mild = mild
        self._read: dict[Path, Node] = {}

    def read(self, path: Path, above: tuple[Path, ...], said_at: Place | None) -> Node:
        """A file merged over its bases.

        Args:
            path: The file.
            above: The files that led to it, each extending the next.
            said_at: Where it is named; None for the experiment itself.
        """
        real = path.resolve()
        if said_at is not None:
            _check_base(path, real, above, said_at)
        if real not in self._read:
            self._read[real] = self._merge_bases(path, (*above, real))
        return self._read[real]

    def _merge_bases(self, path: Path, chain: tuple[Path, ...]) -> Node:
        root = read_file(path, self._mild)
        if not isinstance(root.value, dict):
            message = "an experiment is a mapping (`continuum: 1`, `name: …`, `stages: …`)"
            raise SpecError([*self._mild, Diagnostic("E008", message, root.place)])
        named = root.value.get("extends")
        own = replace(root, value={k: v for k, v in root.value.items() if k != "extends"})
        faults: list[Diagnostic] = []
        bases = []
        for base, place in _base_files(named) if named is not None else ():
            try:
                bases.append(self.read(base, chain, place))
            except SpecError as error:
                faults += error.diagnostics
        if faults:
            raise SpecError([*self._mild, *faults])
        for base_root in reversed(bases):
            own = merge(base_root, own)
        return own


def _check_base(path: Path, real: Path, above: tuple[Path, ...], said_at: Place) -> None:
    if real in above:
        circle = " -> ".join(p.name for p in (*above[above.index(real) :], real))
        message = f"files extend each other in a circle: {circle}"
        raise SpecError([Diagnostic("E303", message, said_at, "extends")])
    if len(above) > MAX_CHAIN:
        message = f"more than {MAX_CHAIN} files extend one another"
        raise SpecError([Diagnostic("E302", message, said_at, "extends")])
    try:
        problem = None if real.is_file() else "is no file" if real.exists() else "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem is not None:
        message = f"{path} {problem}; a path in `extends` is relative to the file that says it"
        raise SpecError([Diagnostic("E302", message, said_at, "extends")])


def _base_files(named: Node) -> list[tuple[Path, Place]]:
    nodes = named.value if isinstance(named.value, list) else [named]
    faults = [
        Diagnostic("E103", "`extends` is a file or a list of files", node.place, "extends")
        for node in nodes
        if not isinstance(node.value, str) or not node.value
    ]
    if faults:
        raise SpecError(faults)
    return [(node.place.folder / str(node.value), node.place) for node in nodes]
