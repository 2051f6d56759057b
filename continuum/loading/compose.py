"""From files to one document: `extends`, `--set` and `vars`; every value keeps its place."""

import os.path
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from continuum.loading.diagnostics import Diagnostic, Place, SpecError
from continuum.loading.keys import clear_typos, suggest
from continuum.loading.overrides import HEAD, as_index, override
from continuum.loading.variables import fill_variables, variables_in
from continuum.loading.yaml import Node, Removal, read_file
from continuum.runs.file_names import unescape_name
from continuum.suggestions import nearest

MAX_CHAIN = 32
"""Maximum length of a chain of `extends`."""


@dataclass(frozen=True)
class Composition:
    """The document of an experiment, from all its files and overrides."""

    root: Node
    """With variables substituted."""
    written: Node
    """With variables as they are written."""
    recoverable: list[Diagnostic]
    """Errors after which the document can still be checked."""
    files: tuple[Path, ...]
    """All files that were read, the experiment's own first."""
    unused_variables: tuple[str, ...]
    """Names in `vars` that nothing uses."""
    environment: frozenset[str]
    """Dotted paths of the values with environment variables."""


def compose(path: Path, overrides: Sequence[str] = ()) -> Composition:
    """Return the document with bases merged, overrides applied and variables substituted.

    Raises:
        SpecError: the document cannot be checked further.
    """
    recoverable: list[Diagnostic] = []
    files = _Files(recoverable)
    root = files.read(path, (), None)
    declared = _variables(root)
    for text in overrides:
        try:
            root = override(root, text)
        except SpecError as error:
            recoverable += error.diagnostics
    filled = fill_variables(root, recoverable)
    unused = tuple(name for name in _variables(root) if name not in filled.used)
    recoverable += _useless_overrides(root, declared.keys(), unused)
    paths = tuple(files.paths)
    return Composition(filled.root, root, recoverable, paths, unused, filled.environment)


def read_bases(path: Path) -> Node | None:
    """Return the bases of an experiment merged, with variables as they are written.

    Returns:
        None if it extends no file.

    Raises:
        SpecError: a base cannot be read.
    """
    root = read_file(path, [])
    named = root.value.get("extends") if isinstance(root.value, dict) else None
    if named is None or named.value == []:
        return None
    *bases, merged = _Files([]).bases(named, (_real_path(path),))
    for base in reversed(bases):
        merged = merge(base, merged)
    return merged


def with_variable_places(error: Diagnostic, composition: Composition) -> Diagnostic:
    """Return the error with the places of the variables in the value that it is about."""
    node: Node | None = composition.written
    for part in error.path.split("."):
        node = node.child(as_index(part)) if node is not None else None
    if node is None or not isinstance(node.value, str):
        return error
    declared = _variables(composition.written)
    used = [name for name in dict.fromkeys(variables_in(node.value)) if name in declared]
    places = "".join(f"; {name} is set at {declared[name].place}" for name in used)
    return replace(error, message=error.message + places)


def _variables(root: Node) -> dict[str, Node]:
    declared = root.child("vars")
    return declared.value if declared is not None and isinstance(declared.value, dict) else {}


def _useless_overrides(
    root: Node, declared: Collection[str], unused: Sequence[str]
) -> Iterator[Diagnostic]:
    """Variables that only `--set` defines and nothing uses, so their names must be wrong."""
    for name in unused:
        if name not in declared:
            place = _variables(root)[name].place
            message = f"vars.{name}: unused variable {name!r}"
            yield Diagnostic("E304", message, place, f"vars.{name}", suggest(name, declared))


