"""Where results go: stdout, as wide as the terminal, or wide enough for a file or a pipe."""

import json
import os
from typing import Any

from rich.console import Console

PIPE_WIDTH = 200


def results() -> Console:
    """The console for results."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(width=PIPE_WIDTH)
    return console


def print_json(document: dict[str, Any]) -> None:
    """One document on stdout; it names its schema."""
    assert "schema" in document, "readers need to know what they read"
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
