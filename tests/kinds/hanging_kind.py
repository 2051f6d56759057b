"""Kinds `hanging` and `hanging_import`: stages that hang before there is anything to save."""

import os
import re
import time
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
