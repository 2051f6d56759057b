"""Kinds of stages that hang, die, or print the environment they run in."""

import json
import os
import re
import signal
import sys
import time
import warnings
from typing import Literal

from continuum.experiment.stage import StageContext
from continuum.runs.artifacts import Corpus, TrainingCheckpoint
from continuum.stages.fetch import Fetch
from continuum.stages.pretrain import Pretrain

SECONDS = 600

if os.environ.get("HANG_IN_SERVER") and "CONTINUUM_PRELOAD" in os.environ:
    time.sleep(SECONDS)  # as an import from a server that does not answer


class Hanging(Pretrain):
    """Hangs where its libraries are imported and its model is made."""

    kind: Literal["hanging"] = "hanging"  # type: ignore[assignment]  # a kind is its name alone

    def run(self, ctx: StageContext) -> TrainingCheckpoint:
        print("hanging", flush=True)
        time.sleep(SECONDS)
        return super().run(ctx)


class Busy(Fetch):
    """Computes in native code that lets no other thread of Python run."""

    kind: Literal["busy"] = "busy"  # type: ignore[assignment]

    def run(self, ctx: StageContext) -> Corpus:
        print("hanging", flush=True)
        re.match(r"(a|a)*b", "a" * 60)
        return super().run(ctx)


class Printing(Fetch):
    """Prints the environment that it runs in, and how Python treats warnings."""

    kind: Literal["printing"] = "printing"  # type: ignore[assignment]

    def run(self, ctx: StageContext) -> Corpus:
        print(json.dumps([dict(os.environ), sys.warnoptions]), flush=True)
        warnings.warn("as a library does", FutureWarning, stacklevel=1)
        return super().run(ctx)


class Dying(Fetch):
    """Prints a warning and dies of a signal."""

    kind: Literal["dying"] = "dying"  # type: ignore[assignment]
    signal: int

    def run(self, ctx: StageContext) -> Corpus:
        warnings.warn("as a library does", FutureWarning, stacklevel=1)
        if self.signal != signal.SIGKILL:
            signal.signal(self.signal, signal.SIG_DFL)
        os.kill(os.getpid(), self.signal)
        time.sleep(SECONDS)
        return super().run(ctx)


class Hungry(Fetch):
    """Takes all memory that there is."""

    kind: Literal["hungry"] = "hungry"  # type: ignore[assignment]

    def run(self, ctx: StageContext) -> Corpus:
        taken = []
        while True:
            taken.append(b"x" * 50_000_000)
