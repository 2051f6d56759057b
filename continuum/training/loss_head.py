"""The language-model head with its loss, computed for a block of rows at a time.

The logits of a batch, (B * T, padded vocabulary) in fp32, are the largest tensor of a training
step, and their gradient is as large again. Here neither exists: for each block of rows the logits,
the loss and the gradients of the head's input and weight are computed together in the forward pass,
and the backward pass only scales them. The idea is that of fused linear cross-entropy kernels
(Hsu et al. 2024, "Liger Kernel", arXiv:2410.10989), in plain torch, so that it runs on a CPU too.

On a GPU the passes over a block would take longer than its products, so there torch.compile fuses
them into two kernels, which read the logits and overwrite them with their gradient
(`continuum.preflight.model_size.loss_head_kind` decides).

torch's own `linear_cross_entropy` does the same, but is missing in the oldest supported torch, and
took 6 times as long on a CPU (torch 2.14, 1,024 rows, 50,304 tokens).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from continuum.preflight.model_size import rows_at_once


class LossHead(nn.Linear):
    """`lm_head` that returns the mean loss instead of logits while `targets` are set."""

    targets: torch.Tensor | None = None
    """(B, T) token ids; None to return logits."""
    is_compiled: bool = False
    """Whether torch.compile fuses the passes over the logits."""

    @classmethod
    def adopt(cls, linear: nn.Linear, *, is_compiled: bool = False) -> "LossHead":
        """A head that shares the parameters of `linear`."""
        with torch.device("meta"):
            head = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        head.weight, head.bias = linear.weight, linear.bias
        head.is_compiled = is_compiled
        return head

    # The model's graph ends here: the compiled parts of the head have graphs of their own.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy in nats of (B, T, d), or logits (B, T, padded vocabulary)."""
        if self.targets is None:
            return super().forward(hidden)
        rows, targets = hidden.reshape(-1, hidden.size(-1)), self.targets.reshape(-1)
        if not torch.is_grad_enabled():
            return _mean_loss(rows, self.weight, self.bias, targets, self.is_compiled, None)
        loss = _HeadLoss.apply(rows, self.weight, self.bias, targets, self.is_compiled)
        assert isinstance(loss, torch.Tensor)
        return loss


class ScoringHead(LossHead):
    """`lm_head` that returns, while `targets` are set, what they and the logits say of each row."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores (B, T, 2) in fp32 of (B, T, d), as `scores_of` returns them; or logits."""
        if self.targets is None:
            return nn.Linear.forward(self, hidden)
        rows, targets = hidden.reshape(-1, hidden.size(-1)), self.targets.reshape(-1)
        dtype = _compute_dtype(rows)
        size = rows_at_once(len(rows), len(self.weight), on_cpu=rows.device.type == "cpu")
        found = []
        with torch.autocast(rows.device.type, enabled=False):
            head = _Head(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))
            buffer = torch.empty(size, len(self.weight), dtype=torch.float32, device=rows.device)
            for start in range(0, len(rows), size):
                logits = head.logits(rows[start : start + size].to(dtype), buffer)
                found.append(scores_of(logits, targets[start : start + size]))
        return torch.cat(found).view(*self.targets.shape, 2)


def scores_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The cross-entropy in nats of each target, and 1 where it is the most likely token, else 0.

    Args:
        logits: (..., padded vocabulary) in fp32.
        targets: (...).

    Returns:
        (..., 2) in fp32.
    """
    wanted = logits.gather(-1, targets[..., None]).squeeze(-1)
    losses = logits.logsumexp(-1) - wanted
    return torch.stack([losses, (logits.argmax(-1) == targets).float()], -1)


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of `rows @ weight.T + bias` for `targets`."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        is_compiled: bool,
    ) -> torch.Tensor:
        """rows (N, d), weight (V, d), bias (V) or None, targets (N); a scalar in fp32."""
        ctx.gradients = _Gradients(rows, weight, bias)
        return _mean_loss(rows, weight, bias, targets, is_compiled, ctx.gradients)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the gradients of the forward pass."""
        found: _Gradients | None = ctx.gradients
        if found is None:
            raise RuntimeError(
                "backward was called twice: the gradients of this loss were scaled in place"
            )
        ctx.gradients = None
        return (*found.scaled(grad_output / len(found.rows)), None, None)


