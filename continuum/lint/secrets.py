"""W004: passwords and tokens in the spec."""

import re
from collections.abc import Iterator
from typing import Any

from continuum.errors import Problem
from continuum.lint.rules import LintContext, rule
from continuum.loading.keys import KeyPath
from continuum.loading.yaml import Node
from continuum.runs.redaction import kind_of_secret, names_secret

_VARIABLE = re.compile(r"\$\{[^${}]*\}")


@rule("W004")
def literal_secrets(context: LintContext) -> Iterator[Problem]:
    """Secret in the spec.

    Everybody who can read the file, its Git history or the records of a run can read the secret.
    Remove it, revoke it, and pass a new one in the environment: HF_TOKEN for the Hub, HTTPS_PROXY
    for a proxy, and any variable by its name in a URL. The message does not print it.

    Wrong:
        sources: [{url: "https://example.org/book.txt?token=0a1b2c3d"}]
    Right:
        sources: [{url: "https://example.org/book.txt?token=${env.BOOKS_TOKEN}"}]
    """
    composition = context.loaded.composition
    assert composition is not None, "a planned experiment was composed"
    for path, text in _texts(composition.written, ()):
        kind = _kind_of(path, text)
        if kind is not None:
            yield Problem(
                path,
                f"this looks like {kind}; others can read the file and its Git history",
                "remove it, revoke it, and pass a new one in the environment (HF_TOKEN for the "
                "Hub, `${env.NAME}` in a URL)",
                is_secret=True,
            )


def _kind_of(path: KeyPath, text: str) -> str | None:
    if (kind := kind_of_secret(text)) is not None:
        return kind
    is_written_out = text and not _VARIABLE.search(text)
    is_named = path[0] == "vars" and names_secret(str(path[-1]))
    return f"a secret, since it is named {str(path[-1])!r}" if is_named and is_written_out else None


def _texts(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    value: Any = node.value
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from _texts(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _texts(below, (*path, index))
