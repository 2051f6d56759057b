"""The most that a training took of the device's memory, against what the plan said of it."""

import json
from typing import Any

from tests.commands import Cli
from tests.gpu import flows
from tests.gpu.parts import Setting, check, part

WITHIN = 1 / 3


@part("memory-160m")
def small(setting: Setting) -> dict[str, Any]:
    """pythia-160m."""
    return _peak(setting, "pythia-160m", micro=16)


@part("memory-1b")
def large(setting: Setting) -> dict[str, Any]:
    """pythia-1b."""
    return _peak(setting, "pythia-1b", micro=4)


def _peak(setting: Setting, model: str, micro: int) -> dict[str, Any]:
    folder = flows.write(setting, setting.work_dir, model=model, micro=micro, max_steps=3)
    document = json.loads(Cli()("plan", folder, "--json").stdout)
    expected = _find(document, "memory_bytes")
    flows.run(folder)
    taken = max(row.get("memory_bytes", 0) for row in flows.rows(folder))
    ratio = expected / taken
    found = {"model": model, "taken_gb": taken / 1e9, "forecast_gb": expected / 1e9}
    is_near = 1 - WITHIN < ratio < 1 / (1 - WITHIN)
    # Of a toy, the libraries in the process are more than what is estimated.
    check(is_near or setting.is_toy, f"the forecast is {ratio:.2f} of what was taken: {found}")
    return {**found, "ratio": ratio}


def _find(value: Any, key: str) -> int:
    """The largest number under a key, anywhere in a document."""
    if isinstance(value, dict):
        own = value.get(key)
        below = max((_find(item, key) for item in value.values()), default=0)
        return max(own, below) if isinstance(own, int) else below
    return max((_find(item, key) for item in value), default=0) if isinstance(value, list) else 0