def _mean_loss(
    rows: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    is_compiled: bool,
    gradients: "_Gradients | None",
) -> torch.Tensor:
    """The mean loss of all rows; the gradients of the summed loss are added to `gradients`."""
    dtype = _compute_dtype(rows)
    size = rows_at_once(len(rows), len(weight), on_cpu=rows.device.type == "cpu")
    losses = []
    with torch.autocast(rows.device.type, enabled=False):
        head = _Head(weight.to(dtype), None if bias is None else bias.to(dtype))
        if is_compiled:
            # If a size that is not much smaller divides the rows, one graph is enough.
            size = next((n for n in range(size, size // 2, -1) if len(rows) % n == 0), size)
            buffer = None
        else:
            buffer = torch.empty(size, len(weight), dtype=torch.float32, device=rows.device)
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            part = rows[block].to(dtype), targets[block], block, gradients
            if buffer is None:
                losses.append(_fused_block_loss(head, *part, is_full=start + size <= len(rows)))
            else:
                losses.append(_block_loss(head, *part, buffer))
    return torch.stack(losses).sum() / len(rows)


@dataclass(frozen=True)
class _Head:
    """Weight (V, d) and bias (V), in the compute type."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def logits(self, rows: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
        """Of rows (n, d), in fp32, written to the first n rows of the buffer."""
        out = buffer[: len(rows)]
        if self.bias is None and self.weight.dtype == buffer.dtype:
            return torch.mm(rows, self.weight.t(), out=out)
        return out.copy_(functional.linear(rows, self.weight, self.bias))


class _Gradients:
    """Of the summed loss, filled block by block; sums over rows are in fp32."""

    def __init__(self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.rows = torch.empty_like(rows)
        self.weight = torch.zeros_like(weight, dtype=torch.float32)
        self.bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        self._dtype = weight.dtype

    def add(
        self,
        block: slice,
        head: _Head,
        rows: torch.Tensor,
        targets: torch.Tensor,
        powers: torch.Tensor,
        sums: torch.Tensor,
    ) -> None:
        """Add those of a block: with respect to the logits, softmax minus one-hot targets.

        Softmax is `powers / sums` (n, V). The two terms are added separately, so that neither needs
        a pass over the logits: the divisors move to the small factors of the products, and the
        one-hot term selects rows of the weight.
        """
        powers, shares = powers.to(rows.dtype), 1 / sums
        self.rows[block] = (powers @ head.weight) * shares - head.weight[targets]
        scaled = (rows * shares).to(rows.dtype)
        if rows.dtype == torch.float32:
            self.weight.addmm_(powers.t(), scaled)
        else:
            self.weight += powers.t() @ scaled
        self.weight.index_add_(0, targets, rows.float(), alpha=-1)
        if self.bias is not None:
            self.bias += (powers * shares).sum(0)
            self.bias.index_add_(0, targets, torch.ones_like(sums[:, 0]), alpha=-1)

    def add_product(
        self, block: slice, head: _Head, rows: torch.Tensor, by_logits: torch.Tensor
    ) -> None:
        """Add those of a block, given the gradient of its logits (n, V)."""
        self.rows[block] = by_logits @ head.weight
        if rows.dtype == torch.float32:
            self.weight.addmm_(by_logits.t(), rows)
        else:
            self.weight += by_logits.t() @ rows
        if self.bias is not None:
            self.bias += by_logits.sum(0, dtype=torch.float32)

    def scaled(self, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Those of rows, weight and bias, times `factor`, in their types."""
        bias = None if self.bias is None else self.bias.mul_(factor).to(self._dtype)
        return self.rows.mul_(factor), self.weight.mul_(factor).to(self._dtype), bias


def _block_loss(
    head: _Head,
    rows: torch.Tensor,
    targets: torch.Tensor,
    block: slice,
    gradients: _Gradients | None,
    buffer: torch.Tensor,
) -> torch.Tensor:
    """The summed loss of a block of rows; its gradients are added to `gradients`."""
    logits = head.logits(rows, buffer)
    wanted = logits.gather(-1, targets[:, None])
    highest = logits.amax(-1, keepdim=True)
    powers = logits.sub_(highest).exp_()
    sums = powers.sum(-1, keepdim=True)
    if gradients is not None:
        gradients.add(block, head, rows, targets, powers, sums)
    return (sums.log() + highest - wanted).sum()


def _fused_block_loss(
    head: _Head,
    rows: torch.Tensor,
    targets: torch.Tensor,
    block: slice,
    gradients: _Gradients | None,
    *,
    is_full: bool,
) -> torch.Tensor:
    """Like `_block_loss`, but the logits stay in the compute type."""
    logits = functional.linear(rows, head.weight, head.bias)
    passes = _loss_of if gradients is None else _loss_with_gradient
    loss = (_compiled(passes) if is_full else passes)(logits, targets)
    if gradients is not None:
        gradients.add_product(block, head, rows, logits)
    return loss


def _loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The summed loss of logits (n, V)."""
    return _loss_and_softmax(logits, targets)[0]


def _loss_with_gradient(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The same; overwrites the logits with their gradient."""
    loss, softmax = _loss_and_softmax(logits, targets)
    is_target = torch.arange(logits.size(-1), device=logits.device) == targets[:, None]
    logits.copy_(softmax - is_target.float())
    return loss


def _loss_and_softmax(
    logits: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    wide = logits.float()
    highest = wide.amax(-1, keepdim=True)
    powers = (wide - highest).exp()
    sums = powers.sum(-1, keepdim=True)
    return (sums.log() + highest - wide.gather(-1, targets[:, None])).sum(), powers / sums


Passes = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@cache
def _compiled(passes: Passes) -> Passes:
    """The passes over a block, compiled for each size."""
    made: Any = torch.compile(passes, dynamic=False, fullgraph=True)
    return made  # type: ignore[no-any-return]


def _compute_dtype(rows: torch.Tensor) -> torch.dtype:
    """The type that a linear layer would compute in here."""
    if torch.is_autocast_enabled(rows.device.type):
        return torch.get_autocast_dtype(rows.device.type)
    return rows.dtype
