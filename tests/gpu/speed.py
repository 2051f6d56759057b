"""Tokens/s and MFU against `litgpt pretrain` on the same device, a model and precision a part."""

from dataclasses import replace
from typing import Any

from tests.benchmarks import bench_gpu
from tests.gpu.parts import Play, Setting, check, part

ROUNDS = 3
TOY_PEAK = 1e12


def _benchmark(model: str, precision: str) -> Play:
    def play(setting: Setting) -> dict[str, Any]:
        training = next(t for t in bench_gpu.MODELS if t.model == f"pythia-{model}")
        training = replace(training, precision=precision)
        if setting.is_toy:
            training = replace(
                training, model="pythia-14m", accelerator="cpu", precision="32-true", copies=1,
                log_every=2, sequence_length=32, global_batch=4, micro_batch=2,
            )  # fmt: skip
        peak = TOY_PEAK if setting.is_toy else bench_gpu.peak_flops()
        assert peak is not None
        theirs, ours = bench_gpu.train(training, setting.work_dir, ROUNDS)
        if setting.is_toy:  # no device's memory, which is divided by
            theirs, ours = ([replace(t, device_bytes=1) for t in x] for x in (theirs, ours))
        speed, memory = bench_gpu.rows_of(training, theirs, ours, peak)
        found = {
            "tokens_s": speed.ours_value,
            "litgpt_tokens_s": speed.reference_value,
            "ratio": speed.ratio,
            "note": speed.note,
            "memory_gb": memory.ours_value / 1e3,
            "litgpt_memory_gb": memory.reference_value / 1e3,
        }
        check(setting.is_toy or speed.is_met, f"slower than LitGPT: {found}")
        return found

    return play


for _model in ("160m", "410m", "1b"):
    part(f"benchmark-{_model}")(_benchmark(_model, "auto"))
    part(f"benchmark-{_model}-bf16-true")(_benchmark(_model, "bf16-true"))
