"""Substitution of `${name}` in a document from its `vars`; `$${` is a literal `${`.

`${env.NAME}` stays as it is: a URL has its value when it is requested, and nothing else may use it.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from continuum.loading.diagnostics import Diagnostic
from continuum.loading.keys import suggest
from continuum.loading.yaml import Node

_PART = re.compile(r"\$\$\{|\$\{(?P<name>[^${}]*)\}|(?P<open>\$\{)")
_ENVIRONMENT = "env."
"""Prefix of the name of an environment variable; see `Url`."""
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_LENGTH = 1 << 16
"""Maximum length of a value after substitution, for variables that multiply each other."""
MAX_COMPARED = 30_000
"""Maximum number of comparisons of unknown names with known ones."""


@dataclass(frozen=True)
class Filled:
    """A document with its variables substituted."""

    root: Node
    used: frozenset[str]
    """Names of the variables that values use."""
    environment: frozenset[str]
    """Dotted paths of the values with environment variables, which stay as they are written."""


def fill_variables(root: Node, errors: list[Diagnostic]) -> Filled:
    """Return the document with its variables substituted; append errors to `errors`."""
    assert isinstance(root.value, dict)
    declared = root.value.get("vars")
    variables = declared.value if declared is not None else None
    if declared is None or not isinstance(variables, dict):
        filler = _Filler({}, errors)
        return Filled(filler.fill(root, ""), frozenset(), frozenset(filler.environment))
    filler = _Filler(variables, errors)
    resolved = {name: filler.resolve(name) for name in variables}
    others = {key: node for key, node in root.value.items() if key != "vars"}
    filled = filler.fill(replace(root, value=others), "")
    assert isinstance(filled.value, dict)
    whole = replace(root, value={**filled.value, "vars": replace(declared, value=resolved)})
    return Filled(whole, frozenset(filler.used), frozenset(filler.environment))


def variables_in(text: str) -> list[str]:
    """Return the names of the variables in a text, in order."""
    return [match["name"] for match in _PART.finditer(text) if match["name"] is not None]


def escape(text: str) -> str:
    """Return the text with `${` escaped."""
    return text.replace("${", "$${")


class _Filler:
    def __init__(self, declared: dict[str, Node], errors: list[Diagnostic]) -> None:
        self._declared = declared
        self._errors = errors
        self._resolved: dict[str, Node] = {}
        self.used: set[str] = set()
        self.environment: set[str] = set()
        self._waiting: list[str] = []
        """Variables that are being resolved, each used by the one before it."""

    def resolve(self, name: str) -> Node:
        """Return the value of a variable with its own variables substituted."""
        if name not in self._resolved:
            node = self._declared[name]
            self._waiting.append(name)
            if isinstance(node.value, (dict, list)):
                message = f"variable {name!r} must be a single value"
                self._report("E103", message, node, f"vars.{name}")
                node = replace(node, value=None)
            self._resolved[name] = self._fill_scalar(node, f"vars.{name}")
            self._waiting.pop()
        return self._resolved[name]

    def fill(self, node: Node, path: str) -> Node:
        """Return the tree with its variables substituted."""
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
        whole = _PART.fullmatch(text)
        if whole and whole["name"] is not None:
            # Keep the place where it is used: errors are about that.
            found = self._find(whole["name"], node, path)
            return node if found is None else replace(node, value=found.value)
        parts: list[str] = []
        length = 0
        end = 0
        for match in _PART.finditer(text):
            parts += [text[end : match.start()], self._part(match, node, path)]
            length += len(parts[-1])
            end = match.end()
            if length > MAX_LENGTH:
                message = f"value exceeds {MAX_LENGTH:,} characters after substitution of variables"
                self._report("E007", message, node, path)
                return node
        return replace(node, value="".join([*parts, text[end:]]))

    def _part(self, match: re.Match[str], node: Node, path: str) -> str:
        if match["open"]:
            message = "unclosed `${`; write `$${` for a literal `${`"
            self._report("E301", message, node, path)
        if match["name"] is None:
            return "${"
        found = self._find(match["name"], node, path)
        return match[0] if found is None else _as_text(found.value)

    def _find(self, name: str, node: Node, path: str) -> Node | None:
        """The value of a variable; None for an environment variable, or after an error."""
        if name.startswith(_ENVIRONMENT):
            self.environment.add(path)
            if not _ENVIRONMENT_NAME.fullmatch(name.removeprefix(_ENVIRONMENT)):
                message = f"invalid name of an environment variable: {name!r}"
                self._report("E301", message, node, path)
            return None
        if name in self._waiting:
            circle = " -> ".join([*self._waiting[self._waiting.index(name) :], name])
            self._report("E301", f"circular reference between variables: {circle}", node, path)
            return None
        if name not in self._declared:
            message = f"undefined variable {name!r}"
            is_affordable = len(self._errors) * len(self._declared) < MAX_COMPARED
            suggestion = suggest(name, self._declared) if is_affordable else None
            self._report("E301", message, node, path, suggestion)
            return None
        self.used.add(name)
        found = self.resolve(name)
        if f"vars.{name}" in self.environment:
            self.environment.add(path)
        return found

    def _report(
        self, code: str, message: str, node: Node, path: str, suggestion: str | None = None
    ) -> None:
        is_plain = not isinstance(node.value, (dict, list))
        place = node.place if is_plain or node.key_place is None else node.key_place
        self._errors.append(Diagnostic(code, message, place, path, suggestion))


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
