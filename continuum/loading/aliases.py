"""Aliases: names of our fields in LitGPT, HF's Trainer, Axolotl, LLaMA-Factory and nanoGPT.

People often write a spec from memory of one of them; the closest spelling would then mislead.
"""

from collections.abc import Mapping, Sequence

_SAME: Mapping[str, Sequence[str]] = {
    "max_steps": (
        "max_iters", "num_steps", "n_steps", "train_steps", "total_steps", "training_steps",
        "max_train_steps", "num_train_steps", "num_training_steps", "train_iters", "iterations",
        "steps",
    ),
    "max_tokens": ("num_tokens", "total_tokens", "train_tokens", "token_budget"),
    "epochs": ("num_epochs", "n_epochs", "num_train_epochs", "max_epochs", "epoch"),
    "sequence_length": (
        "seq_len", "seq_length", "sequence_len", "max_seq_len", "max_seq_length", "max_length",
        "max_sequence_length", "block_size", "cutoff_len", "context_length", "context_size",
        "model_max_length", "train_seq_len",
    ),
    "global_batch_size": (
        "batch_size", "train_batch_size", "total_batch_size", "effective_batch_size",
    ),
    "micro_batch_size": (
        "per_device_train_batch_size", "per_device_batch_size", "device_batch_size",
        "micro_train_batch_size", "micro_batch", "mbs", "train_micro_batch_size_per_gpu",
    ),
    "model": ("model_name_or_path", "model_name", "model_id", "base_model"),
    "from": ("parent",),
    "data": ("dataset", "datasets", "train_data", "train_dataset", "tokens"),
    "lr": ("learning_rate", "max_lr", "peak_lr", "base_lr", "max_learning_rate", "learningrate"),
    "min_lr": ("min_learning_rate", "eta_min", "lr_min", "final_lr"),
    "weight_decay": ("wd", "l2"),
    "betas": ("adam_betas",),
    "eps": ("epsilon", "adam_epsilon", "adam_eps"),
    "optimizer": ("optimiser", "optimizer_config"),
    "warmup": (
        "warmup_steps", "warmup_iters", "num_warmup_steps", "lr_warmup_steps",
        "lr_warmup_iters", "lr_warmup",
    ),
    "schedule": ("lr_scheduler", "lr_schedule", "scheduler", "learning_rate_schedule"),
    "max_norm": (
        "max_grad_norm", "grad_clip", "gradient_clip_val", "gradient_clipping", "clip_grad",
        "clip_grad_norm", "gradient_clip", "grad_norm_clip",
    ),
    "precision": ("dtype", "torch_dtype", "mixed_precision"),
    "keep_last": ("save_total_limit", "keep_last_n", "max_checkpoints"),
    "log_every": (
        "logging_steps", "log_interval", "log_every_n_steps", "log_steps", "logging_interval",
        "log_freq",
    ),
    "devices": ("num_gpus", "n_gpus", "n_gpu", "gpus", "num_devices", "nproc_per_node", "gpu"),
    "num_nodes": ("nnodes", "nodes", "n_nodes"),
    "accelerator": ("device", "device_type"),
    "compile": ("torch_compile", "use_compile"),
    "loggers": ("report_to", "logger", "logger_name", "log_with", "with_tracking"),
    "vocab_size": ("vocabulary_size", "num_tokens_in_vocabulary", "n_vocab"),
    "repo": ("repo_id", "hf_repo", "hub_id", "hf_id", "hub_repo"),
    "sources": ("urls", "paths", "inputs"),
    "url": ("uri", "href", "link", "address"),
    "sha256": ("hash", "checksum", "digest", "sha", "sha256sum"),
    "seed": ("random_seed", "random_state", "rng_seed"),
    "continuum": ("version", "format_version", "schema_version"),
    "name": ("experiment_name", "run_name", "exp_name", "title"),
    "extends": ("defaults", "include", "includes", "inherits", "base", "_base_", "imports"),
    "vars": ("variables", "parameters", "params"),
    "stages": ("pipeline", "jobs", "tasks"),
    "kind": ("type", "stage_type", "task", "_target_"),
}  # fmt: skip
"""Names for the same thing: the value can stay."""
_RELATED: Mapping[str, Sequence[str]] = {
    "global_batch_size": (
        "gradient_accumulation_steps", "gradient_accumulation_iters", "grad_accum_steps",
    ),
    "model": ("model_type", "model_config", "architecture"),
    "from": (
        "model_name_or_path", "model_name", "model_id", "base_model", "resume_from_checkpoint",
        "init_from", "initial_checkpoint_dir", "checkpoint_dir",
        "pretrained_model_name_or_path", "load_checkpoint", "checkpoint_path",
    ),
    "data": ("dataset_name", "data_path", "train_file", "data_dir", "dataset_path"),
    "min_lr": ("min_lr_ratio", "cosine_min_lr_ratio"),
    "betas": ("beta1", "beta2", "adam_beta1", "adam_beta2"),
    "optimizer": ("optim", "optim_args"),
    "warmup": ("warmup_ratio", "warmup_fraction", "lr_warmup_fraction", "warmup_tokens"),
    "schedule.kind": ("lr_scheduler_type", "lr_decay_style", "scheduler_type"),
    "precision": ("bf16", "fp16", "amp"),
    "evaluate.every": (
        "eval_steps", "eval_interval", "eval_every", "eval_freq", "evaluation_interval",
        "val_check_interval", "evals_per_epoch",
    ),
    "evaluate.sequences": ("eval_iters", "eval_batches", "limit_val_batches", "max_eval_batches"),
    "evaluate": ("eval", "evaluation", "evaluation_strategy", "eval_strategy"),
    "checkpoint.every": (
        "save_steps", "save_interval", "save_every", "save_freq", "checkpoint_interval",
        "ckpt_interval", "checkpointing_steps", "saves_per_epoch", "every_n_train_steps",
    ),
    "keep_last": ("save_top_k",),
    "keep_best": ("load_best_model_at_end", "metric_for_best_model", "monitor"),
    "strategy": ("distributed", "ddp", "fsdp", "deepspeed", "parallelism"),
    "corpus": ("text", "texts", "input_files", "train_text"),
    "tokenizer": ("tokenizer_dir", "tokenizer_name", "tokenizer_path", "tokenizer_name_or_path"),
    "validation": (
        "val_split", "val_size", "val_set_size", "val_split_fraction", "validation_split",
        "val_data", "eval_dataset", "val_data_path", "test_size",
    ),
}  # fmt: skip
"""Names for something that this field (a path, if dotted) says in another way."""

SYNONYMS = {
    "gpu": "cuda",
    "true": "on",
    "yes": "on",
    "false": "off",
    "no": "off",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "bfloat16": "bf16-mixed",
    "mixed": "bf16-mixed",
    "float16": "16-mixed",
    "half": "16-mixed",
    "fp32": "32-true",
    "float32": "32-true",
    "full": "32-true",
    "32": "32-true",
    "16": "16-mixed",
}
"""Aliases of choices, if the closest spelling would mislead."""


def _reversed(names: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for ours, others in names.items():
        for other in others:
            found[other] = (*found.get(other, ()), ours)
    return found


SAME, RELATED = _reversed(_SAME), _reversed(_RELATED)
"""Our names by their aliases."""


def canonical_names(key: str) -> Sequence[str]:
    """Return our names for the same thing; `learning-rate` is `learning_rate`."""
    return SAME.get(plain(key), ())


def our_names(key: str) -> Sequence[str]:
    """Return our names for the same or a related thing."""
    return (*canonical_names(key), *RELATED.get(plain(key), ()))


def plain(key: str) -> str:
    """Return a word without case, with one sign between its parts."""
    return key.casefold().replace("-", "_")
