"""What training knows at an optimizer step, and nothing that can be derived from it.

The position in the data and the learning rate are pure functions of the step and of where the
stage began, so only that is state. A snapshot is tensors and plain values:
`torch.load(weights_only=True)` reads it, and with it LitGPT's own converter and validator. It holds
whole tensors by parameter name, whatever the strategy, so a run may go on with another number of
processes.
"""

import sys
from collections.abc import Callable
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
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from continuum.training.host_buffer import HostBuffer
from continuum.training.tied import has_tied_embeddings, without_head
from continuum.training.weights import strip_wrapping, with_head

HostCopy = Callable[[torch.Tensor], torch.Tensor]
"""Makes of a tensor one on the host that training cannot change."""
WRAPPED = ("_forward_module", "_orig_mod")
"""Where Fabric's module and a compiled one hold what they wrap."""
EXECUTION_FLAGS = ("capturable", "differentiable", "foreach", "fused")
"""Arguments of torch's optimizers that say how a step is carried out, not what it does."""
SCALER = "grad_scaler"
"""Entry of a snapshot that only a run with precision 16-mixed has."""
COUNTERS = (
    "step", "tokens_seen", "tokens_before", "learning_rate", "skipped_steps", "owes_evaluation",
    "data_start", "tokens_before_known", "skipped_tokens", "skipped_in_a_row",
)  # fmt: skip


