"""Where the time goes, read from a trace as torch's profiler writes it."""

from typing import Any

import pytest

from tests.gpu.trace import device_work, shares, slowest


def event(
    cat: str, name: str, ts: float, dur: float, external: int, tid: int = 1
) -> dict[str, Any]:
    return {
        "ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": tid,
        "args": {"External id": external},
    }  # fmt: skip


TRACE: list[dict[str, Any]] = [
    {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}},
    event("cpu_op", "_HeadLoss", 0, 30, 1),
    event("cpu_op", "aten::mm", 5, 10, 2),
    event("cpu_op", "aten::mm", 40, 5, 3),
    event("cpu_op", "autograd::engine::evaluate_function: _HeadLossBackward", 60, 30, 4, tid=2),
    event("cpu_op", "aten::mul_", 65, 5, 5, tid=2),
    event("kernel", "sm90_gemm", 10, 20, 2, tid=7),
    event("kernel", "sm90_gemm", 30, 10, 3, tid=7),
    event("kernel", "pytorch_flash::flash_fwd_kernel<…>", 45, 15, 9, tid=7),
    event("gpu_memcpy", "Memcpy DtoH", 50, 20, 5, tid=8),
]


def test_kernels_belong_to_what_launched_them_and_attention_to_its_name() -> None:
    found = shares(device_work(TRACE, on_gpu=True), wall_us=100)
    assert found["head"] == pytest.approx(0.20 + 0.10)  # of the copy, what is not beside attention
    assert found["attention"] == pytest.approx(0.15)
    assert found["other"] == pytest.approx(0.10)
    assert found["idle"] == pytest.approx(0.45)


def test_on_a_cpu_the_innermost_operations_are_the_work() -> None:
    work = device_work(TRACE, on_gpu=False)
    assert [(item.name, item.what) for item in work] == [
        ("aten::mm", "head"), ("aten::mm", "other"), ("aten::mul_", "head"),
    ]  # fmt: skip


def test_the_slowest_are_summed_by_their_names() -> None:
    (first, second, *_) = slowest(device_work(TRACE, on_gpu=True), 3)
    assert first == ("sm90_gemm", 30)
    assert second == ("Memcpy DtoH", 20)
