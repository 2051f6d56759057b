"""The loss head against cross-entropy in fp32, and a state that goes from device to device."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from continuum.architecture import architecture
from continuum.training.fabric import make_fabric, resolve
from continuum.training.loss import next_token_loss
from continuum.training.loss_head import LossHead
from continuum.training.setup import make_state
from continuum.training.state import TrainingState, tensors_in, unwrap_optimizer
from tests.gpu.parts import Setting, check, part
from tests.training.samples import FIELDS, make_recipe

LOSS_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 0.01


class _Head(nn.Module):
    """A model that is nothing but its head; what enters it is a parameter."""

    def __init__(self, hidden: torch.Tensor, weight: torch.Tensor) -> None:
        super().__init__()
        self.hidden = nn.Parameter(hidden)
        linear = nn.Linear(weight.size(1), weight.size(0), bias=False)
        linear.weight = nn.Parameter(weight)
        self.lm_head = LossHead.adopt(linear)

    def forward(self, _inputs: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.lm_head(self.hidden)
        return loss


@part("head")
def head_against_fp32(setting: Setting) -> dict[str, Any]:
    """Loss and gradients under bf16 autocast, of pythia-160m's head."""
    batch, length, width, rows = (2, 16, 32, 211) if setting.is_toy else (4, 2048, 768, 50_304)
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(batch, length, width, generator=generator).to(setting.device)
    weight = (torch.randn(rows, width, generator=generator) * 0.05).to(setting.device)
    targets = torch.randint(0, rows, (batch, length), generator=generator).to(setting.device)

    model = _Head(hidden.clone(), weight.clone())
    with torch.autocast(setting.device, torch.bfloat16):
        loss = next_token_loss(model, targets, targets)
    loss.backward()  # type: ignore[no-untyped-call]

    exact_hidden, exact_weight = hidden.requires_grad_(), weight.requires_grad_()
    logits = functional.linear(exact_hidden, exact_weight)
    exact = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    exact.backward()  # type: ignore[no-untyped-call]

    assert model.hidden.grad is not None
    found = {
        "loss_error": abs(loss.item() - exact.item()),
        "hidden_gradient_error": _relative(model.hidden.grad, exact_hidden.grad),
        "weight_gradient_error": _relative(model.lm_head.weight.grad, exact_weight.grad),
    }
    check(found["loss_error"] < LOSS_TOLERANCE * max(1.0, exact.item()), f"the loss: {found}")
    worst = max(found["hidden_gradient_error"], found["weight_gradient_error"])
    check(worst < GRADIENT_TOLERANCE, f"the gradients: {found}")
    return found


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
    resolved = resolve(recipe, {}, shape.num_parameters())
    fabric = make_fabric(resolved, recipe.runtime)
    return make_state(fabric, recipe, FIELDS, resolved, seed=3)


def _relative(found: torch.Tensor | None, exact: torch.Tensor | None) -> float:
    assert found is not None
    assert exact is not None
    return float((found.float() - exact.float()).norm() / exact.float().norm())
