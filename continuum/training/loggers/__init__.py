"""Lightning's loggers as mirrors of metrics.jsonl, one continuous series over restarts.

metrics.jsonl is the truth: it has each step once, and a recovery cuts off what it will compute
again. A logger only shows what is there, so a `Series` (one file a logger) can be made anew from
the rows at any time. A `Mirror` keeps it so in a thread of its own: a server that is slow or gone,
or a full disk, costs the training nothing.

Everything lies in `runs/<run>/loggers/` unless the environment says otherwise (`WANDB_MODE`,
`MLFLOW_TRACKING_URI`).
"""
