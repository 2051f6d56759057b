"""How the work of a training stage is done: devices, memory, checkpoints, logging."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, WithJsonSchema

from continuum.experiment.amounts import Amount, Duration, Period
from continuum.experiment.fields import UNIT, WHOLE, Integer, Spec


class CheckpointPolicy(Spec):
    """When to save the training state, and how long to keep it."""

    every: Period | None = Amount(steps=1000)
    """Interval in optimizer steps; the last step is always saved. null: only by `minutes`."""
    minutes: float | None = Field(
        None, gt=0, allow_inf_nan=False, json_schema_extra={UNIT: "minutes"}, examples=[30]
    )
    """Also save when this much time has passed since the last checkpoint."""
    keep_last: Integer = Field(2, ge=2, json_schema_extra={UNIT: "checkpoints"})
    """Number of newest checkpoints to keep: at least two, because the last may be corrupt."""
    keep_every: Period | None = None
    """Keep checkpoints at multiples of this permanently."""
    keep_best: str | None = Field(None, examples=["val_loss"])
    """Keep the checkpoint with the lowest value of this metric, such as `val_loss`."""
    format: Literal["full", "sharded"] = "full"
    """`full` is LitGPT's single file; with `sharded`, each process of an fsdp run writes its
    part."""


MicroBatchSize = Annotated[
    Annotated[int, Field(ge=1), WHOLE, Tag("[count]")] | Annotated[Literal["auto"], Tag("[auto]")],
    Discriminator(lambda it: "[auto]" if isinstance(it, str) and it.isalpha() else "[count]"),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "pattern": "^auto$"}),
]
"""A count of sequences, or `auto`."""
LARGEST_UNASKED = 4
"""The maximum micro-batch size of `auto` on a CPU, where more are not faster (pythia-14m: 4 take
114 ms per sequence of 256 tokens, 3 take 111 ms), and if the memory is unknown."""


class Devices(Spec):
    """Where the work is done."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` uses CUDA if available."""
    devices: Integer = Field(1, ge=1, json_schema_extra={UNIT: "processes a node"})
    """Processes per node, one per device."""
    num_nodes: Integer = Field(1, ge=1, json_schema_extra={UNIT: "nodes"})
    """Number of nodes; more than one requires a Slurm job."""

    @property
    def world_size(self) -> int:
        """Processes on all nodes."""
        return self.devices * self.num_nodes


class Runtime(Devices):
    """How the work is done; no field changes what is learned."""

    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """For several processes: `ddp` replicates the model, `fsdp` shards it (FSDP2)."""
    accumulate_unsharded: bool = False
    """Whether each device of an fsdp run accumulates unsharded gradients and shards them once per
    step: less traffic than once per micro-batch, but memory for the gradients of the entire
    model."""
    micro_batch_size: MicroBatchSize = Field(4, json_schema_extra={UNIT: "sequences"})
    """Sequences per forward pass on one device; 4 is LitGPT's default. `auto` uses as many as fit
    into the device's memory by estimate and by trial, at most 4 on a CPU."""
    activation_checkpointing: Literal["auto", "off", "selective", "full"] = "auto"
    """What the backward pass recomputes instead of storing: `full` each block, `selective` each
    block except attention; `auto` the least with which training fits into memory."""
    attention: Literal["auto", "cudnn", "flash", "efficient", "math"] = "auto"
    """The kernel of scaled_dot_product_attention: `auto` uses the first supported one, in an order
    that depends on the GPU and on `deterministic`; any other value allows only that kernel."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile: `auto` compiles on CUDA only."""
    deterministic: bool = False
    """Use deterministic algorithms of torch and cuBLAS; otherwise GPU runs are not
    bit-reproducible."""
    log_every: Integer = Field(1, ge=1, json_schema_extra={UNIT: "optimizer steps"})
    """Optimizer steps between rows in metrics.jsonl."""
    collective_timeout: Duration = Field(600.0, examples=["10m", "1h"])
    """Timeout of collective operations, after which the run fails."""
    checkpoint: CheckpointPolicy = Field(CheckpointPolicy(), examples=[{"every": 500}])
    """When to save the training state, and how long to keep it."""
    loggers: tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...] = Field(
        (), examples=[["csv", "wandb"]]
    )
    """Lightning loggers for the content of metrics.jsonl. `wandb` and `mlflow` are optional extras,
    and write below the run folder unless WANDB_MODE or MLFLOW_TRACKING_URI is set."""


RUNTIMES = [{"micro_batch_size": 8, "checkpoint": {"every": 500}}]
"""Examples for a field."""
