"""How much memory a process of a training stage takes, estimated before it starts.

State: weights, gradients and the optimizer's moments; `ddp` holds all of it in every process and
its gradients twice (the buckets it reduces), `fsdp` a share of it and, while they are used, whole
parameters and gradients of the outer layers and of one block.

Activations: what autograd keeps of one micro-batch until its backward, counted over LitGPT's
modules as in Korthikanti et al. 2022 (arXiv:2205.05198, section 4.1), but without dropout and
without scores, since scaled_dot_product_attention keeps none. Then the head: a block of logits at
once, and the gradient of its weight, found with the loss and kept until the backward pass comes
(`continuum.training.loss_head`). Where all logits are held they are usually the peak: the loss
keeps their logarithmic softmax in fp32 and its gradient is as large.

What the process itself takes, and how much more than it uses the allocator holds, are measured
(see the tests): the estimate is meant to be right within a third.
"""

from dataclasses import dataclass
from typing import Any

from continuum.architecture import Architecture
from continuum.figures import format_bytes
from continuum.preflight.host import HostMemory
from continuum.preflight.logits import has_fused_loss, rows_at_once
from continuum.preflight.sizes import StateSize, bytes_per_parameter, state_size
from continuum.recipe import Recipe

PROCESS_BYTES = 500_000_000
"""Resident in a process that has imported torch, Fabric and LitGPT."""
CUDA_CONTEXT_BYTES = 500_000_000
"""What CUDA and its libraries take of a device."""
HELD_BY_MALLOC = 1.5
"""Resident memory of a CPU process to what its tensors take: glibc keeps freed blocks below
32 MB, which most are. CUDA's caching allocator fits better."""
SURE_SHARE = 0.7
"""Of the estimated activations, when a run is to be refused for them."""
WAYS_OUT = (
    "lower runtime.micro_batch_size, share the model among more devices with strategy fsdp, or "
    "use precision bf16-true"
)
LOGITS_COPIES = 2
BYTES_OF_FP32 = 4


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process: on its CUDA device, or of host memory where it trains on the CPU."""

    base_bytes: int
    state_bytes: int
    activation_bytes: int
    snapshot_bytes: int = 0
    """A checkpoint on its way to the disk; on the CPU it lies beside the state."""

    num_processes: int = 1
    """That share the memory in question: all of a node's, where they train on the CPU."""
    num_snapshots: int = 1

    @property
    def total_bytes(self) -> int:
        """Of one process."""
        return self.base_bytes + self.state_bytes + self.activation_bytes + self.snapshot_bytes

    @property
    def shared_bytes(self) -> int:
        """Of all processes together."""
        others = self.num_processes * (self.total_bytes - self.snapshot_bytes)
        return others + self.num_snapshots * self.snapshot_bytes

    @property
    def sure_bytes(self) -> int:
        """What they take at the least, so that no run is refused that would have fitted."""
        return self.num_processes * (self.state_bytes + int(SURE_SHARE * self.activation_bytes))

    def problem(self, total_bytes: int, place: str) -> str | None:
        """Why it cannot be in `place` with so much memory; None when it may be."""
        return (
            f"{self._need(place, total_bytes)}: {WAYS_OUT}"
            if self.sure_bytes > total_bytes
            else None
        )

    def doubt(self, available_bytes: int, place: str) -> str | None:
        """Why it may not fit into what is available in `place`; None when it should."""
        if self.shared_bytes <= available_bytes:
            return None
        return f"{self._need(place, available_bytes)}; should it fail, {WAYS_OUT}"

    def _need(self, place: str, has_bytes: int) -> str:
        each = f" in each of {self.num_processes} processes" if self.num_processes > 1 else ""
        return (
            f"training takes about {format_bytes(self.total_bytes)} of memory{each} "
            f"({format_bytes(self.state_bytes)} weights, gradients and optimizer, "
            f"{format_bytes(self.activation_bytes)} activations), and {place} has "
            f"{format_bytes(has_bytes)}"
        )


def estimate_memory(
    recipe: Recipe,
    architecture: Architecture | None,
    *,
    on_cpu: bool,
    strategy: str | None = None,
) -> MemoryEstimate | None:
    """What one process takes; None for the shapes whose parameters are not counted.

    Args:
        strategy: `single`, `ddp` or `fsdp`, once `auto` is resolved.
    """
    size = state_size(recipe, architecture)
    if architecture is None or size is None:
        return None
    strategy = strategy or strategy_of(recipe)
    activations = _activation_bytes(recipe, architecture.fields)
    head = _head_bytes(recipe, architecture.fields, on_cpu=on_cpu)
    is_sharded = recipe.runtime.checkpoint.format == "sharded"
    snapshot = size.checkpoint_bytes // (_world_size(recipe) if is_sharded else 1)
    return MemoryEstimate(
        base_bytes=PROCESS_BYTES if on_cpu else CUDA_CONTEXT_BYTES,
        state_bytes=_state_bytes(recipe, architecture, size, strategy),
        activation_bytes=int((activations + head) * (HELD_BY_MALLOC if on_cpu else 1)),
        snapshot_bytes=snapshot if on_cpu else 0,
        num_processes=recipe.runtime.devices if on_cpu else 1,
        num_snapshots=recipe.runtime.devices if is_sharded else 1,
    )


