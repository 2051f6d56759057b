"""The loss head against cross-entropy in fp32, and a state that goes from device to device."""

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from continuum.experiment.architecture import architecture
from continuum.training.fabric import make_fabric
from continuum.training.loss_head import LossHead
from continuum.training.model import make_state, next_token_loss
from continuum.training.resolved import resolve
from continuum.training.snapshot import tensors_in
from continuum.training.state import TrainingState, unwrap_optimizer
from tests.gpu.parts import Setting, check, part
from tests.training.samples import FIELDS, make_recipe

LOSS_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 0.01
TIMED = 5


class _Head(nn.Module):
    """A model that is nothing but its head; what enters it is a parameter."""

    def __init__(self, hidden: torch.Tensor, weight: torch.Tensor, *, is_compiled: bool) -> None:
        super().__init__()
        self.hidden = nn.Parameter(hidden.clone())
        linear = nn.Linear(weight.size(1), weight.size(0), bias=False)
        linear.weight = nn.Parameter(weight.clone())
        self.lm_head = LossHead.adopt(linear, is_compiled=is_compiled)

    def forward(self, _inputs: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.lm_head(self.hidden)
        return loss


@part("head")
def head_against_fp32(setting: Setting) -> dict[str, Any]:
    """Loss and gradients under bf16 autocast, of pythia-160m's head; and how long each way takes.

    Liger's kernel is timed where it is installed, and torch's own where it has one.
    """
    batch, length, width, rows = (2, 16, 32, 211) if setting.is_toy else (4, 2048, 768, 50_304)
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(batch, length, width, generator=generator).to(setting.device)
    weight = (torch.randn(rows, width, generator=generator) * 0.05).to(setting.device)
    targets = torch.randint(0, rows, (batch, length), generator=generator).to(setting.device)
    exact_hidden, exact_weight = (it.clone().requires_grad_() for it in (hidden, weight))
    logits = functional.linear(exact_hidden, exact_weight)
    exact = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    exact.backward()  # type: ignore[no-untyped-call]
    del logits

    found: dict[str, Any] = {}
    for kind in ("blocks", "compiled"):
        model = _Head(hidden, weight, is_compiled=kind == "compiled")

        def step(model: _Head = model) -> torch.Tensor:
            model.zero_grad()
            with torch.autocast(setting.device, torch.bfloat16):
                loss = next_token_loss(model, targets, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        loss = step()
        assert model.hidden.grad is not None
        errors = {
            "loss_error": abs(loss.item() - exact.item()),
            "hidden_gradient_error": _relative(model.hidden.grad, exact_hidden.grad),
            "weight_gradient_error": _relative(model.lm_head.weight.grad, exact_weight.grad),
        }
        limit = LOSS_TOLERANCE * max(1.0, exact.item())
        check(errors["loss_error"] < limit, f"the loss of {kind}: {errors}")
        worst = max(errors["hidden_gradient_error"], errors["weight_gradient_error"])
        check(worst < GRADIENT_TOLERANCE, f"the gradients of {kind}: {errors}")
        found[kind] = {**errors, "ms": _milliseconds(step)}
    halves = [it.bfloat16().requires_grad_() for it in (hidden.flatten(0, 1), weight)]
    for name, head in _others(setting).items():

        def other(head: Any = head) -> None:
            torch.autograd.backward(head(*halves, targets.flatten()))

        found[name] = {"ms": _milliseconds(other)}
    return found


def _others(setting: Setting) -> dict[str, Any]:
    """Heads of libraries, of rows (N, d), weight (V, d) and targets (N) in bf16."""
    found: dict[str, Any] = {}
    if hasattr(functional, "linear_cross_entropy"):
        options = torch.nn.LinearCrossEntropyOptions()
        found["torch"] = partial(functional.linear_cross_entropy, options=options)
    if find_spec("liger_kernel") is not None and not setting.is_toy:
        liger: Any = import_module("liger_kernel.ops.fused_linear_cross_entropy")
        function = liger.LigerFusedLinearCrossEntropyFunction
        found["liger"] = lambda *inputs: function.apply(*inputs)[0]
    return found


def _milliseconds(step: Callable[[], Any]) -> float:
    """The median of some calls, after one that sets libraries up."""
    step()
    found = []
    for _ in range(TIMED):
        _wait()
        begun_at = time.perf_counter()
        step()
        _wait()
        found.append(1e3 * (time.perf_counter() - begun_at))
    return median(found)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@part("devices")
def from_device_to_device(setting: Setting) -> dict[str, Any]:
    """GPU to CPU to GPU: equal weights and moments; how the optimizer steps is the device's."""
    first = _state(setting.device)
    for _ in range(3):
        loss = first.model(torch.randint(0, 60, (2, 8), device=setting.device)).square().mean()
        loss.backward()
        first.optimizer.step()
        first.optimizer.zero_grad()
        first.step += 1
    snapshot = first.snapshot()
    on_cpu = _state("cpu")
    on_cpu.restore(snapshot)
    back = _state(setting.device)
    back.restore(on_cpu.snapshot())
    before, after = tensors_in(snapshot["model"]), tensors_in(back.snapshot()["model"])
    before += tensors_in(snapshot["optimizer"])
    after += tensors_in(back.snapshot()["optimizer"])
    check(len(before) == len(after), "there are other tensors than before")
    check(all(map(torch.equal, before, after)), "the state is not what it was")
    fused = [unwrap_optimizer(s.optimizer).param_groups[0].get("fused") for s in (first, back)]
    check(fused[0] == fused[1], f"`fused` was {fused[0]} and is {fused[1]}")
    on_host = unwrap_optimizer(on_cpu.optimizer).param_groups[0].get("fused")
    check(setting.is_toy or not on_host, "on the CPU the optimizer steps as on the GPU")
    return {"tensors": len(after), "fused": fused[0]}


def _state(device: str) -> TrainingState:
    runtime = {"accelerator": device, "micro_batch_size": 2, "compile": "off"}
    recipe = make_recipe(runtime=runtime, precision="32-true")
    shape = architecture("pythia-14m", {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 64})
    resolved = resolve(recipe, {}, shape)
    fabric = make_fabric(resolved, recipe.runtime)
    return make_state(fabric, recipe, FIELDS, resolved, seed=3)


def _relative(found: torch.Tensor | None, exact: torch.Tensor | None) -> float:
    assert found is not None
    assert exact is not None
    return float((found.float() - exact.float()).norm() / exact.float().norm())
