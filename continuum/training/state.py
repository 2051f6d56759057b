"""The training state at an optimizer step, and how it is saved and restored.

The position in the data and the learning rate are pure functions of the step and of where the
stage started, so only that is part of the state. A snapshot consists of tensors and plain values:
`torch.load(weights_only=True)` reads it, and with it LitGPT's own converter and validator. It holds
full tensors by parameter name, whatever the strategy, so a run may resume with another number of
processes.
"""

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from continuum.training.snapshot import (
    HostBuffer,
    HostCopy,
    canonical,
    cloned,
    copy_if_live,
    local_part,
    sorted_state,
    tensors_in,
)
from continuum.training.weights import has_tied_embeddings, strip_wrapping, with_head, without_head

WRAPPED = ("_forward_module", "_orig_mod")
"""Attributes in which Fabric's module and a compiled one hold what they wrap."""
EXECUTION_FLAGS = ("capturable", "differentiable", "foreach", "fused")
"""Arguments of torch's optimizers that decide how a step is computed, not its result."""
SCALER = "grad_scaler"
"""Entry of a snapshot that exists only with precision 16-mixed."""
COUNTERS = {
    "step": "step",
    "tokens_seen": "tokens_seen",
    "tokens_before": "tokens_before",
    "learning_rate": "learning_rate",
    "skipped_steps": "skipped_steps",
    "owes_evaluation": "evaluation_pending",
    "data_start": "data_start",
    "tokens_before_known": "tokens_before_known",
    "skipped_tokens": "skipped_tokens",
    "skipped_in_a_row": "skipped_in_a_row",
}
"""Attributes of the state by their names in a snapshot, in the order of its bytes."""


@dataclass
class TrainingState:
    """Model, optimizer and counters of one process."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Optimizer steps, including those of a resume's parent."""
    tokens_seen: int = 0
    """Tokens of those steps over all processes, including skipped steps."""
    tokens_before: int = 0
    """Training tokens in the ancestry of the initial weights."""
    tokens_before_known: bool = True
    """False if there may be more: the ancestry starts with weights from elsewhere."""
    learning_rate: float = 0.0
    """Of the last step; a `resume` starts from it."""
    skipped_steps: int = 0
    """Steps skipped because their gradients were not finite (`on_nonfinite: skip`)."""
    skipped_tokens: int = 0
    """Tokens of the skipped steps."""
    skipped_in_a_row: int = 0
    """Steps skipped since the last one that was taken."""
    evaluation_pending: bool = False
    """Whether a stop interrupted the evaluation of this step; a resumed run evaluates first."""
    data_start: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Where each dataset was read from at step 0, by digest: the fields of a `DataPosition`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last losses, by name."""
    scaler: torch.amp.GradScaler | None = None
    """Of the loss, with precision 16-mixed."""

    def __post_init__(self) -> None:
        # Now, since FSDP exposes other tensors than the optimizer's while parameters are gathered.
        self.names = names_by_parameter(self.model)

    @property
    def tokens_total(self) -> int:
        """Training tokens through the ancestry, as far as it is known."""
        return self.tokens_before + self.tokens_seen - self.skipped_tokens

    def snapshot(
        self, *, is_writer: bool = True, buffer: HostBuffer | None = None
    ) -> dict[str, Any]:
        """Copy the state to the host; collective.

        With fsdp the tensors are gathered on rank 0, and the snapshots of other ranks have none.

        Args:
            is_writer: Whether this process keeps the snapshot; others copy no tensors.
            buffer: Memory for the copies, valid until its next use; without it each tensor gets
                memory of its own. What fsdp gathers is already in host memory and is not copied.
        """
        if is_sharded(self.model):
            tensors = self.gathered_tensors()
        else:
            tensors = self._own_tensors() if is_writer else {"model": {}, "optimizer": {}}
        tensors["optimizer"] = sorted_state(tensors["optimizer"])
        is_tied = has_tied_embeddings(unwrap(self.model))
        if is_tied:
            tensors["model"] = without_head(tensors["model"])
        values = {**tensors, **self.plain_values()}
        state: dict[str, Any] = canonical(values, self._host_copy(values, buffer))
        if is_tied:
            state["model"] = with_head(state["model"])
        if _uses_cuda():
            torch.cuda.synchronize()  # copies to the host are asynchronous
        return state

    def _host_copy(self, values: dict[str, Any], buffer: HostBuffer | None) -> HostCopy:
        if is_sharded(self.model):
            return copy_if_live(self._storages())
        if buffer is None:
            return cloned
        buffer.begin(tensors_in(values))
        return buffer.copy

    def _storages(self) -> set[int]:
        """The addresses of the model's and the optimizer's memory."""
        live = [*self.model.parameters(), *self.model.buffers()]
        live += tensors_in(list(unwrap_optimizer(self.optimizer).state.values()))
        return {local_part(tensor).untyped_storage().data_ptr() for tensor in live}

    def plain_values(self) -> dict[str, Any]:
        """Everything but model and optimizer, with the RNG state of every rank; collective."""
        values = {key: getattr(self, name) for key, name in COUNTERS.items()}
        values |= {"metrics": dict(self.metrics), "rng": _rng_of_all_ranks()}
        values["data_start"] = canonical(self.data_start)
        return values | ({SCALER: self.scaler.state_dict()} if self.scaler else {})

    def restore(self, snapshot: dict[str, Any], *, rank: int = 0) -> None:
        """Load a snapshot, bit-exactly."""
        if is_sharded(self.model):
            options = StateDictOptions(full_state_dict=True)
            core, optimizer = unwrap(self.model), unwrap_optimizer(self.optimizer)
            set_model_state_dict(core, snapshot["model"], options=options)
            named = with_own_flags(snapshot["optimizer"], optimizer)
            set_optimizer_state_dict(core, optimizer, named, options=options)
        else:
            load_model(self.model, snapshot["model"])
            own = by_index(snapshot["optimizer"], self.optimizer, self.names)
            self.optimizer.load_state_dict(own)
        self.restore_plain_values(snapshot, rank=rank)

    def restore_plain_values(self, snapshot: dict[str, Any], *, rank: int = 0) -> None:
        """Load counters, the loss scale, this rank's RNG state, and the metrics if present.

        On disk the metrics are in the checkpoint's manifest instead.
        """
        for key, name in COUNTERS.items():
            setattr(self, name, snapshot.get(key, getattr(self, name)))
        if "skipped_tokens" not in snapshot and self.step:  # from an earlier release
            self.skipped_tokens = self.skipped_steps * self.tokens_seen // self.step
        self.metrics = dict(snapshot.get("metrics", {}))
        if self.scaler is not None and SCALER in snapshot:
            self.scaler.load_state_dict(snapshot[SCALER])
        if rank < len(snapshot["rng"]):
            _restore_rng(snapshot["rng"][rank])

    def gathered_tensors(self) -> dict[str, Any]:
        """Gather the model and optimizer of a sharded run on rank 0."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        core, optimizer = unwrap(self.model), unwrap_optimizer(self.optimizer)
        return {
            "model": get_model_state_dict(core, options=options),
            "optimizer": get_optimizer_state_dict(core, optimizer, options=options),
        }

    def _own_tensors(self) -> dict[str, Any]:
        return {
            "model": {strip_wrapping(k): v for k, v in self.model.state_dict().items()},
            "optimizer": by_name(unwrap_optimizer(self.optimizer), self.names),
        }


