import io
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Fabric
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from continuum.training.litgpt import build_model, initialize_weights
from continuum.training.shards import load_shards, snapshot_shards, write_shards, writers_group
from continuum.training.state import EXECUTION_FLAGS, TrainingState, unwrap_optimizer
from continuum.training.weights import PLAIN_FILE
from tests.training.samples import (
    FIELDS,
    LENGTH,
    assert_equal_tensors,
    cpu_fabric,
    make_state,
    take_steps,
)

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {"weight_decay": 0.1, "amsgrad": True}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {}),
    ("Adafactor", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("NAdam", {}),
    ("Adagrad", {}),
]
parametrized = pytest.mark.parametrize(
    ("name", "arguments"), OPTIMIZERS, ids=[f"{name}-{len(a)}" for name, a in OPTIMIZERS]
)


def through_a_file(snapshot: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(snapshot, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """All leaves of nested containers, by their place."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    else:
        return {name: value}
    return {k: v for key, item in items for k, v in flat(item, f"{name}/{key}").items()}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    leaves, others = flat(first), flat(second)
    assert leaves.keys() == others.keys()
    tensors = {name for name, value in leaves.items() if torch.is_tensor(value)}
    assert_equal_tensors({n: leaves[n] for n in tensors}, {n: others[n] for n in tensors})
    assert all(leaves[name] == others[name] for name in leaves.keys() - tensors)


def trained(name: str, arguments: dict[str, Any], steps: int = 3) -> TrainingState:
    fabric = cpu_fabric()
    state = make_state(fabric, optimizer=name, **arguments)
    take_steps(fabric, state, steps)
    state.metrics = {"loss": 1.25, "val_loss": 2.5}
    state.learning_rate, state.tokens_before = 3e-4, 1000
    return state


@parametrized
def test_a_restored_state_is_the_saved_one(name: str, arguments: dict[str, Any]) -> None:
    saved = through_a_file(trained(name, arguments).snapshot())
    fresh = make_state(cpu_fabric(), seed=9, optimizer=name, **arguments)
    fresh.restore(saved)
    assert_same(fresh.snapshot(), saved)
    assert (fresh.step, fresh.tokens_seen, fresh.tokens_total) == (3, 96, 1096)
    assert (fresh.learning_rate, fresh.metrics) == (3e-4, {"loss": 1.25, "val_loss": 2.5})


@parametrized
def test_training_goes_on_from_it_to_the_same_bits(name: str, arguments: dict[str, Any]) -> None:
    fabric = cpu_fabric()
    state = trained(name, arguments)
    saved = through_a_file(state.snapshot())
    take_steps(fabric, state, 3)
    restored = make_state(fabric, seed=9, optimizer=name, **arguments)
    restored.restore(saved)
    take_steps(fabric, restored, 3)
    assert_same(restored.snapshot(), state.snapshot())


def test_the_random_stream_goes_on_where_it_was() -> None:
    state = make_state(cpu_fabric())
    torch.rand(17)
    saved = through_a_file(state.snapshot())
    expected = torch.rand(5)
    torch.manual_seed(0)
    state.restore(saved)
    assert torch.equal(torch.rand(5), expected)


def test_equal_states_are_equal_bytes_however_they_came_about() -> None:
    def data(snapshot: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        torch.save(snapshot, buffer)
        return buffer.getvalue()

    state = trained("AdamW", {})
    restored = make_state(cpu_fabric(), seed=9)
    restored.restore(through_a_file(state.snapshot()))
    # A restore sets the random stream, the last thing the two could differ in.
    state.restore(through_a_file(restored.snapshot()))
    assert data(state.snapshot()) == data(restored.snapshot())


@pytest.mark.parametrize(
    ("parents", "own"),
    [({}, {"fused": True}), ({"fused": True}, {}), ({"foreach": True}, {"foreach": False})],
    ids=["fused here", "fused there", "foreach there"],
)
def test_how_a_step_is_carried_out_is_not_the_checkpoints(
    parents: dict[str, Any], own: dict[str, Any]
) -> None:
    """A CPU runs the fused step too, so that it stands here for the other device."""
    saved = through_a_file(trained("AdamW", parents).snapshot())
    fabric = cpu_fabric()
    fresh = make_state(fabric, seed=9, **own)
    before = {name: group(fresh)[name] for name in EXECUTION_FLAGS}
    fresh.restore(saved)
    assert {name: group(fresh)[name] for name in EXECUTION_FLAGS} == before
    assert_equal_tensors(fresh.snapshot()["model"], saved["model"])
    assert_same(fresh.snapshot()["optimizer"]["state"], saved["optimizer"]["state"])
    take_steps(fabric, fresh, 1)
    (counter,) = {value["step"].item() for value in fresh.optimizer.state.values()}
    assert counter == 4


def test_another_number_of_parameter_groups_is_refused() -> None:
    saved = trained("AdamW", {}).snapshot()
    saved["optimizer"]["param_groups"] *= 2
    with pytest.raises(ValueError, match="number of parameter groups"):
        make_state(cpu_fabric()).restore(saved)


@pytest.mark.gpu
def test_a_state_goes_from_a_cpu_to_a_gpu_and_back() -> None:
    def on_gpu() -> TrainingState:
        made = Fabric(accelerator="cuda", devices=1, precision="32-true")
        made.launch()
        return make_state(made, seed=9, fused=True)

    first = through_a_file(trained("AdamW", {}).snapshot())
    state, back = on_gpu(), make_state(cpu_fabric(), seed=8)
    state.restore(first)
    assert group(state)["fused"] is True
    there = through_a_file(state.snapshot())
    back.restore(there)
    assert group(back)["fused"] is None
    last = through_a_file(back.snapshot())
    for found in (there, last):
        assert_equal_tensors(found["model"], first["model"])
        assert_same(found["optimizer"]["state"], first["optimizer"]["state"])
    again = on_gpu()
    again.restore(last)
    states = unwrap_optimizer(again.optimizer).state.values()
    assert {value["step"].device.type for value in states} == {"cuda"}


def sharded(mesh: DeviceMesh, *, fused: bool | None) -> TrainingState:
    """A model that FSDP2 shards, with an optimizer that steps as it is told."""
    torch.manual_seed(7)
    model = build_model(cpu_fabric(), FIELDS, LENGTH)
    initialize_weights(cpu_fabric(), model, n_layer=2, n_embd=16)
    for part in (*model.transformer.h, model):
        fully_shard(part, mesh=mesh)
    return TrainingState(model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused))


def test_a_sharded_run_keeps_its_own_execution_flags(mesh: DeviceMesh, tmp_path: Path) -> None:
    """From a file of whole tensors as from shards."""
    source = trained("AdamW", {}).snapshot()
    first = sharded(mesh, fused=True)
    first.restore(source)
    plain = sharded(mesh, fused=None)
    plain.restore(source)
    parts = snapshot_shards(plain)
    write_shards(tmp_path, parts, writers_group())
    torch.save(parts.values, tmp_path / PLAIN_FILE)
    second = sharded(mesh, fused=True)
    load_shards(tmp_path, second, rank=0)
    for state in (first, second):
        assert group(state)["fused"] is True
        take_steps(cpu_fabric(), state, 1)
        steps = {value["step"].item() for value in state.optimizer.state.values()}
        assert steps == {source["step"] + 1}
    assert group(plain)["fused"] is None


def group(state: TrainingState) -> dict[str, Any]:
    """The one parameter group of its optimizer."""
    (found,) = unwrap_optimizer(state.optimizer).param_groups
    return found


def test_a_compiled_models_names_are_the_plain_ones() -> None:
    plain = make_state(cpu_fabric()).snapshot()
    compiled = make_state(cpu_fabric(), seed=9, backend="eager")
    assert compiled.snapshot()["model"].keys() == plain["model"].keys()
    assert plain["model"].keys() >= {"lm_head.weight", "transformer.wte.weight"}
    compiled.restore(through_a_file(plain))
    assert_equal_tensors(compiled.snapshot()["model"], plain["model"])


def test_weights_of_another_shape_are_not_taken() -> None:
    state = make_state(cpu_fabric())
    snapshot = state.snapshot()
    del snapshot["model"]["lm_head.weight"]
    with pytest.raises(RuntimeError, match="lm_head"):
        state.restore(snapshot)
