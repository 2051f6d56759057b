"""What a run shows while it goes: plain lines here, a live display on a terminal in `live`."""

import sys
import threading
import time
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, TextIO

from continuum.plan import Action, Plan

PLAIN_INTERVAL_S = 5.0
"""Seconds between two progress lines of a stage where there is no terminal."""


class Progress(ABC):
    """Shows events; `observe` may be called from several threads."""

    @abstractmethod
    def observe(self, stage: str, event: dict[str, Any]) -> None:
        """Show an event of a stage."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class SilentProgress(Progress):
    """Shows nothing: what failed is told at the end."""

    def observe(self, stage: str, event: dict[str, Any]) -> None:
        pass


class PlainProgress(Progress):
    """One line an event, progress at most every few seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def observe(self, stage: str, event: dict[str, Any]) -> None:
        with self._lock:
            line = self._line(stage, event)
            if line is not None:
                print(line, file=self._stream, flush=True)

    def _line(self, stage: str, event: dict[str, Any]) -> str | None:
        if event["event"] in ("planned", "stopping"):
            return of_the_run(event)
        text = describe(event)
        is_frequent = event["event"] in ("train", "progress", "saved")
        if text is None or (is_frequent and not self._is_due(stage, event)):
            return None
        return f"{stage}: {text}"

    def _is_due(self, stage: str, event: dict[str, Any]) -> bool:
        is_last = event.get("step") is not None and event.get("step") == event.get("num_steps")
        now = time.monotonic()
        if not is_last and now - self._shown_at.get(stage, -PLAIN_INTERVAL_S) < PLAIN_INTERVAL_S:
            return False
        self._shown_at[stage] = now
        return True


def describe(event: dict[str, Any]) -> str | None:
    """An event in words; None when there is nothing to say."""
    name = event["event"]
    if name == "train":
        eta = timedelta(seconds=round(event["eta_s"]))
        loss = "skipped" if event["loss"] is None else f"loss {event['loss']:.4f}"
        return (
            f"step {event['step']:,}/{event['num_steps']:,}  {loss}  "
            f"lr {event['lr']:.2e}  {event['tokens_per_s']:,.0f} tokens/s  {eta} left"
        )
    if name == "evaluate":
        losses = "  ".join(f"{k} {v:.4f}" for k, v in event.items() if k.startswith("val_loss"))
        return f"step {event['step']:,}  {losses}"
    if name == "progress":
        total = f" of {event['total']:,}" if event.get("total") else ""
        return f"{event['done']:,}{total} {event.get('unit', '')}"
    if name == "ended":
        return f"{event['status']}{': ' + event['message'] if event['message'] else ''}"
    if name == "started":
        return "started" if event["attempt"] == 1 else f"started, attempt {event['attempt']}"
    if name == "recovered":
        return f"goes on from step {event['step']:,}"
    if name == "saved":
        return f"saved step {event['step']:,}"
    if name == "note":
        return str(event["message"])
    return f"warning: {event['message']}" if name == "warning" else None


def of_the_run(event: dict[str, Any]) -> str:
    """An event that is no stage's, in words."""
    if event["event"] == "stopping":
        return "stopping: saving at the next step boundary (interrupt again to stop at once)"
    return _planned(event["plan"])


def _planned(plan: Plan) -> str:
    counts = {action: sum(p.action is action for p in plan) for action in Action}
    words = {Action.BLOCKED: "blocked"}
    listed = ", ".join(f"{n} {words.get(a, f'to {a.value}')}" for a, n in counts.items() if n)
    return f"{plan.experiment.name}: {listed}"
