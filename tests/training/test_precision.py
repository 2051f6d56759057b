"""What `auto` becomes on devices of several generations, told by what they answer."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from continuum.errors import PreflightError
from continuum.experiment.precision import Capability, automatic_precision, matmul_precision
from continuum.preflight.compatibility import precision_problems
from continuum.preflight.host import CudaDevice, Host, host_memory
from continuum.training.fabric import make_fabric, use_attention
from continuum.training.resolved import DEFAULT_ATTENTION, attention_order, resolve
from tests.training.samples import make_recipe

P100, V100, T4, A100, H100, B200 = (6, 0), (7, 0), (7, 5), (8, 0), (9, 0), (10, 0)


def host_with(capability: Capability, num_devices: int = 1) -> Host:
    """A machine with CUDA devices of this capability."""
    device = CudaDevice("a device of this test", capability, 80_000_000_000)
    return Host(host_memory(), has_cuda_device=True, device=device, num_devices=num_devices)


@pytest.fixture
def _settings() -> Iterator[None]:
    """torch's settings as they were."""
    fills: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), fills.fill_uninitialized_memory
    yield
    use_attention(DEFAULT_ATTENTION)
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
    ("capability", "fields", "expected"),
    [
        (T4, {}, "16-mixed"),
        (T4, {"devices": 2, "strategy": "ddp"}, "16-mixed"),
        (A100, {}, "bf16-mixed"),
        (T4, {"devices": 2, "strategy": "fsdp"}, "32-true"),
        (H100, {"accelerator": "cpu"}, "32-true"),
    ],
)
def test_auto_is_what_the_devices_of_the_run_can(
    capability: Capability, fields: dict[str, Any], expected: str
) -> None:
    host = host_with(capability, 2)
    recipe = make_recipe(runtime={"micro_batch_size": 2, **fields})
    assert resolve(recipe, {}, host=host).precision == expected
    kept = resolve(recipe, {"precision": "bf16-true"}, host=host)
    assert kept.precision == "bf16-true", "a recovery keeps it"


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
    assert resolved.as_record()["matmul_precision"] == "highest"


@pytest.mark.parametrize(
    ("wanted", "capability", "deterministic", "expected"),
    [
        ("auto", None, False, "default"),
        ("auto", None, True, "default"),
        ("auto", T4, False, "flash, efficient, cudnn, math"),
        ("auto", A100, False, "flash, efficient, cudnn, math"),
        ("auto", H100, False, "cudnn, flash, efficient, math"),
        ("auto", B200, False, "cudnn, flash, efficient, math"),
        ("auto", H100, True, "flash, efficient, math"),
        ("flash", H100, False, "flash"),
        ("math", None, True, "math"),
    ],
)
def test_attention_has_the_order_of_its_device(
    wanted: str, capability: Capability | None, deterministic: bool, expected: str
) -> None:
    assert attention_order(wanted, capability, deterministic=deterministic) == expected


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"attention": "cudnn"}, "cudnn needs a CUDA device"),
        ({"attention": "efficient"}, "efficient needs a CUDA device"),
    ],
)
def test_a_kernel_that_a_cpu_has_not_is_refused(runtime: dict[str, Any], message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        resolve(make_recipe(runtime=runtime), {})


def test_a_kernel_that_is_not_deterministic_is_refused_where_all_must_be() -> None:
    recipe = make_recipe(runtime={"attention": "cudnn", "deterministic": True})
    (problem,) = precision_problems(recipe)
    assert "cudnn is not deterministic" in problem.message


class Kernels(TorchDispatchMode):
    """The kernels of attention that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names |= {str(func.overloadpacket)} if "scaled_dot" in str(func) else set()
        return func(*args, **(kwargs or {}))


def kernels(device: str, dtype: torch.dtype) -> set[str]:
    """What attention with a gradient calls."""
    query = torch.randn(1, 2, 64, 64, device=device, dtype=dtype, requires_grad=True)
    with Kernels() as found:
        functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    return {name.removeprefix("aten._scaled_dot_product_") for name in found.names}


@pytest.mark.usefixtures("_settings")
def test_attention_uses_the_kernel_that_was_resolved() -> None:
    by_default = kernels("cpu", torch.float32)
    for wanted in ("math", "flash", "auto"):
        recipe = make_recipe(runtime={"attention": wanted})
        resolved = resolve(recipe, {})
        make_fabric(resolved, recipe.runtime)
        found = kernels("cpu", torch.float32)
        assert any("flash" in name for name in found) is (wanted != "math")
        assert resolved.as_record()["attention"] == {"auto": "default"}.get(wanted, wanted)
    assert found == by_default


@pytest.mark.gpu
@pytest.mark.usefixtures("_settings")
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpus_attention_uses_the_first_of_its_order(deterministic: bool) -> None:
    recipe = make_recipe(runtime={"accelerator": "cuda", "deterministic": deterministic})
    resolved = resolve(recipe, {})
    make_fabric(resolved, recipe.runtime)
    first = resolved.attention.split(", ")[0]
    assert kernels("cuda", torch.bfloat16) == {f"{first}_attention"}
    assert kernels("cuda", torch.float32) <= {"efficient_attention", "attention_math"}


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