def host_doubts(
    recipe: Recipe, estimate: MemoryEstimate, memory: HostMemory
) -> tuple[list[str], list[str]]:
    """Problems and warnings of a run on this machine's memory.

    Where the device is left to be found out, and where several nodes share the work, the machine
    that plans need not be the one that trains: that is doubt enough not to refuse.
    """
    place = "this machine (or the control group that holds this process)"
    problem = estimate.problem(memory.total_bytes, place)
    is_sure = recipe.runtime.accelerator == "cpu" and recipe.runtime.num_nodes == 1
    if problem is not None and is_sure:
        return [problem], []
    doubt = estimate.doubt(memory.available_bytes, place)
    return [], [doubt] if doubt else []


def strategy_of(recipe: Recipe) -> str:
    """`single`, `ddp` or `fsdp`; of `auto` the one that needs no more than the other to save."""
    written = recipe.runtime.strategy
    return "single" if _world_size(recipe) == 1 else "ddp" if written == "auto" else written


def _world_size(recipe: Recipe) -> int:
    return recipe.runtime.devices * recipe.runtime.num_nodes


def _state_bytes(recipe: Recipe, architecture: Architecture, size: StateSize, strategy: str) -> int:
    whole = size.weights_bytes + size.gradients_bytes + size.moments_bytes
    if strategy == "fsdp":
        outer = (2 - architecture.tied) * architecture.embedding_size
        block = (size.num_parameters - outer) // architecture.fields["n_layer"]
        gathered = (outer + block) * bytes_per_parameter(recipe.precision)
        return whole // _world_size(recipe) + 2 * int(gathered)
    return whole + size.gradients_bytes * (strategy == "ddp")


def _activation_bytes(recipe: Recipe, c: dict[str, Any]) -> int:
    """What all blocks keep of one micro-batch, at the end of its forward."""
    half, is_mixed = recipe.precision not in ("auto", "32-true"), "mixed" in recipe.precision
    width = 2 if half else BYTES_OF_FP32
    stream_width = BYTES_OF_FP32 if is_mixed else width
    block = _stream_numbers(c) * stream_width + _inner_numbers(c) * width
    return int(_micro_batch_tokens(recipe) * c["n_layer"] * block)


def _head_bytes(recipe: Recipe, c: dict[str, Any], *, on_cpu: bool) -> int:
    """Logits in fp32, with what is made of them in place or as large, and the fused gradient."""
    tokens, vocabulary = _micro_batch_tokens(recipe), c["padded_vocab_size"]
    if not has_fused_loss(c, recipe.precision):
        return int(LOGITS_COPIES * tokens * vocabulary * BYTES_OF_FP32)
    rows = rows_at_once(tokens, vocabulary, on_cpu=on_cpu)
    return int((rows + c["n_embd"]) * vocabulary * BYTES_OF_FP32)


def _micro_batch_tokens(recipe: Recipe) -> int:
    return recipe.runtime.micro_batch_size * recipe.sequence_length


def _stream_numbers(c: dict[str, Any]) -> int:
    """Numbers a token in a block's residual stream and norms, which autocast leaves in fp32."""
    streams = 1 if c["parallel_residual"] else 2
    norms = 1 if c["shared_attention_norm"] else 2
    kept_by_norm = 2 if c["norm_class_name"] == "RMSNorm" else 1
    return int(c["n_embd"] * (streams + norms * kept_by_norm))


def _inner_numbers(c: dict[str, Any]) -> int:
    """Numbers a token in attention and MLP.

    Attention keeps queries, keys and values as it uses them, its output and, where keys and
    values are not copied for groups of heads, the joint projection that the values lie in. An MLP
    with a gate keeps two projections, the activation and the product; one without, half of that.
    """
    heads = c["n_head"] * c["head_size"]
    attention = 4 * heads if c["n_query_groups"] != c["n_head"] else 6 * heads
    mlp = (2 if c["mlp_class_name"] == "GptNeoxMLP" else 4) * c["intermediate_size"]
    return int(attention + mlp)
