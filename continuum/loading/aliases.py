"""Aliases: our fields in LitGPT, HF's Trainer, Axolotl, LLaMA-Factory, torchtitan and nanoGPT.

People often write a spec from memory of one of them; the closest spelling would then mislead. The
names are from LitGPT's `TrainArgs`, `EvalArgs` and `setup`, `TrainingArguments` and `run_clm.py`,
Axolotl's `config.qmd`, LLaMA-Factory's `hparams`, torchtitan's `job_config.py` and nanoGPT's
`train.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

_SAME: Mapping[str, Sequence[str]] = {
    "max_steps": (
        "max_iters", "num_steps", "n_steps", "train_steps", "total_steps", "training_steps",
        "max_train_steps", "num_train_steps", "num_training_steps", "train_iters", "iterations",
        "steps", "n_iters", "num_iterations", "num_training_iters",
    ),
    "max_tokens": (
        "num_tokens", "total_tokens", "train_tokens", "token_budget", "tokens_to_train",
        "max_train_tokens", "num_train_tokens",
    ),
    "epochs": ("num_epochs", "n_epochs", "num_train_epochs", "max_epochs", "epoch"),
    "sequence_length": (
        "seq_len", "seq_length", "sequence_len", "max_seq_len", "max_seq_length", "max_length",
        "max_sequence_length", "block_size", "cutoff_len", "context_length", "context_size",
        "model_max_length", "train_seq_len", "context_len", "ctx_len", "max_input_length",
        "max_source_length",
    ),
    "global_batch_size": (
        "batch_size", "train_batch_size", "total_batch_size", "effective_batch_size",
        "train_global_batch_size",
    ),
    "micro_batch_size": (
        "per_device_train_batch_size", "per_device_batch_size", "device_batch_size",
        "micro_train_batch_size", "micro_batch", "mbs", "train_micro_batch_size_per_gpu",
        "local_batch_size", "batch_size_per_gpu", "batch_size_per_device",
        "device_train_microbatch_size", "per_gpu_train_batch_size",
    ),
    "model": ("model_name_or_path", "model_name", "model_id", "base_model"),
    "from": ("parent",),
    "data": ("dataset", "datasets", "train_data", "train_dataset", "tokens"),
    "lr": (
        "learning_rate", "max_lr", "peak_lr", "base_lr", "max_learning_rate", "learningrate",
        "adam_lr", "initial_lr", "init_lr",
    ),
    "min_lr": ("min_learning_rate", "eta_min", "lr_min", "final_lr"),
    "weight_decay": ("wd", "l2"),
    "betas": ("adam_betas",),
    "eps": ("epsilon", "adam_epsilon", "adam_eps", "optimizer_eps"),
    "optimizer": ("optimiser", "optimizer_config"),
    "warmup": (
        "warmup_steps", "warmup_iters", "num_warmup_steps", "lr_warmup_steps",
        "lr_warmup_iters", "lr_warmup",
    ),
    "schedule": ("lr_scheduler", "lr_schedule", "scheduler", "learning_rate_schedule"),
    "max_norm": (
        "max_grad_norm", "grad_clip", "gradient_clip_val", "gradient_clipping", "clip_grad",
        "clip_grad_norm", "gradient_clip", "grad_norm_clip", "gradient_clip_norm", "clip_norm",
        "max_gradient_norm",
    ),
    "precision": ("dtype", "torch_dtype", "mixed_precision"),
    "keep_last": (
        "save_total_limit", "keep_last_n", "max_checkpoints", "keep_latest_k", "max_to_keep",
        "num_checkpoints_to_keep",
    ),
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
    "revision": ("revision_of_model", "model_revision"),
    "tied": (
        "tie_embeddings", "tie_word_embeddings", "tie_weights", "weight_tying", "share_embeddings",
    ),
    "at_start": ("initial_validation", "eval_on_start", "eval_at_start", "eval_at_begin"),
    "final": ("final_validation", "eval_at_end"),
    "deterministic": ("full_determinism", "use_deterministic_algorithms"),
    "collective_timeout": (
        "ddp_timeout", "train_timeout_seconds", "init_timeout_seconds", "nccl_timeout",
        "dist_timeout",
    ),
    "text_field": ("text_column", "text_column_name", "field_text", "text_key"),
    "n_layer": ("num_hidden_layers", "n_layers", "num_layers", "layers"),
    "n_embd": ("hidden_size", "d_model", "n_embed", "dim", "embedding_size"),
    "n_head": ("num_attention_heads", "n_heads", "num_heads"),
    "n_query_groups": ("num_key_value_heads", "n_kv_heads", "num_kv_heads", "num_query_groups"),
    "block_size": ("max_position_embeddings", "n_positions", "n_ctx"),
    "head_size": ("head_dim",),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "ffn_dim", "hidden_dim"),
    "norm_eps": ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"),
    "rope_base": ("rope_theta",),
    "rotary_percentage": ("partial_rotary_factor", "rotary_pct"),
    "min_frequency": ("min_freq",),
    "special_tokens": ("additional_special_tokens",),
    "decay": ("decay_steps", "lr_decay_steps"),
    "seeds.data": ("data_seed",),
}  # fmt: skip
"""Names for the same thing: the value can stay."""
_RELATED: Mapping[str, Sequence[str]] = {
    "global_batch_size": (
        "gradient_accumulation_steps", "gradient_accumulation_iters", "grad_accum_steps",
        "grad_accumulation_steps", "accumulate_grad_batches", "gradient_accumulation",
    ),
    "model": (
        "model_type", "model_config", "architecture", "config_name", "flavor", "model_flavor",
        "base_model_config", "overrides_of_model_config",
    ),
    "from": (
        "model_name_or_path", "model_name", "model_id", "base_model", "resume_from_checkpoint",
        "init_from", "initial_checkpoint_dir", "checkpoint_dir", "pretrained_model_name_or_path",
        "load_checkpoint", "checkpoint_path", "resume_from", "load_from", "initial_load_path",
        "restore_from", "pretrained_checkpoint", "init_checkpoint", "load_path", "ckpt_path",
        "checkpoint",
    ),
    "data": (
        "dataset_name", "data_path", "train_file", "data_dir", "dataset_path",
        "pretraining_dataset", "train_files", "data_files", "dataset_dir", "tokenized_path",
        "interleave_probs", "mix_strategy", "data_paths", "train_data_paths", "training_data",
    ),
    "min_lr": ("min_lr_ratio", "cosine_min_lr_ratio"),
    "betas": ("beta1", "beta2", "adam_beta1", "adam_beta2"),
    "optimizer": ("optim", "optim_args", "adafactor"),
    "warmup": ("warmup_ratio", "warmup_fraction", "lr_warmup_fraction", "warmup_tokens"),
    "schedule.kind": (
        "lr_scheduler_type", "lr_decay_style", "scheduler_type", "decay_type", "lr_scheduler_name",
        "lr_schedule_type",
    ),
    "precision": (
        "bf16", "fp16", "amp", "tf32", "float16", "bfloat16", "mixed_precision_param",
        "bf16_full_eval", "param_dtype", "amp_dtype",
    ),
    "evaluate.every": (
        "interval", "eval_steps", "eval_interval", "eval_every", "eval_freq", "evaluation_interval",
        "val_check_interval", "evals_per_epoch", "evaluation_steps", "validation_interval",
        "val_interval", "eval_iters_interval", "val_every",
    ),
    "evaluate.sequences": (
        "max_iters", "eval_iters", "eval_batches", "limit_val_batches", "max_eval_batches",
    ),
    "evaluate": (
        "eval", "evaluation", "evaluation_strategy", "eval_strategy", "do_eval", "validate_every",
    ),
    "checkpoint.every": (
        "interval", "save_steps", "save_interval", "save_every", "save_freq", "checkpoint_interval",
        "ckpt_interval", "checkpointing_steps", "saves_per_epoch", "every_n_train_steps",
        "save_strategy", "save_every_n_steps", "checkpoint_every", "checkpoint_steps",
        "checkpoint_freq",
    ),
    "keep_last": ("save_top_k",),
    "keep_best": (
        "load_best_model_at_end", "metric_for_best_model", "monitor", "early_stopping_patience",
        "early_stopping", "greater_is_better", "save_best",
    ),
    "strategy": (
        "distributed", "ddp", "fsdp", "deepspeed", "parallelism", "fsdp_config", "fsdp_version",
        "data_parallel_shard_degree", "data_parallel_replicate_degree",
        "fsdp_transformer_layer_cls_to_wrap", "zero_stage", "dp_shard", "dp_replicate",
        "sharding_strategy",
    ),
    "corpus": ("text", "texts", "input_files", "train_text", "train_data_path", "train_text_path"),
    "tokenizer": (
        "tokenizer_dir", "tokenizer_name", "tokenizer_path", "tokenizer_name_or_path",
        "tokenizer_config", "tokenizer_type", "tokenizer_id",
    ),
    "validation": (
        "val_split", "val_size", "val_set_size", "val_split_fraction", "validation_split",
        "val_data", "eval_dataset", "val_data_path", "test_size", "validation_file",
        "validation_split_percentage", "val_file", "eval_file", "eval_data_path", "eval_size",
        "test_datasets",
    ),
    "micro_batch_size": ("auto_find_batch_size", "per_device_eval_batch_size", "eval_batch_size"),
    "schedule": ("lr_scheduler_kwargs", "decay_lr", "cosine_constant_lr_ratio"),
    "decay": ("decay_ratio", "lr_decay_iters", "lr_decay_ratio"),
    "optimizer.name": ("optimizer_name", "optimizer_type", "optim_name"),
    "checkpoint": ("checkpointing", "enable_checkpoint", "checkpoint_config"),
    "log_every": ("logging_strategy",),
    "loggers": (
        "wandb", "wandb_project", "wandb_entity", "wandb_name", "wandb_run_name", "use_wandb",
        "enable_wandb", "use_tensorboard", "enable_tensorboard", "tensorboard",
        "mlflow_tracking_uri", "mlflow_experiment_name", "use_mlflow",
    ),
    "activation_checkpointing": (
        "gradient_checkpointing", "activation_checkpoint", "use_gradient_checkpointing",
        "gradient_checkpointing_kwargs", "selective_ac_option", "recompute",
    ),
    "attention": (
        "flash_attention", "flash_attn", "use_flash_attention", "use_flash_attention_2",
        "attn_implementation", "sdp_attention", "xformers_attention",
    ),
    "compile": ("torch_compile_backend", "compile_model"),
    "accelerator": ("no_cuda", "use_cpu", "use_cuda"),
    "sources": ("train_data_path", "data_path", "train_file", "train_files"),
    "document": ("add_bos", "add_eos", "add_special_tokens", "bos", "eos"),
    "newlines": ("line_endings",),
}  # fmt: skip
"""Names for something that this field (a path, if dotted) says in another way."""

_NOTES: Mapping[str, Sequence[str]] = {
    "texts are a stage of `kind: fetch`, and their tokens one of `kind: tokenize`, which `data` "
    "names": (
        "textfiles", "text_files", "data_module", "openwebtext",
        "tinystories", "tinyllama", "dataset_type", "litgpt.data.textfiles",
    ),
    "an optimizer is written `{name: AdamW, lr: 3e-4}`; texts are a stage of `kind: fetch`": (
        "class_path", "init_args",
    ),
    "a litdata folder is a stage of `kind: import` with `as: dataset`, which `data` names": (
        "litdata", "streaming_dataset", "litgpt.data.litdata",
    ),
    "everything is written below `runs/` in the experiment's folder": (
        "out_dir", "output_dir", "dump_folder", "overwrite_output_dir", "save_dir", "save_folder",
        "logging_dir", "default_root_dir", "dataset_prepared_path", "output_path", "work_dir",
        "results_dir", "save_path",
    ),
    "`continuum run` continues an interrupted stage by itself": (
        "resume", "auto_resume", "auto_resume_from_checkpoints", "resume_training",
    ),
    "all weights are trained: there are no adapters and no quantization": (
        "adapter", "lora", "lora_r", "lora_rank", "lora_alpha", "lora_dropout", "lora_target",
        "lora_target_modules", "lora_target_linear", "peft", "qlora", "gptq", "quantize",
        "quantization", "load_in_8bit", "load_in_4bit", "finetuning_type", "lora_model_dir",
    ),
    "documents are joined and cut into blocks of `sequence_length`, without padding": (
        "packing", "sample_packing", "neat_packing", "pad_to_sequence_len", "padding",
        "group_by_length", "pad_to_max_length", "eval_sample_packing",
    ),
    "training is on plain text: there are no chat templates, prompts or masked losses": (
        "template", "chat_template", "prompt_style", "mask_prompt", "train_on_inputs",
        "train_on_prompt", "rl", "dpo", "sft", "roles_to_train", "system_prompt",
    ),
    "`runtime.strategy` is ddp or fsdp: models are not split by tensor, layer or context": (
        "tensor_parallel_degree", "pipeline_parallel_degree", "context_parallel_degree",
        "expert_parallel_degree", "tensor_parallel", "pipeline_parallel", "tp_size", "pp_size",
        "sequence_parallel",
    ),
    "a limit of time is an option of the command: `continuum run --max-time 2h`": (
        "max_time", "max_train_time", "time_limit", "max_duration",
    ),
    "weights alone are the output of a stage of `kind: convert`": (
        "save_only_model", "last_save_model_only", "save_weights_only", "export_dtype",
        "save_safetensors", "last_save_in_hf",
    ),
    "the fields of a training are written in its stage, below `stages`": (
        "train", "training", "job", "train_args", "training_args", "training_arguments",
    ),
    "the `kind` of a stage says what it does": ("do_train", "do_predict"),
    "tokens are read without worker processes": (
        "num_workers", "dataloader_num_workers", "dataloader_pin_memory", "pin_memory",
        "num_data_workers",
    ),
    "code from a repository is never executed": ("trust_remote_code",),
}  # fmt: skip
"""What to do instead, for names that are not about one of our fields."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "gpu": ("cuda",),
    "true": ("on", "full"),
    "yes": ("on", "full"),
    "false": ("off",),
    "no": ("off",),
    "none": ("off",),
    "bf16": ("bf16-mixed",),
    "fp16": ("16-mixed",),
    "bfloat16": ("bf16-mixed",),
    "mixed": ("bf16-mixed",),
    "float16": ("16-mixed",),
    "half": ("16-mixed",),
    "fp32": ("32-true",),
    "float32": ("32-true",),
    "full": ("32-true",),
    "32": ("32-true",),
    "16": ("16-mixed",),
    "constant_with_warmup": ("constant",),
    "cosine_with_warmup": ("cosine",),
    "cosine_with_min_lr": ("cosine",),
    "linear_with_warmup": ("linear",),
    "linear_decay": ("linear",),
    "warmup_stable_decay": ("wsd",),
    "full_shard": ("fsdp",),
    "hybrid_shard": ("fsdp",),
    "deepspeed": ("fsdp",),
    "deepspeed_stage_3": ("fsdp",),
    "zero3": ("fsdp",),
    "ddp_spawn": ("ddp",),
    "flash_attention": ("flash",),
    "flash_attention_2": ("flash",),
    "sdpa": ("auto",),
    "eager": ("math",),
    "adamw_torch": ("AdamW",),
    "adamw_torch_fused": ("AdamW",),
    "adamw_hf": ("AdamW",),
    "adamw_8bit": ("AdamW",),
    "adamw_bnb_8bit": ("AdamW",),
    "paged_adamw_8bit": ("AdamW",),
    "paged_adamw_32bit": ("AdamW",),
    "torch.optim.adamw": ("AdamW",),
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
NOTES = {name: note for note, names in _NOTES.items() for name in names}


def canonical_names(key: str) -> Sequence[str]:
    """Return our names for the same thing; `learning-rate` is `learning_rate`."""
    return SAME.get(plain(key), ())


def our_names(key: str) -> Sequence[str]:
    """Return our names for the same or a related thing."""
    return (*canonical_names(key), *RELATED.get(plain(key), ()))


def synonym_of(value: Any, choices: Collection[str]) -> str | None:
    """Return the choice that is another name of a value; None if there is none."""
    return next((it for it in SYNONYMS.get(str(value).lower(), ()) if it in choices), None)


def note_on(key: str) -> str | None:
    """Return what to do instead of using a name of another program that is not about a field."""
    return NOTES.get(plain(key))


def plain(key: str) -> str:
    """Return a word without case, with one sign between its parts."""
    return key.casefold().replace("-", "_")
