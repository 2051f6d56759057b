"""Runs in a virtual environment with OmegaConf: what structured configs say of each case.

Reads a JSON list of `{"files": {name: text}, "main": name, "overrides": [text]}` and writes one of
`{"text": message or "", "file": name or null, "line": number or null}`. The dataclasses have the
fields of continuum's spec, as far as OmegaConf can say them: choices are enumerations, what may
have several forms is `Any`, and an optimizer may have further keys. What OmegaConf leaves to its
user is done here as a user would: files are merged in the order of `extends`, a stage's class is
looked up by its `kind`, and values that are still missing are asked for.
"""

import json
import sys
import tempfile
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, OmegaConf  # type: ignore[import-not-found]  # in no extra

Precision = Enum("Precision", {
    "auto": "auto", "32-true": "32-true", "bf16-mixed": "bf16-mixed",
    "bf16-true": "bf16-true", "16-mixed": "16-mixed",
})  # fmt: skip
Accelerator = Enum("Accelerator", {"auto": "auto", "cpu": "cpu", "cuda": "cuda"})
Strategy = Enum("Strategy", {"auto": "auto", "ddp": "ddp", "fsdp": "fsdp"})
Compile = Enum("Compile", {"auto": "auto", "on": "on", "off": "off"})
Saved = Enum("Saved", {"full": "full", "sharded": "sharded"})
Shape = Enum("Shape", {
    "cosine": "cosine", "linear": "linear", "constant": "constant",
    "wsd": "wsd", "inverse_sqrt": "inverse_sqrt",
})  # fmt: skip
Nonfinite = Enum("Nonfinite", {"stop": "stop", "skip": "skip"})
Files = Enum("Files", {"tokenizer": "tokenizer", "weights": "weights", "all": "all"})
As = Enum("As", {
    "tokenizer": "tokenizer", "weights": "weights",
    "dataset": "dataset", "corpus": "corpus",
})  # fmt: skip
Form = Enum("Form", {
    "txt": "txt", "md": "md",
    "py": "py", "jsonl": "jsonl",
})  # fmt: skip
Document = Enum("Document", {
    "bos": "bos", "eos": "eos",
    "both": "both", "none": "none",
})  # fmt: skip
Layout = Enum("Layout", {"litgpt": "litgpt"})
Logger = Enum("Logger", {
    "csv": "csv", "tensorboard": "tensorboard",
    "wandb": "wandb", "mlflow": "mlflow",
})  # fmt: skip
Excluded = Enum("Excluded", {"norms": "norms", "biases": "biases", "embeddings": "embeddings"})


@dataclass
class Optimizer(dict[str, Any]):
    name: str = "AdamW"
    lr: float = MISSING
    no_weight_decay: list[Excluded] | None = None


@dataclass
class Schedule:
    kind: Shape = Shape["cosine"]
    warmup: Any = None
    min_lr: Any = None
    decay: Any = None


@dataclass
class ResumeSchedule:
    kind: Shape = MISSING
    to: float | None = None
    peak: float | None = None
    warmup: Any = None


@dataclass
class Evaluate:
    every: Any = None
    sequences: Any = 80
    tokens: Any = None
    final: bool = True


@dataclass
class CheckpointPolicy:
    every: Any = 1000
    minutes: float | None = None
    keep_last: int = 2
    keep_every: Any = None
    keep_best: str | None = None
    format: Saved = Saved["full"]


@dataclass
class Runtime:
    accelerator: Accelerator = Accelerator["auto"]
    devices: int = 1
    num_nodes: int = 1
    strategy: Strategy = Strategy["auto"]
    micro_batch_size: int = 4
    compile: Compile = Compile["auto"]
    deterministic: bool = False
    log_every: int = 1
    checkpoint: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    loggers: list[Logger] = field(default_factory=list)


@dataclass
class Source:
    url: str | None = None
    path: str | None = None
    python: str | None = None
    sha256: str | None = None
    format: Form | None = None
    encoding: str = "utf-8"
    text_field: str | None = None


@dataclass
class Stage:
    kind: str = MISSING
    description: str | None = None


@dataclass
class Fetch(Stage):
    sources: list[Source] = MISSING


@dataclass
class Download(Stage):
    repo: str = MISSING
    revision: str = "main"
    files: Files = MISSING
    model: str | None = None


@dataclass
class Import(Stage):
    path: str = MISSING
    tokenizer: str | None = None
    format: Form | None = None
    encoding: str = "utf-8"
    text_field: str | None = None
    link: bool = False


