"""Lightning's loggers as mirrors of metrics.jsonl: one continuous series over restarts.

metrics.jsonl is authoritative: it has each step once, and a recovery truncates what it will compute
again. A logger only shows it, so a `Series` (one per logger) can be rebuilt from the rows at any
time. A `Mirror` feeds it from a thread of its own: a slow or unreachable server, or a full disk,
does not slow training down.

Everything is written to `runs/<run>/loggers/` unless the environment says otherwise (`WANDB_MODE`,
`MLFLOW_TRACKING_URI`).
"""
