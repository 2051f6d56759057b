"""What is known of a GPU's rate, by the names that CUDA reports."""

import math

import pytest
import torch

from continuum.training.metrics import Clock
from continuum.training.peak_flops import listed_peak, most_tokens_per_s, peak_flops
from tests.training.samples import Trials

BF16 = {
    "NVIDIA GB200": 2500,
    "NVIDIA GB300": 2500,
    "NVIDIA B200": 2250,
    "NVIDIA B300 SXM6 AC": 2250,
    "NVIDIA H200": 989.5,
    "NVIDIA H200 NVL": 835.5,
    "NVIDIA GH200 480GB": 989.5,
    "NVIDIA H100 80GB HBM3": 989.5,
    "NVIDIA H100 PCIe": 756.5,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA A800-SXM4-80GB": 312,
    "NVIDIA A30": 165,
    "NVIDIA A40": 149.7,
    "NVIDIA A10": 125,
    "NVIDIA A10G": 70,
    "NVIDIA L4": 121,
    "NVIDIA L40": 181,
    "NVIDIA L40S": 362,
    "NVIDIA RTX A6000": 154.8,
    "NVIDIA RTX 6000 Ada Generation": 364.2,
    "NVIDIA GeForce RTX 3090": 71,
    "NVIDIA GeForce RTX 4090": 165.2,
    "NVIDIA GeForce RTX 5090": 209.5,
}


@pytest.mark.parametrize("name", BF16)
def test_a_device_has_the_dense_rate_of_its_data_sheet(name: str) -> None:
    for precision in ("bf16-mixed", "bf16-true", "16-mixed"):
        assert listed_peak(name, precision, tf32=True) == pytest.approx(BF16[name] * 1e12)


def test_fp32_has_the_rate_of_the_cores_that_it_runs_on() -> None:
    h100 = "NVIDIA H100 80GB HBM3"
    assert listed_peak(h100, "32-true", tf32=True) == 494.5e12
    assert listed_peak(h100, "32-true", tf32=False) == 67e12


@pytest.mark.parametrize(
    "name",
    [
        "Tesla T4",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A1000",
        "AMD Instinct MI300X",
    ],
)
def test_what_is_not_listed_has_no_rate_of_another(name: str) -> None:
    assert listed_peak(name, "bf16-mixed", tf32=True) is None


def test_the_most_tokens_a_second_are_known_where_the_rate_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert most_tokens_per_s(cuda, "bf16-mixed", 8, 1000) == pytest.approx(8 * 989.5e9)
    assert most_tokens_per_s(cpu, "bf16-mixed", 8, 1000) is None
    assert most_tokens_per_s(cuda, "bf16-mixed", 8, None) is None, "a model that is not counted"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 MIG 1g.10gb")
    assert most_tokens_per_s(cuda, "bf16-mixed", 8, 1000) is None


def test_utilization_is_the_speed_by_the_most() -> None:
    clock = {"step": 0, "num_steps": 10, "tokens_per_step": 10**6}
    row = Clock(**clock, most_tokens_per_s=1e9).measure(1)
    assert row["mfu"] == pytest.approx(row["tokens_per_s"] / 1e9, abs=1e-4)
    assert Clock(**clock).measure(1).keys() == {"tokens_per_s", "eta_s"}


@pytest.mark.gpu
def test_a_gpus_rows_have_their_utilization(trials: Trials) -> None:
    names = ("prose", "tokenizer", "tokens", "pretrain")
    trials.run(only=names, pretrain__max_steps=3, pretrain__runtime={"accelerator": "cuda"})
    rows = [row for row in trials.rows("pretrain") if "loss" in row]
    assert all(0 < row["mfu"] < 1 for row in rows)


@pytest.mark.gpu
def test_this_machines_gpu_has_a_rate() -> None:
    device = torch.device("cuda", 0)
    bf16, fp32 = (peak_flops(device, precision) for precision in ("bf16-mixed", "32-true"))
    assert not math.isnan(bf16)
    assert bf16 > fp32