def load_model(model: nn.Module, weights: dict[str, Any]) -> None:
    """Load full weights by their plain names into a model that may be wrapped or sharded."""
    if is_sharded(model):
        options = StateDictOptions(full_state_dict=True, strict=True)
        set_model_state_dict(unwrap(model), weights, options=options)
        return
    names = {strip_wrapping(name): name for name in model.state_dict()}
    model.load_state_dict({names.get(k, k): v for k, v in weights.items()}, strict=True)


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 shards the parameters."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def unwrap(model: nn.Module) -> nn.Module:
    """The model without the wrappers of Fabric, DDP and torch.compile."""
    core = model
    while True:
        if isinstance(core, DistributedDataParallel):
            core = core.module
            continue
        inner = next((core._modules[n] for n in WRAPPED if n in core._modules), None)
        if inner is None:
            return core
        core = inner


def unwrap_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The torch optimizer inside Fabric's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def names_by_parameter(model: nn.Module) -> dict[int, str]:
    """Each parameter's plain name, by the identity of its tensor."""
    return {id(p): strip_wrapping(name) for name, p in model.named_parameters()}


def by_name(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Any]:
    """An optimizer's state with parameter names instead of numbers."""
    state = {names[id(parameter)]: value for parameter, value in optimizer.state.items()}
    order = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    groups = [
        {**group, "params": [names[id(p)] for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    return {"state": {n: state[n] for n in order if n in state}, "param_groups": groups}


def by_index(
    named: dict[str, Any], optimizer: torch.optim.Optimizer, names: dict[int, str]
) -> dict[str, Any]:
    """The inverse of `by_name`, as `load_state_dict` of this optimizer expects it."""
    own = unwrap_optimizer(optimizer)
    named = with_own_flags(named, own)
    order = [names[id(p)] for group in own.param_groups for p in group["params"]]
    index = {name: number for number, name in enumerate(order)}
    groups = [
        {**group, "params": [index[name] for name in group["params"]]}
        for group in named["param_groups"]
    ]
    state = {index[name]: value for name, value in named["state"].items()}
    return {"state": state, "param_groups": groups}


def with_own_flags(named: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's saved state with the execution flags of `optimizer`.

    They depend on the device, and a checkpoint may come from another one: a CPU's `fused: None`
    would disable the fused kernel on a GPU, whose `step` counters are where its flags need them.
    """
    flags = [
        {name: group[name] for name in EXECUTION_FLAGS if name in group}
        for group in optimizer.param_groups
    ]
    # torch refuses another number of groups
    pairs = zip_longest(named["param_groups"], flags, fillvalue=dict[str, Any]())
    return {**named, "param_groups": [{**group, **own} for group, own in pairs]}


def _uses_cuda() -> bool:
    """False on a machine with a GPU that trains on the CPU: querying the GPU would claim memory."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _rng_of_all_ranks() -> list[dict[str, Any]]:
    own = _rng_state()
    if not dist.is_available() or not dist.is_initialized():
        return [own]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, own)
    return gathered


def _rng_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state() if _uses_cuda() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_rng(rng: dict[str, Any]) -> None:
    torch.set_rng_state(rng["cpu"])
    if _uses_cuda() and rng["cuda"] is not None:
        torch.cuda.set_rng_state(rng["cuda"])
