"""kinds `leaving` and `leaving_pair` - stages whose process dies as no stage should."""

import atexit
import os
import signal
import time
from multiprocessing.util import Finalize
from typing import Literal

from continuum.experiment.stage import StageContext
from continuum.runs.artifacts import Corpus, TrainingCheckpoint
from continuum.stages.fetch import Fetch
from continuum.stages.pretrain import Pretrain


class Leaving(Fetch):
    """Fetches, and dies after it has told so: as of a library's clean-up at exit."""

    kind: Literal["leaving"] = "leaving"  # type: ignore[assignment]  # a kind is its name alone
    exit_code: int
    """What the process ends with; a negative one is the number of a signal."""

    def run(self, ctx: StageContext) -> Corpus:
        Finalize(None, die, (self.exit_code,), exitpriority=1)
        return super().run(ctx)


class LeavingPair(Pretrain):
    """Trains in two processes, of which the second dies without a word."""

    kind: Literal["leaving_pair"] = "leaving_pair"  # type: ignore[assignment]
    when: Literal["first", "last"]
    """Before anything is trained, or after all is published."""
    exit_code: int

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        is_second = os.environ["RANK"] == "1"
        if is_second and self.when == "first":
            die(self.exit_code)
        if is_second:
            atexit.register(die, self.exit_code)
        return super().run(ctx)


def die(exit_code: int) -> None:
    if exit_code < 0:
        signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
        time.sleep(60)
    os._exit(exit_code)
