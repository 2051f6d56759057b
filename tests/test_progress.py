"""The lines that a run prints where there is no terminal."""

import io

from continuum.cli.progress import PlainProgress
from continuum.runs.events import Saved, Trained

ROW = {"eta_s": 0, "loss": 1.0, "lr": 1e-3, "tokens_per_s": 10.0}


def test_the_saves_of_a_short_training_are_not_hidden_by_its_steps() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    for stage in ("pretrain", "retrain"):
        for step in range(1, 11):
            progress.observe(stage, Trained(step, 10, ROW))
            if step % 5 == 0:
                progress.observe(stage, Saved(step))
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "saved" in line] == [
        "pretrain: saved step 5",
        "retrain: saved step 5",
    ]
    assert len(lines) == 6  # the first and the last step of each, too
