"""The processors that this process may use."""

import os


def num_processors() -> int:
    """As many as the system lets this process run on, where it says so, and else all there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and batch systems give a share
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