@dataclass
class TrainTokenizer(Stage):
    corpus: str = MISSING
    vocab_size: int = MISSING
    min_frequency: int = 2
    bos_token: str = "<|endoftext|>"
    eos_token: str = "<|endoftext|>"
    special_tokens: list[str] = field(default_factory=list)


@dataclass
class Tokenize(Stage):
    corpus: str = MISSING
    tokenizer: str = MISSING
    document: Document = Document["bos"]
    validation: Any = MISSING


@dataclass
class Training(Stage):
    data: Any = MISSING
    max_tokens: int | str | None = None
    max_steps: int | str | None = None
    epochs: float | None = None
    sequence_length: int | str = MISSING
    global_batch_size: int | str = MISSING
    precision: Precision = Precision["auto"]
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    max_norm: float | None = 1.0
    on_nonfinite: Nonfinite = Nonfinite["stop"]
    evaluate: Evaluate | None = None
    runtime: Runtime = field(default_factory=Runtime)


@dataclass
class Pretrain(Training):
    model: Any = MISSING


def with_field(cls: type, name: str, of: Any) -> Any:
    """The class with a required field of a name that Python keeps for itself."""
    new = type(cls.__name__, (cls,), {"__annotations__": {name: of}, name: MISSING})
    return dataclass(init=False, repr=False, eq=False)(new)


@dataclass
class Extension(Stage):
    max_tokens: int | str | None = None
    max_steps: int | str | None = None
    epochs: float | None = None
    schedule: ResumeSchedule = MISSING
    evaluate: Evaluate | None = None
    runtime: Runtime | None = None


@dataclass
class Conversion(Stage):
    format: Layout = Layout["litgpt"]


KINDS: dict[str, Any] = {
    "fetch": Fetch,
    "download": Download,
    "import": with_field(Import, "as", As),
    "train_tokenizer": TrainTokenizer,
    "tokenize": Tokenize,
    "pretrain": Pretrain,
    "retrain": with_field(Training, "from", str),
    "resume": with_field(Extension, "from", str),
    "convert": with_field(Conversion, "from", str),
}


@dataclass
class Experiment:
    continuum: int = MISSING
    name: str = MISSING
    description: str | None = None
    seed: int = 42
    vars: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = MISSING


def load(folder: Path, name: str) -> Any:
    """A file merged over those that it extends."""
    whole = OmegaConf.load(folder / name)
    if not OmegaConf.is_dict(whole):
        raise ValueError(f"{name} is no mapping")
    extends = whole.pop("extends", [])
    bases = [extends] if isinstance(extends, str) else list(extends)
    around = (folder / name).parent
    loaded = [load(folder, str((around / base).resolve().relative_to(folder))) for base in bases]
    return OmegaConf.merge(*loaded, whole)


def check(folder: Path, main: str, overrides: list[str]) -> None:
    """Raise what OmegaConf raises about the spec in a folder."""
    whole = load(folder, main)
    whole = OmegaConf.merge(whole, OmegaConf.from_dotlist(overrides))
    schema = OmegaConf.structured(Experiment)
    plain = OmegaConf.to_container(whole, resolve=False)
    stages = plain.get("stages")
    if isinstance(stages, dict):
        kinds = {}
        for name, stage in stages.items():
            kind = stage.get("kind") if isinstance(stage, dict) else None
            if kind not in KINDS:
                options = ", ".join(KINDS)
                raise ValueError(f"stages.{name}.kind: {kind!r}; available options: {options}")
            kinds[name] = OmegaConf.structured(KINDS[kind])
        schema = OmegaConf.merge(schema, {"stages": kinds})
    checked = OmegaConf.merge(schema, whole)
    # Interpolations look names up from the root.
    OmegaConf.set_struct(checked, False)
    for name in list(checked.get("vars") or {}):
        OmegaConf.update(checked, name, checked.vars[name])
    missing = OmegaConf.missing_keys(checked)
    if missing:
        raise ValueError(f"missing values: {', '.join(sorted(missing))}")
    OmegaConf.resolve(checked)


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """What is said of one case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for file, text in case["files"].items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        try:
            check(folder, case["main"], case["overrides"])
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = Path(mark.name) if mark else None
            file = str(at.relative_to(folder)) if at and at.is_absolute() else case["main"]
            return {"text": str(error), "file": file, "line": mark.line + 1 if mark else None}
        except Exception as error:
            return {"text": f"{type(error).__name__}: {error}", "file": None, "line": None}
    return {"text": "", "file": None, "line": None}


def main() -> None:
    json.dump([outcome(case) for case in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
