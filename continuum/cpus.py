"""Number of CPUs."""

import os


def num_processors() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and batch systems limit it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
