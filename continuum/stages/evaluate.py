"""kind: evaluate - score models on texts: loss, perplexity, bits per byte, accuracy."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from continuum.errors import PreflightError, Problem, StageFailedError
from continuum.experiment.amounts import Count, Tokens
from continuum.experiment.evaluation import Sequences, num_sequences, one_amount
from continuum.experiment.fields import UNIT, OneOrMore, Precision, Ref, runtime_field
from continuum.experiment.forecast import Forecast
from continuum.experiment.runtime import Devices, Runtime
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.preflight.host import host_now
from continuum.preflight.placement import device_problems, half_problems, is_on_cpu
from continuum.runs.artifacts import (
    Artifact,
    Checkpoint,
    Corpus,
    Evaluation,
    Score,
    Texts,
    TokenizedDataset,
)
from continuum.runs.events import Noted
from continuum.runs.files import write_json
from continuum.text.special_tokens import DocumentPolicy

if TYPE_CHECKING:
    from continuum.text.evaluated import EvaluatedText
    from continuum.training.scoring import ScoredModel

SCORES_FILE = "scores.json"


class EvaluateModels(Stage):
    """Score each model on each text.

    A dataset must be tokenized with the model's own tokenizer. A corpus is tokenized for each
    model: models with different tokenizers can be compared on it, by bits per byte.
    """

    kind: Literal["evaluate"] = "evaluate"
    models: Annotated[tuple[Ref[Checkpoint], ...], OneOrMore] = Field(
        min_length=1, examples=["pretrain", ["pretrain@step-500", "pretrain", "retrain"]]
    )
    """Training checkpoints or weights: one, or a list."""
    on: Annotated[tuple[Ref[Texts], ...], OneOrMore] = Field(
        min_length=1, examples=["tokens", ["tokens", "new_tokens"]]
    )
    """Tokenized datasets or corpora: one, or a list."""
    split: Literal["validation", "train"] = "validation"
    """The split of a dataset; of a corpus everything is evaluated."""
    sequences: Sequences | None = "all"
    """`all` predicts every token of a text but the first, in sequences that share one token; a
    number takes so many of training's blocks, as the validation loss of a training does."""
    tokens: Tokens | None = None
    """Alternative to `sequences`: the number of tokens."""
    sequence_length: Count | None = Field(
        None, json_schema_extra={UNIT: "tokens"}, examples=[512, 2048]
    )
    """Predicted tokens per sequence; default: that of each model's training, or the longest that
    imported weights support. Longer sequences have more context, so their loss is lower."""
    document: DocumentPolicy = "bos"
    """The special tokens around each document of a corpus, as in `tokenize`."""
    precision: Precision = "auto"
    """As in training: `auto` is 32-true on a CPU and 16 bits on CUDA devices that support it."""
    runtime: Devices = runtime_field(Devices(), examples=[{"devices": 2}])
    """Where the work is done; each process holds the whole model."""

    produces: ClassVar[type[Artifact]] = Evaluation
    aliases: ClassVar[tuple[str, ...]] = ("eval", "evaluation", "validate", "perplexity", "test")
    uses_accelerator: ClassVar[bool] = True
    preload: ClassVar[str] = "continuum.training.scoring"

    @model_validator(mode="before")
    @classmethod
    def _counts_one_thing(cls, value: Any) -> Any:
        return one_amount(value) if isinstance(value, dict) else value

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        for name, refs in (("models", self.models), ("on", self.on)):
            for index, ref in enumerate(refs):
                if ref in refs[:index]:
                    yield Problem((name, index), f"{str(ref)!r} is listed twice; remove one")

    def evaluated_texts(self) -> tuple[Ref[Texts], ...]:
        return self.on if self.split == "validation" else ()

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        host = host_now()
        on_cpu = is_on_cpu(self.runtime, host)
        found = [
            *device_problems(self.runtime, host),
            *half_problems(self.precision, on_cpu=on_cpu),
            *(it for ref in self.on for it in self._text_problems(ref, inputs[ref])),
            *(it for ref in self.models for it in self._model_problems(ref, inputs)),
        ]
        return Forecast(problems=tuple(found))

    def _text_problems(self, ref: Ref[Texts], text: PlanInput) -> Iterator[Problem]:
        """A dataset without the split."""
        dataset = text.artifact
        is_missing = text.forecast.has_validation is False
        if isinstance(dataset, TokenizedDataset):
            is_missing = dataset.validation is None
        if self.split == "validation" and is_missing:
            yield Problem(
                ("on", self.on.index(ref)),
                f"dataset {str(ref)!r} has no validation split; evaluate `split: train`, or give "
                "its stage a `validation`",
            )

    def _model_problems(
        self, ref: Ref[Checkpoint], inputs: Mapping[str, PlanInput]
    ) -> Iterator[Problem]:
        """Sequences that are too long for a model, and datasets of another tokenizer."""
        model, place = inputs[ref], ("models", self.models.index(ref))
        shape = model.architecture
        if shape and self.sequence_length and self.sequence_length > shape.block_size:
            yield Problem(
                ("sequence_length",),
                f"sequence_length {self.sequence_length:,} exceeds the block_size "
                f"{shape.block_size:,} of {str(ref)!r}",
            )
        own = model.vocabulary
        for text in self.on:
            other = inputs[text].vocabulary
            if own is not None and other is not None and other.differs_from(own):
                yield Problem(
                    place,
                    f"dataset {str(text)!r} uses another tokenizer than the model {str(ref)!r}; "
                    "tokenize it with the model's own tokenizer, or evaluate on the corpus",
                    needs="folder",
                )
            elif own is None and model.artifact and isinstance(inputs[text].artifact, Corpus):
                yield Problem(
                    place,
                    f"the model {str(ref)!r} has no tokenizer for the corpus {str(text)!r}; "
                    "evaluate it on a tokenized dataset",
                    needs="folder",
                )

    def run(self, ctx: StageContext) -> Evaluation:
        from continuum.training.fabric import make_fabric
        from continuum.training.resolved import resolve_inference
        from continuum.training.scoring import ScoredModel

        runtime = Runtime(**self.runtime.model_dump())
        resolved = resolve_inference(runtime, self.precision)
        fabric = make_fabric(resolved, runtime)
        scores = []
        with tempfile.TemporaryDirectory(dir=ctx.output_dir, prefix=".tokens-") as scratch:
            texts = _Texts(self, ctx, Path(scratch))
            for ref in self.models:
                checkpoint = ctx.artifact(ref)
                length = self.sequence_length or trained_length(checkpoint)
                model = ScoredModel(fabric, checkpoint, length)
                for text_ref in self.on:
                    text = texts.open(text_ref, ref)
                    score = self._score(ctx, model, text, length, (ref, text_ref))
                    ctx.report(Noted(str(score)))
                    scores.append(score)
        fabric.barrier()  # else a process might still remove its tokens during the publication
        write_json(ctx.output_dir / SCORES_FILE, [score.model_dump() for score in scores])
        return Evaluation(path=ctx.output_dir, scores=tuple(scores), precision=resolved.precision)

    def _score(
        self,
        ctx: StageContext,
        model: "ScoredModel",
        text: "EvaluatedText",
        length: int,
        refs: tuple[Ref[Checkpoint], Ref[Texts]],
    ) -> Score:
        checkpoint, source = ctx.artifact(refs[0]), ctx.artifact(refs[1])
        windows = text.windows(length, num_sequences(self.sequences, self.tokens, length))
        if not windows:
            raise PreflightError(
                f"{refs[1]}: the text has {text.num_tokens:,} tokens, fewer than one sequence of "
                f"{length:,}; use `sequences: all`, or a smaller sequence_length"
            )
        totals = model.score(
            [window.num_targets for window in windows],
            lambda number: text.read(windows[number]),
            ctx.should_stop,
        )
        if not math.isfinite(totals.loss):
            raise StageFailedError(
                f"{refs[0]} on {refs[1]}: the loss is {totals.loss} (not finite); the weights are "
                "damaged, or the precision is too low for this model"
            )
        return Score(
            model=str(refs[0]),
            model_digest=checkpoint.digest,
            tokens_total=checkpoint.tokens_total,
            text=str(refs[1]),
            text_digest=source.digest,
            split=self.split if isinstance(source, TokenizedDataset) else "all",
            vocabulary_digest=text.vocabulary_digest,
            sequence_length=length,
            num_sequences=len(windows),
            num_tokens=totals.num_tokens,
            num_bytes=text.num_bytes(windows),
            loss=totals.loss,
            standard_error=totals.standard_error,
            accuracy=totals.accuracy,
        )


