"""Where a device's time goes: attention, head and loss, the rest, and what it was idle.

Read from a Chrome trace, the form in which torch's profiler has written for years. A kernel belongs
to attention by its own name, and to the head by the operations that it was launched from: the
head's products are kernels like all others.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ATTENTION = re.compile(
    r"flash|fmha|efficient_attention|scaled_dot_product|\bsdpa\b|cudnn.*(?:mha|attention|sdpa)",
    re.IGNORECASE,
)
HEAD = re.compile(
    r"HeadLoss|linear_cross_entropy|LinearCrossEntropy|cross_entropy|nll_loss|liger", re.IGNORECASE
)
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of what a GPU does."""
ID = "External id"
"""What an operation and the kernels that it launched have in common."""


@dataclass(frozen=True)
class Work:
    """Something that the device was busy with."""

    begun_us: float
    ended_us: float
    name: str
    launched_from: tuple[str, ...] = ()
    """The operations around it on the processor, from the outside in."""

    @property
    def what(self) -> str:
        """`attention`, `head` or `other`."""
        names = (self.name, *self.launched_from)
        if any(ATTENTION.search(name) for name in names):
            return "attention"
        return "head" if any(HEAD.search(name) for name in names) else "other"


def device_work(events: Iterable[Mapping[str, Any]], *, on_gpu: bool) -> list[Work]:
    """What the device did; on a CPU the innermost operations are its work.

    Args:
        events: `traceEvents` of the trace; times are in microseconds.
    """
    whole = [event for event in events if event.get("ph") == "X"]
    operations = _nested([event for event in whole if event.get("cat") == "cpu_op"])
    if not on_gpu:
        return [_work(event, around) for event, around, is_inner in operations if is_inner]
    paths = {
        event["args"][ID]: (*around, event["name"])
        for event, around, _ in operations
        if ID in event.get("args", {})
    }
    return [
        _work(event, paths.get(event.get("args", {}).get(ID), ()))
        for event in whole
        if event.get("cat") in ON_DEVICE
    ]


def shares(work: Sequence[Work], wall_us: float) -> dict[str, float]:
    """Share of the wall time of each; what runs side by side counts for whatever began first.

    Args:
        wall_us: From begin to end, the device's pauses included.
    """
    found = dict.fromkeys(("attention", "head", "other", "idle"), 0.0)
    ended_us = float("-inf")
    for item in sorted(work, key=lambda item: item.begun_us):
        found[item.what] += max(0.0, item.ended_us - max(item.begun_us, ended_us))
        ended_us = max(ended_us, item.ended_us)
    found["idle"] = max(0.0, wall_us - sum(found.values()))
    return {name: value / wall_us for name, value in found.items()}


def slowest(work: Iterable[Work], number: int) -> list[tuple[str, float]]:
    """The names that took most of the time together, with their microseconds."""
    by_name: dict[str, float] = defaultdict(float)
    for item in work:
        by_name[item.name] += item.ended_us - item.begun_us
    return sorted(by_name.items(), key=lambda pair: -pair[1])[:number]


def _work(event: Mapping[str, Any], around: tuple[str, ...]) -> Work:
    return Work(event["ts"], event["ts"] + event["dur"], event["name"], around)


def _nested(
    operations: list[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], tuple[str, ...], bool]]:
    """Each operation, those around it in its thread, and whether none is inside it."""
    by_thread: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for event in operations:
        by_thread[event.get("tid")].append(event)
    found = []
    for events in by_thread.values():
        events.sort(key=lambda event: (event["ts"], -event["dur"]))
        around: list[Mapping[str, Any]] = []
        outer = set()
        paths = []
        for event in events:
            while around and around[-1]["ts"] + around[-1]["dur"] <= event["ts"]:
                around.pop()
            outer |= {id(around[-1])} if around else set()
            paths.append((event, tuple(item["name"] for item in around)))
            around.append(event)
        found += [(event, path, id(event) not in outer) for event, path in paths]
    return found
