"""Names that are right elsewhere: other places, other spellings, other programs."""

from random import Random

from tests.spec.mutations.bases import Base
from tests.spec.mutations.document import Entry, Span
from tests.spec.mutations.mutant import Mutant, in_span, mistake, mutate, override, pick
from tests.spec.mutations.typos import is_choice, is_own_key, is_reference, known_keys, slip

FOREIGN = {
    "max_steps": ("max_iters", "num_steps", "max_train_steps", "total_steps", "train_steps"),
    "epochs": ("num_epochs", "num_train_epochs", "max_epochs"),
    "sequence_length": ("max_seq_length", "seq_len", "cutoff_len", "sequence_len", "block_size"),
    "global_batch_size": ("batch_size", "train_batch_size", "total_batch_size"),
    "max_norm": ("max_grad_norm", "grad_clip", "gradient_clip_val"),
    "model": ("model_name_or_path", "base_model", "model_name"),
    "data": ("dataset", "datasets", "train_data"),
    "optimizer.lr": ("learning_rate", "max_lr"),
    "schedule.warmup": ("warmup_steps", "warmup_ratio", "lr_warmup_steps", "num_warmup_steps"),
    "schedule.min_lr": ("min_learning_rate", "eta_min"),
    "schedule": ("lr_scheduler",),
    "schedule.kind": ("lr_scheduler_type",),
    "runtime.checkpoint.every": ("save_steps", "save_interval"),
    "runtime.checkpoint.keep_last": ("save_total_limit", "keep_latest_k"),
    "runtime.micro_batch_size": (
        "per_device_train_batch_size",
        "micro_train_batch_size",
        "local_batch_size",
    ),
    "runtime.log_every": ("logging_steps", "log_interval", "log_every_n_steps"),
    "runtime.devices": ("num_gpus", "num_devices", "n_gpus"),
    "runtime.compile": ("torch_compile",),
    "runtime.loggers": ("report_to", "logger_name"),
    "evaluate.every": ("eval_steps", "eval_interval"),
    "evaluate.sequences": ("eval_iters",),
    "precision": ("dtype", "torch_dtype", "mixed_precision", "bf16"),
    "runtime.strategy": ("fsdp", "deepspeed", "data_parallel_shard_degree"),
    "runtime.activation_checkpointing": ("gradient_checkpointing",),
    "runtime.attention": ("attn_implementation", "flash_attention"),
}
"""Our fields in LitGPT, Axolotl, LLaMA-Factory, HF's Trainer, torchtitan and nanoGPT."""
FOREIGN_ARGUMENTS = {
    "lr": ("learning_rate",),
    "weight_decay": ("wd",),
    "betas": ("adam_betas",),
}
TRAINING = ("pretrain", "retrain", "scratch", "further")
"""Stages of the specs that have all the fields of training."""
PLACES = {
    "runtime": ("micro_batch_size", "log_every", "devices", "accelerator", "compile"),
    "optimizer": ("lr",),
    "evaluate": ("sequences",),
    "schedule": ("warmup", "min_lr"),
}


@mistake("name of another program, new")
def _foreign(base: Base, random: Random) -> Mutant | None:
    """A line added to a stage, in the words of another program."""
    found = pick(base, random, _is_training_kind)
    if found is None:
        return None
    file, document, entry = found
    stage = entry.path[:2]
    present = {e.name for e in document.below(stage)}
    right = random.choice([name for name in FOREIGN if name not in present])
    line = document.line_of(entry)
    indent = document.indent_of(line)
    if entry.in_flow:
        return None
    key = random.choice(FOREIGN[right])
    text = document.with_line_after(line, f"{' ' * indent}{key}: 5")
    meant = ("model", "from") if right == "model" else right
    return mutate(base, text, (line + 1, indent + 1), file=file, word=meant)


def _is_training_kind(entry: Entry) -> bool:
    return len(entry.path) == 3 and entry.name == "kind" and entry.word in ("pretrain", "retrain")


@mistake("name of another program, in place of ours")
def _renamed(base: Base, random: Random) -> Mutant | None:
    def wanted(entry: Entry) -> bool:
        is_argument = entry.path[-2:-1] == ("optimizer",) and entry.name in FOREIGN_ARGUMENTS
        return entry.key is not None and (_is_foreign(entry) or is_argument)

    found = pick(base, random, wanted)
    if found is None:
        return None
    file, _, entry = found
    assert entry.key is not None
    names = FOREIGN if _is_foreign(entry) else FOREIGN_ARGUMENTS
    new = random.choice([n for n in names[entry.name] if n not in known_keys()])
    return in_span(base, file, entry.key, new, word=entry.name)


def _is_foreign(entry: Entry) -> bool:
    return len(entry.path) == 3 and entry.name in FOREIGN and entry.path[0] == "stages"