class _Texts:
    """The texts of an evaluation, each opened once for each tokenizer."""

    def __init__(self, stage: EvaluateModels, ctx: StageContext, scratch: Path) -> None:
        self._stage, self._ctx, self._scratch = stage, ctx, scratch
        self._opened: dict[tuple[str, str | None], EvaluatedText] = {}

    def open(self, ref: Ref[Texts], model_ref: Ref[Checkpoint]) -> "EvaluatedText":
        """The text in the tokens of the model, which the plan compared."""
        from continuum.text.evaluated import EvaluatedText

        text, model = self._ctx.artifact(ref), self._ctx.artifact(model_ref)
        key = (str(ref), model.vocabulary_digest)
        if key not in self._opened:
            if isinstance(text, TokenizedDataset):
                self._opened[key] = EvaluatedText.of_dataset(text, self._stage.split)
            else:
                assert isinstance(text, Corpus), "Texts has two subclasses"
                folder = self._scratch / str(len(self._opened))
                self._opened[key] = EvaluatedText.of_corpus(
                    text, model.path, self._stage.document, folder
                )
        return self._opened[key]


def trained_length(checkpoint: Checkpoint) -> int:
    """Tokens per sequence of the model's training; the longest possible if it is unknown."""
    lengths = [it.sequence_length for it in (checkpoint.data_read or {}).values()]
    return max(lengths, default=int(checkpoint.model_config_fields["block_size"]))
