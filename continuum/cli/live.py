"""What a run shows on a terminal while it goes: a line for each stage under way."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as RichBars

from continuum.cli.progress import Progress, describe, of_the_run


class LiveProgress(Progress):
    """A line for each stage under way, and what has happened above them."""

    def __init__(self) -> None:
        self._bars = RichBars(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "LiveProgress":
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def observe(self, stage: str, event: dict[str, Any]) -> None:
        name = event["event"]
        if name in ("planned", "stopping"):
            self._say(of_the_run(event))
        elif name == "started":
            self._tasks[stage] = self._bars.add_task(stage, total=None, text="")
        elif name == "train":
            self._update(stage, event["step"], event["num_steps"], describe(event))
        elif name == "progress":
            self._update(stage, event["done"], event.get("total"), describe(event))
        elif name == "ended":
            if stage in self._tasks:
                self._bars.remove_task(self._tasks.pop(stage))
            self._say(f"{stage}: {describe(event)}")
        elif name in ("warning", "note", "recovered", "evaluate"):
            self._say(f"{stage}: {describe(event)}")

    def _update(self, stage: str, done: int, total: int | None, text: str | None) -> None:
        if stage in self._tasks:
            self._bars.update(self._tasks[stage], completed=done, total=total, text=text or "")

    def _say(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False)
