"""What a run shows on a terminal while it goes: a line for each stage under way."""

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as RichBars

from continuum.cli.progress import Progress
from continuum.runs.events import Event, Outcome, Progressed, Saved, Started, Trained


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

    def observe(self, stage: str, event: Event) -> None:
        match event:
            case Started():
                self._tasks[stage] = self._bars.add_task(stage, total=None, text="")
            case Trained(done, total) | Progressed(done, total):
                if stage in self._tasks:
                    task = self._tasks[stage]
                    self._bars.update(task, completed=done, total=total, text=str(event))
            case Saved():
                pass
            case _:
                if isinstance(event, Outcome) and stage in self._tasks:
                    self._bars.remove_task(self._tasks.pop(stage))
                self._say(f"{stage}: {event}" if stage else str(event))

    def _say(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False)
