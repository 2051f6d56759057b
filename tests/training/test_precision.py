"""What `auto` becomes on devices of several generations, told by what they answer."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from continuum.precision import Capability, automatic_precision, matmul_precision
from continuum.training.fabric import as_record, make_fabric, resolve
from tests.training.samples import make_recipe

P100, V100, T4, A100, H100 = (6, 0), (7, 0), (7, 5), (8, 0), (9, 0)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine whose CUDA devices answer that they have these capabilities."""

    def answer(*capabilities: Capability) -> None:
        answers: dict[str, Any] = {
            "is_available": lambda: True,
            "device_count": lambda: len(capabilities),
            "get_device_capability": lambda number=0: capabilities[number],
            "get_device_name": lambda: "a device of this test",
        }
        for name, told in answers.items():
            monkeypatch.setattr(torch.cuda, name, told)

    return answer


@pytest.fixture
def _settings() -> Iterator[None]:
    """torch's settings as they were."""
    fills: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), fills.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before[0])
    fills.fill_uninitialized_memory = before[1]
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("capability", "can_scale", "expected"),
    [
        (None, True, "32-true"),
        (P100, True, "32-true"),
        (V100, True, "16-mixed"),
        (T4, True, "16-mixed"),
        (T4, False, "32-true"),
        (A100, True, "bf16-mixed"),
        (A100, False, "bf16-mixed"),
        (H100, True, "bf16-mixed"),
    ],
)
def test_auto_is_what_the_device_multiplies_fast(
    capability: Capability | None, can_scale: bool, expected: str
) -> None:
    assert automatic_precision(capability, can_scale=can_scale) == expected


@pytest.mark.parametrize(
    ("capabilities", "fields", "expected"),
    [
        ([T4], {}, "16-mixed"),
        ([A100, T4], {"devices": 2, "strategy": "ddp"}, "16-mixed"),
        ([A100, T4], {"devices": 1}, "bf16-mixed"),
        ([T4, T4], {"devices": 2, "strategy": "fsdp"}, "32-true"),
        ([H100], {"accelerator": "cpu"}, "32-true"),
    ],
)
def test_auto_is_what_every_device_of_the_run_can(
    capabilities: list[Capability], fields: dict[str, Any], expected: str, devices: Any
) -> None:
    devices(*capabilities)
    recipe = make_recipe(runtime={"micro_batch_size": 2, **fields})
    assert resolve(recipe, {}).precision == expected
    assert resolve(recipe, {"precision": "bf16-true"}).precision == "bf16-true", "as it began"


@pytest.mark.parametrize(
    ("precision", "on_cuda", "expected"),
    [
        ("32-true", True, "highest"),
        ("bf16-mixed", True, "high"),
        ("16-mixed", True, "high"),
        ("bf16-mixed", False, "highest"),
    ],
)
def test_fp32_is_fp32_where_it_was_asked_for(precision: str, on_cuda: bool, expected: str) -> None:
    assert matmul_precision(precision, on_cuda=on_cuda) == expected


@pytest.mark.usefixtures("_settings")
def test_the_setting_for_fp32_products_is_made_and_recorded() -> None:
    torch.set_float32_matmul_precision("medium")  # of whatever ran before in this process
    recipe = make_recipe()
    resolved = resolve(recipe, {})
    make_fabric(resolved, recipe.runtime)
    assert torch.get_float32_matmul_precision() == "highest"
    assert as_record(resolved)["matmul_precision"] == "highest"


@pytest.mark.usefixtures("_settings")
def test_deterministic_algorithms_fill_no_memory_in_vain() -> None:
    recipe = make_recipe(runtime={"micro_batch_size": 2, "deterministic": True})
    make_fabric(resolve(recipe, {}), recipe.runtime)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory is False  # type: ignore[attr-defined]


@pytest.mark.gpu
def test_a_devices_answers_are_taken() -> None:
    recipe = make_recipe(runtime={"accelerator": "cuda", "micro_batch_size": 2})
    is_recent = torch.cuda.get_device_capability(0) >= A100
    assert resolve(recipe, {}).precision == ("bf16-mixed" if is_recent else "16-mixed")
