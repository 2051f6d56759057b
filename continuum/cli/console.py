"""Where results go: stdout, as wide as the terminal, or wide enough for a file or a pipe."""

import os

from rich.console import Console

PIPE_WIDTH = 200


def results() -> Console:
    """The console for results."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(width=PIPE_WIDTH)
    return console
