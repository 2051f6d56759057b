"""Train with LitGPT at the pace of a benchmark: `… train_litgpt TEXTS TOKENIZER TRAINING`.

`litgpt.pretrain.main` as `litgpt pretrain --data TextFiles` calls it: its compiled model, its loop,
its loaders. It tokenizes first, for which litdata has processes spawned, and after that every
loader of this process spawns its workers.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning import Fabric
from litgpt import Config, Tokenizer
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import TextFiles
from litgpt.pretrain import main as pretrain

from tests.benchmarks.pacing import Pace
from tests.benchmarks.training_spec import OPTIMIZER, Training

NEVER = 10**9
"""Steps between validations, where there are to be none."""


class PacingLogger:
    """A Fabric logger: LitGPT logs each step and each validation when it is done."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self._pace.end_turn("evaluate" if "val_loss" in metrics else "train")


def main() -> None:
    """Train without an end, a turn for every row of the log and every validation."""
    texts, tokenizer_dir = map(Path, sys.argv[1:3])
    spec = Training.of_json(sys.argv[3])
    batches = spec.evaluation_batches
    torch.set_float32_matmul_precision("high")  # as LitGPT's command line does
    loggers: Any = [PacingLogger(Pace())]
    precision: Any = spec.precision
    fabric = Fabric(accelerator=spec.accelerator, devices=1, precision=precision, loggers=loggers)
    fabric.launch()
    with tempfile.TemporaryDirectory() as out_dir:
        pretrain(
            fabric=fabric,
            devices=1,
            seed=1,
            initial_checkpoint_dir=None,
            resume=False,
            config=Config.from_name(spec.model),
            data=TextFiles(train_data_path=texts / "train", val_data_path=texts / "validation"),
            out_dir=Path(out_dir),
            tokenizer_dir=tokenizer_dir,
            tokenizer=Tokenizer(tokenizer_dir),
            train=TrainArgs(
                global_batch_size=spec.global_batch,
                micro_batch_size=spec.micro_batch,
                max_tokens=1000 * spec.tokens_per_turn,
                max_seq_length=spec.sequence_length,
                log_interval=spec.log_every,
                max_norm=1.0,
                lr_warmup_steps=100,
                save_interval=None,
            ),
            eval=EvalArgs(interval=NEVER if batches is None else 1, max_iters=batches or 1),
            optimizer={"class_path": "torch.optim.AdamW", "init_args": OPTIMIZER},
        )


if __name__ == "__main__":
    main()
