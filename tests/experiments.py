"""Experiments small enough to train in seconds, with every stage kind of the main flow."""

from typing import Any

import yaml

TOY_MODEL = {"name": "pythia-14m", "n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 512}
DATA_STAGES = ("prose", "tokenizer", "tokens", "code", "code_tokens")
FIRST_STAGES = ("prose", "tokenizer", "tokens", "pretrain")
TRAINING = {
    "sequence_length": 32,
    "global_batch_size": 8,
    "optimizer": {"lr": 5e-3, "weight_decay": 0.1},
    "evaluate": {"every": 10, "sequences": 8},
    "runtime": {"micro_batch_size": 4, "checkpoint": {"every": 5, "keep_last": 3}},
}


def small_stages() -> dict[str, Any]:
    """Corpora from Python's own files, a trained tokenizer, and the four training stages."""
    return {
        "prose": {"kind": "fetch", "sources": [{"python": "pydoc_data/topics.py"}]},
        "tokenizer": {"kind": "train_tokenizer", "corpus": "prose", "vocab_size": 512},
        "tokens": {
            "kind": "tokenize",
            "corpus": "prose",
            "tokenizer": "tokenizer",
            "validation": {"fraction": 0.05},
        },
        "pretrain": {
            "kind": "pretrain",
            "model": TOY_MODEL,
            "data": "tokens",
            "max_steps": 20,
            **TRAINING,
        },
        "longer": {
            "kind": "resume",
            "from": "pretrain",
            "max_steps": 30,
            "schedule": {"kind": "linear", "to": 0},
        },
        "weights": {"kind": "convert", "from": "longer"},
        "code": {"kind": "fetch", "sources": [{"python": "json/*.py"}, {"python": "argparse.py"}]},
        "code_tokens": {
            "kind": "tokenize",
            "corpus": "code",
            "tokenizer": "tokenizer",
            "validation": {"fraction": 0.1},
        },
        "retrain": {
            "kind": "retrain",
            "from": "weights",
            "data": {"code_tokens": 0.75, "tokens": 0.25},
            "max_steps": 12,
            **TRAINING,
        },
    }


def shared_data_stages(spec: str) -> tuple[str, ...]:
    """The stages that make data of a spec, if these are the small flow's; else none.

    None of the small flow's own data either, which is what the others are copied from.
    """
    stages, small = yaml.safe_load(spec)["stages"], small_stages()
    found = tuple(name for name in DATA_STAGES if name in stages)
    is_same = all(stages[name] == small[name] for name in found)
    return found if is_same and stages.keys() - found else ()


def small_flow(*, only: tuple[str, ...] | None = None, **changes: Any) -> str:
    """The experiment as YAML.

    Args:
        only: Keep just these stages.
        changes: `stage__field=value` replaces a field, `stage__field__below=value` one below it;
            a value of None removes it.
    """
    stages = small_stages()
    if only is not None:
        stages = {name: stages[name] for name in only}
    for path, value in changes.items():
        *parents, last = path.split("__")
        target: dict[str, Any] = stages
        for key in parents:
            target[key] = dict(target.get(key, {}))
            target = target[key]
        if value is None:
            target.pop(last, None)
        else:
            target[last] = value
    document = {"continuum": 1, "name": "toy", "seed": 7, "stages": stages}
    # JSON would do; block YAML reads better when a test fails.
    dumped: str = yaml.safe_dump(document, sort_keys=False)
    return dumped