class _Files:
    """Reads each file once."""

    def __init__(self, recoverable: list[Diagnostic]) -> None:
        self._recoverable = recoverable
        self._read: dict[Path, Node] = {}
        self.paths: list[Path] = []
        """In the order they were opened."""

    def read(self, path: Path, above: tuple[Path, ...], said_at: Place | None) -> Node:
        """Return a file merged over its bases.

        Args:
            path: The file.
            above: The files that extend it, each extending the next.
            said_at: The place that names it; None for the experiment itself.
        """
        real = _real_path(path)
        if said_at is not None:
            _check_base(path, real, above, said_at)
        if real not in self._read:
            self._read[real] = self._merge_bases(path, (*above, real))
        return self._read[real]

    def _merge_bases(self, path: Path, chain: tuple[Path, ...]) -> Node:
        self.paths.append(path)
        root = read_file(path, self._recoverable)
        if not isinstance(root.value, dict):
            message = "an experiment must be a mapping (`continuum: 1`, `name: …`, `stages: …`)"
            raise SpecError([*self._recoverable, Diagnostic("E008", message, root.place)])
        root = _renamed(root, self._recoverable)
        assert isinstance(root.value, dict)
        named = root.value.get("extends")
        own = replace(root, value={k: v for k, v in root.value.items() if k != "extends"})
        for base_root in reversed(self.bases(named, chain) if named is not None else []):
            own = merge(base_root, own)
        return own

    def bases(self, named: Node, chain: tuple[Path, ...]) -> list[Node]:
        """Return the files that `extends` names, each with its own bases merged."""
        errors: list[Diagnostic] = []
        bases = []
        for base, place in _base_files(named, self._recoverable):
            try:
                bases.append(self.read(base, chain, place))
            except SpecError as error:
                errors += error.diagnostics
        if errors:
            raise SpecError([*self._recoverable, *errors])
        return bases


def _renamed(root: Node, recoverable: list[Diagnostic]) -> Node:
    """The file with typos in top-level keys fixed, since bases are merged by their keys."""
    assert isinstance(root.value, dict)
    for key, meant in clear_typos(root.value, dict.fromkeys(HEAD, False)).items():
        node = root.value[key]
        message = f"unknown key {key!r} in the experiment"
        recoverable.append(Diagnostic("E101", message, node.key_place or node.place, key, meant))
        root = root.put((key,), node if node.value is not None else None, name=meant)
    return root


def merge(base: Node, over: Node) -> Node:
    """Merge mappings deeply; anything else in `over` replaces the value of `base`."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        removes = over.value is None and base.value is not None
        return Removal(None, over.place, over.key_place) if removes else over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return replace(over, value=merged)


def _real_path(path: Path) -> Path:
    """The path with links resolved, whether or not it exists."""
    try:
        return Path(os.path.realpath(path))  # `resolve` raises for circular links
    except ValueError:  # a NUL
        return path


def _check_base(path: Path, real: Path, above: tuple[Path, ...], said_at: Place) -> None:
    if real in above:
        circle = " -> ".join(p.name for p in (*above[above.index(real) :], real))
        message = f"circular `extends`: {circle}"
        raise SpecError([Diagnostic("E303", message, said_at, "extends")])
    if len(above) > MAX_CHAIN:
        message = f"chain of `extends` is longer than {MAX_CHAIN} files"
        raise SpecError([Diagnostic("E302", message, said_at, "extends")])
    if "${" in str(path):
        message = "variables are not substituted in `extends`; write the path out"
        raise SpecError([Diagnostic("E302", message, said_at, "extends")])
    try:
        problem = None if real.is_file() else "is not a file" if real.exists() else "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem is not None:
        message = (
            f"{path} {problem}; paths in `extends` are relative to the file that contains them"
        )
        raise SpecError([Diagnostic("E302", message, said_at, "extends")])


def _base_files(named: Node, recoverable: list[Diagnostic]) -> list[tuple[Path, Place]]:
    """The files in `extends`; a typo in the name of an existing file is fixed."""
    nodes = named.value if isinstance(named.value, list) else [named]
    errors = [
        Diagnostic("E103", "`extends` must be a file or a list of files", node.place, "extends")
        for node in nodes
        if not isinstance(node.value, str) or not node.value
    ]
    if errors:
        raise SpecError([*recoverable, *errors])
    return [(_existing(str(node.value), node.place, recoverable), node.place) for node in nodes]


def _existing(said: str, place: Place, recoverable: list[Diagnostic]) -> Path:
    path = place.folder / said
    try:
        if (spelled := place.folder / unescape_name(said)).exists():
            path = spelled
        beside = () if path.exists() else sorted(path.parent.glob("*.y*ml"))
    except (OSError, ValueError):
        beside = ()
    meant = nearest(path.name, [file.name for file in beside])
    if meant is None:
        return path
    suggestion = os.path.join(os.path.dirname(said), meant)  # noqa: PTH118, PTH120  # as written
    recoverable.append(Diagnostic("E302", f"{path} does not exist", place, "extends", suggestion))
    return path.with_name(meant)
