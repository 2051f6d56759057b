"""`${name}` in a document, filled in from its `vars`; `$${` stands for a literal `${`."""

import re
from dataclasses import dataclass, replace
from typing import Any

from continuum.loading.diagnostics import Diagnostic
from continuum.loading.keys import suggest
from continuum.loading.yaml import Node

_PIECE = re.compile(r"\$\$\{|\$\{(?P<name>[^${}]*)\}|(?P<open>\$\{)")
MAX_LENGTH = 1 << 16
"""Letters of one value once filled in: variables that multiply each other stop here."""

MAX_COMPARED = 30_000
"""Known names that unknown ones are compared with, in all."""


@dataclass(frozen=True)
class Filled:
    """A document with its variables filled in."""

    root: Node
    used: frozenset[str]
    """Names of the variables that some value uses."""


def fill_variables(root: Node, faults: list[Diagnostic]) -> Filled:
    """The document with its variables filled in; mistakes are appended to `faults`."""
    assert isinstance(root.value, dict)
    declared = root.value.get("vars")
    variables = declared.value if declared is not None else None
    if declared is None or not isinstance(variables, dict):
        filler = _Filler({}, faults)
        return Filled(filler.fill(root, ""), frozenset())
    filler = _Filler(variables, faults)
    resolved = {name: filler.resolve(name) for name in variables}
    others = {key: node for key, node in root.value.items() if key != "vars"}
    filled = filler.fill(replace(root, value=others), "")
    assert isinstance(filled.value, dict)
    whole = replace(root, value={**filled.value, "vars": replace(declared, value=resolved)})
    return Filled(whole, frozenset(filler.used))


def variables_in(text: str) -> list[str]:
    """The names of the variables that a text uses, in its order."""
    return [match["name"] for match in _PIECE.finditer(text) if match["name"] is not None]


def escape(text: str) -> str:
    """The text as it is written so that nothing in it is taken for a variable."""
    return text.replace("${", "$${")


class _Filler:
    def __init__(self, declared: dict[str, Node], faults: list[Diagnostic]) -> None:
        self._declared = declared
        self._faults = faults
        self._resolved: dict[str, Node] = {}
        self.used: set[str] = set()
        self._waiting: list[str] = []
        """Variables that are being resolved, each for the one before it."""

    def resolve(self, name: str) -> Node:
        """A variable's value with the variables it uses filled in."""
        if name not in self._resolved:
            node = self._declared[name]
            self._waiting.append(name)
            if isinstance(node.value, (dict, list)):
                message = f"the variable {name!r} should be a single value"
                self._report("E103", message, node, f"vars.{name}")
                node = replace(node, value=None)
            self._resolved[name] = self._fill_scalar(node, f"vars.{name}")
            self._waiting.pop()
        return self._resolved[name]

    def fill(self, node: Node, path: str) -> Node:
        """The tree with its variables filled in."""
        if isinstance(node.value, dict):
            below = {k: self.fill(n, f"{path}.{k}") for k, n in node.value.items()}
            return replace(node, value=below)
        if isinstance(node.value, list):
            listed = [self.fill(n, f"{path}.{i}") for i, n in enumerate(node.value)]
            return replace(node, value=listed)
        return self._fill_scalar(node, path.lstrip("."))

    def _fill_scalar(self, node: Node, path: str) -> Node:
        text = node.value
        if not isinstance(text, str) or "${" not in text:
            return node
        whole = _PIECE.fullmatch(text)
        if whole and whole["name"] is not None:
            # The place stays the use's: that is what a reader of an error has to look at.
            found = self._find(whole["name"], node, path)
            return node if found is None else replace(node, value=found.value)
        pieces: list[str] = []
        length = 0
        end = 0
        for match in _PIECE.finditer(text):
            pieces += [text[end : match.start()], self._piece(match, node, path)]
            length += len(pieces[-1])
            end = match.end()
            if length > MAX_LENGTH:
                message = f"longer than {MAX_LENGTH:,} letters once variables are filled in"
                self._report("E007", message, node, path)
                return node
        return replace(node, value="".join([*pieces, text[end:]]))

    def _piece(self, match: re.Match[str], node: Node, path: str) -> str:
        if match["open"]:
            message = "`${` without its `}`; write `$${` where the two letters are meant"
            self._report("E301", message, node, path)
        if match["name"] is None:
            return "${"
        found = self._find(match["name"], node, path)
        return match[0] if found is None else _as_text(found.value)

    def _find(self, name: str, node: Node, path: str) -> Node | None:
        if name in self._waiting:
            circle = " -> ".join([*self._waiting[self._waiting.index(name) :], name])
            self._report("E301", f"variables use each other in a circle: {circle}", node, path)
            return None
        if name not in self._declared:
            message = f"the variable {name!r} is not defined in `vars`"
            is_affordable = len(self._faults) * len(self._declared) < MAX_COMPARED
            suggestion = suggest(name, self._declared) if is_affordable else None
            self._report("E301", message, node, path, suggestion)
            return None
        self.used.add(name)
        return self.resolve(name)

    def _report(
        self, code: str, message: str, node: Node, path: str, suggestion: str | None = None
    ) -> None:
        is_plain = not isinstance(node.value, (dict, list))
        place = node.place if is_plain or node.key_place is None else node.key_place
        self._faults.append(Diagnostic(code, message, place, path, suggestion))


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