@dataclass
class TrainingState:
    """Model, optimizer and counters of one process."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Optimizer steps taken, a resume's parent included."""
    tokens_seen: int = 0
    """Tokens of those steps, skipped ones included, over all processes."""
    tokens_before: int = 0
    """Training tokens in the ancestry of the weights the stage began from."""
    tokens_before_known: bool = True
    """False if there may be more of them: the ancestry begins with weights made elsewhere."""
    learning_rate: float = 0.0
    """Of the last step; an extension begins from it."""
    skipped_steps: int = 0
    """Steps whose gradients were not finite and were not taken (`on_nonfinite: skip`)."""
    skipped_tokens: int = 0
    """Tokens of those steps: the model learned nothing from them."""
    skipped_in_a_row: int = 0
    """Steps skipped since the last that was taken."""
    owes_evaluation: bool = False
    """Whether a stop broke off the evaluation of this step; it comes first when the run goes on."""
    data_start: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Where each dataset was read from at step 0, by its digest: the fields of a `DataPosition`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last losses, by name."""
    scaler: torch.amp.GradScaler | None = None
    """Of the loss, with precision 16-mixed."""

    def __post_init__(self) -> None:
        # Now, since FSDP shows other tensors than the optimizer's while the model is gathered.
        self.names = names_by_parameter(self.model)

    @property
    def tokens_total(self) -> int:
        """Training tokens through the whole ancestry, as far as it is known."""
        return self.tokens_before + self.tokens_seen - self.skipped_tokens

    def snapshot(
        self, *, is_writer: bool = True, buffer: HostBuffer | None = None
    ) -> dict[str, Any]:
        """All of it, copied to the host; every process of a run must take part.

        With fsdp the tensors are gathered on rank 0 and the others' snapshots hold none.

        Args:
            is_writer: Whether it is kept; of a process that does not, nothing is copied.
            buffer: Holds the copies until it is used again; without one each tensor gets memory
                of its own. What fsdp gathers is in host memory already, and is not copied again.
        """
        if is_sharded(self.model):
            tensors = self.whole_tensors()
        else:
            tensors = self._own_tensors() if is_writer else {"model": {}, "optimizer": {}}
        tensors["optimizer"] = _sorted(tensors["optimizer"])
        is_tied = has_tied_embeddings(unwrap(self.model))
        if is_tied:
            tensors["model"] = without_head(tensors["model"])
        values = {**tensors, **self.plain_values()}
        state: dict[str, Any] = _canonical(values, self._host_copy(values, buffer))
        if is_tied:
            state["model"] = with_head(state["model"])
        if _uses_cuda():
            torch.cuda.synchronize()  # The copies to the host were only begun.
        return state

    def _host_copy(self, values: dict[str, Any], buffer: HostBuffer | None) -> HostCopy:
        """How each tensor among `values` gets to be one that training cannot change."""
        if is_sharded(self.model):
            return _unless_apart(self._storages())
        if buffer is None:
            return cloned
        buffer.begin(tensors_in(values))
        return buffer.copy

    def _storages(self) -> set[int]:
        """Where the memory of model and optimizer begins, of each tensor."""
        live = [*self.model.parameters(), *self.model.buffers()]
        live += tensors_in(list(unwrap_optimizer(self.optimizer).state.values()))
        return {local_part(tensor).untyped_storage().data_ptr() for tensor in live}

    def plain_values(self) -> dict[str, Any]:
        """Everything but the model and the optimizer; collective, for the RNG of every rank."""
        values = {name: getattr(self, name) for name in COUNTERS}
        values |= {"metrics": dict(self.metrics), "rng": _rng_of_all_ranks()}
        values["data_start"] = _canonical(self.data_start)
        return values | ({SCALER: self.scaler.state_dict()} if self.scaler else {})

    def restore(self, snapshot: dict[str, Any], *, rank: int = 0) -> None:
        """Become what `snapshot` was, to the last bit."""
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
        """Counters, the loss scale, and the RNG of this rank; the metrics if they are there.

        What is written of a state leaves them to the checkpoint's manifest.
        """
        for name in COUNTERS:
            setattr(self, name, snapshot.get(name, getattr(self, name)))
        if "skipped_tokens" not in snapshot and self.step:  # of an earlier release
            self.skipped_tokens = self.skipped_steps * self.tokens_seen // self.step
        self.metrics = dict(snapshot.get("metrics", {}))
        if self.scaler is not None and SCALER in snapshot:
            self.scaler.load_state_dict(snapshot[SCALER])
        if rank < len(snapshot["rng"]):
            _restore_rng(snapshot["rng"][rank])

    def whole_tensors(self) -> dict[str, Any]:
        """Model and optimizer of a sharded run, gathered on rank 0."""
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
    """Load whole weights by their plain names into a model wrapped or sharded in any way."""
    if is_sharded(model):
        options = StateDictOptions(full_state_dict=True, strict=True)
        set_model_state_dict(unwrap(model), weights, options=options)
        return
    names = {strip_wrapping(name): name for name in model.state_dict()}
    model.load_state_dict({names.get(k, k): v for k, v in weights.items()}, strict=True)


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 has spread the parameters over the processes."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def unwrap(model: nn.Module) -> nn.Module:
    """The model without what Fabric, DDP and torch.compile put around it."""
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
    """An optimizer's state with parameters called by name instead of by number."""
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
    """The reverse of `by_name`, as `load_state_dict` of this optimizer wants it."""
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

    They follow the device, and a checkpoint may come from another one: a CPU's `fused: None` would
    take the fused kernel from a GPU, whose `step` counters lie where its flags want them.
    """
    flags = [
        {name: group[name] for name in EXECUTION_FLAGS if name in group}
        for group in optimizer.param_groups
    ]
    # Another number of groups is for torch to refuse.
    pairs = zip_longest(named["param_groups"], flags, fillvalue=dict[str, Any]())
    return {**named, "param_groups": [{**group, **own} for group, own in pairs]}


def _canonical(value: Any, copy: HostCopy = torch.Tensor.clone) -> Any:
    """The same value made of fresh containers, interned strings, and copied tensors.

    Pickle writes a second occurrence of one object as a back reference, so equal states whose
    strings are shared differently (trained on, or loaded from a file) would differ in their bytes.
    """
    if isinstance(value, torch.Tensor):
        return copy(value)
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item, copy) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_canonical(item, copy) for item in value)
    return sys.intern(value) if type(value) is str else value


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in nested containers, in the order in which `_canonical` copies them."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    is_nested = isinstance(value, (dict, list, tuple))
    return [tensor for item in items for tensor in tensors_in(item)] if is_nested else []


def _sorted(value: Any) -> Any:
    """One form of an optimizer's state, which else depends on how it was last loaded.

    Mappings are in the order of their keys; a pair of numbers (`betas`) is a tuple.
    """
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        is_numbers = all(isinstance(item, (int, float)) for item in value)
        return tuple(value) if is_numbers else [_sorted(item) for item in value]
    return value


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a sharded tensor; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cloned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the host."""
    if tensor.device.type == "cpu":
        return tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensor.detach().cpu().contiguous()


def _unless_apart(live: set[int]) -> HostCopy:
    """Copies what training still works on; what was gathered for the snapshot is one already.

    Args:
        live: Where the memory of what training works on begins.
    """

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        is_whole = tensor.is_contiguous() and storage.nbytes() == tensor.nbytes
        is_apart = tensor.device.type == "cpu" and storage.data_ptr() not in live
        return tensor.detach() if is_whole and is_apart else cloned(tensor)

    return copy


def _uses_cuda() -> bool:
    """False on a machine with a GPU that trains on its CPU: asking the GPU would claim memory."""
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