@mistake("dashes in a key")
def _dashes(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_own_key(e) and "_" in e.name)
    if found is None:
        return None
    file, _, entry = found
    assert entry.key is not None
    return in_span(base, file, entry.key, entry.name.replace("_", "-"), word=entry.name)


@mistake("capitals in a key")
def _capitals(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, is_own_key)
    if found is None:
        return None
    file, _, entry = found
    assert entry.key is not None
    name = entry.name
    camel = "".join(p.capitalize() if i else p for i, p in enumerate(name.split("_")))
    spellings = [s for s in (name.capitalize(), name.upper(), camel) if s != name]
    return in_span(base, file, entry.key, random.choice(spellings), word=name)


@mistake("capitals in a choice")
def _capital_choice(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_choice(e) and e.word.isalpha())
    if found is None:
        return None
    file, document, entry = found
    new = random.choice((entry.word.capitalize(), entry.word.upper()))
    made = in_span(base, file, entry.word_span, new, word=entry.word)
    return Mutant(made.files, ((file, *document.position(entry.value.start)),), made.word)


@mistake("precision by another name")
def _precision(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.ends("precision"))
    if found is None:
        return None
    file, _, entry = found
    new, right = random.choice(
        [("bf16", "bf16-mixed"), ("fp16", "16-mixed"), ("bfloat16", "bf16-mixed"),
         ("fp32", "32-true"), ("BF16-mixed", "bf16-mixed"), ("bf16_mixed", "bf16-mixed"),
         ("float32", "32-true"), ("32", "32-true"), ("16", "16-mixed"), ("mixed", "bf16-mixed")]
    )  # fmt: skip
    return in_span(base, file, entry.value, new, word=right)


@mistake("key of an inner mapping in the stage")
def _misplaced(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, _is_training_kind)
    if found is None or found[2].in_flow:
        return None
    file, document, entry = found
    owner = random.choice(list(PLACES))
    key = random.choice(PLACES[owner])
    line = document.line_of(entry)
    indent = document.indent_of(line)
    text = document.with_line_after(line, f"{' ' * indent}{key}: 4")
    return mutate(base, text, (line + 1, indent + 1), file=file, word=f"{owner}.{key}")


@mistake("key of the stage in an inner mapping")
def _misplaced_inwards(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, _is_inner_mapping)
    if found is None:
        return None
    file, document, entry = found
    key, value = random.choice(
        [("precision", "auto"), ("max_steps", "100"), ("sequence_length", "64"), ("max_norm", "1")]
    )
    first = document.below(entry.path)[0]
    assert first.key is not None
    gap = ", " if first.in_flow else "\n" + " " * (document.position(first.key.start)[1] - 1)
    at = Span(first.key.start, first.key.start)
    right = ".".join(map(str, (*entry.path[:2], key)))
    return in_span(base, file, at, f"{key}: {value}{gap}", word=(right, key))


def _is_inner_mapping(entry: Entry) -> bool:
    names = ("runtime", "schedule", "evaluate")
    is_there = len(entry.path) == 3 and entry.name in names and entry.form == "mapping"
    return is_there and entry.path[1] in TRAINING


@mistake("key of a stage at the top")
def _misplaced_outwards(base: Base, random: Random) -> Mutant | None:
    key = random.choice(("max_tokens", "model", "sequence_length", "precision", "runtime"))
    line = base.main.line_of(base.main.at(("name",)))
    return mutate(base, base.main.with_line_after(line, f"{key}: 5"), (line + 1, 1))


@mistake("override of a misspelt key")
def _override_key(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_own_key(e) and len(e.path) > 2 and e.form == "scalar")
    if found is None or not all(isinstance(part, str) for part in found[2].path):
        return None
    entry = found[2]
    new = slip(entry.name, random, known_keys())
    path = ".".join(map(str, (*entry.path[:-1], new)))
    return override(base, f"{path}={entry.text}", word=entry.name)


@mistake("override of a misspelt stage")
def _override_stage(base: Base, random: Random) -> Mutant | None:
    name = random.choice(list(base.kinds))
    return override(base, f"stages.{slip(name, random, base.kinds)}.description=x", word=name)


@mistake("override that is none")
def _override_form(base: Base, random: Random) -> Mutant | None:
    texts = ("stages.pretrain.max_steps", "=5", "seed", "stages..kind=fetch", "seed:=4")
    return override(base, random.choice(texts))


@mistake("override of the wrong type")
def _override_type(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_reference(e))
    assert found is not None
    path = ".".join(map(str, found[2].path))
    texts = ("seed=lucky", "continuum=two", "seed=-1", f"{path}=[1, 2]", f"{path}=4", "seed=1e999")
    return override(base, random.choice(texts))
