"""kind: tokenize - encode a corpus into token chunks for training and validation."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from continuum.errors import PreflightError, Problem
from continuum.experiment.fields import Ref, runtime_field
from continuum.experiment.forecast import Forecast, TextPart
from continuum.experiment.seeds import SplitSeeds
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.experiment.validation import (
    ByCorpus,
    ByFiles,
    ByFraction,
    Validation,
    file_problem,
    is_named,
    known_mode,
)
from continuum.formatting import plural
from continuum.preflight.disk import dataset_need, dataset_warnings
from continuum.runs.artifacts import (
    DOCUMENTS,
    Artifact,
    Checkpoint,
    Corpus,
    CorpusItem,
    TokenizedDataset,
    TokenizerFiles,
    copy_tokenizer,
)
from continuum.runs.events import ByteProgress, Noted
from continuum.runs.text_records import Shares, Split, TextLoss
from continuum.sources.source_files import max_text_bytes, sum_known
from continuum.text.chunks import SplitName
from continuum.text.decoding import OnBytes
from continuum.text.special_tokens import (
    DocumentPolicy,
    document_tokens,
    missing_token,
    policy_warnings,
)

if TYPE_CHECKING:
    from continuum.text.encoding import Method
    from continuum.text.loss_watch import LossWatch
    from continuum.text.splits import Draw, Part


class Tokenize(Stage):
    """Encode a corpus to token ids, in chunks that LitGPT's `LitData` can read.

    The text of a special token in a document becomes that token, as in LitGPT.
    """

    kind: Literal["tokenize"] = "tokenize"
    corpus: Ref[Corpus]
    """The texts to train on."""
    tokenizer: Ref[TokenizerFiles]
    """The model's tokenizer, or one to train a model with."""
    document: DocumentPolicy = "bos"
    """The special tokens around each document: `bos` before it, `eos` after it, `both`, or `none`.
    LitGPT's `TextFiles` uses `bos`. Both sides of a divided document count as documents."""
    validation: Validation = Field(
        examples=[{"fraction": 0.05}, {"files": ["book2.txt"]}, {"corpus": "held_out"}, "none"]
    )
    """The validation text: `{fraction: 0.05}`, `{files: [...]}`, `{corpus: stage}`, or `none`.
    Required, because a loss on training text is misleading."""
    lossy: Literal["error", "allow"] = runtime_field("error")
    """Whether a tokenizer may lose more than 0.1 % of the text: `error` fails, `allow` warns. It
    does not change any token, so it is not part of the dataset's identity."""
    seeds: SplitSeeds = Field(SplitSeeds(), examples=[{"split": 1}])
    """The seed for drawing the documents of a `fraction`; nothing else is random here."""

    produces: ClassVar[type[Artifact]] = TokenizedDataset
    version: ClassVar[int] = 3
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: ("a `fraction` of JSON Lines is drawn by seeds.split (default 0), not by seed",),
        3: (
            "a `fraction` draws complete documents, with duplicates on one side, or divides each "
            "after a paragraph, line, sentence or word, and reaches the share",
            "long documents are cut only where no token can change",
        ),
    }
    aliases: ClassVar[tuple[str, ...]] = (
        "dataset", "data", "tokens", "prepare", "prepare_data", "prepare_dataset", "preprocess",
        "encode", "tokenization", "litdata", "pretokenize",
    )  # fmt: skip
    refused: ClassVar[Mapping[str, str]] = {
        "seed": "use `seeds.split` for the random split",
        "sources": "texts are a stage of `kind: fetch`, which `corpus` names",
        "vocab_size": "a tokenizer is a stage of `kind: train_tokenizer`, which `tokenizer` names",
        **dict.fromkeys(
            ("sequence_length", "global_batch_size"), "it belongs in the stage that trains"
        ),
    }
    instead: ClassVar[Mapping[tuple[str, type[Artifact]], str]] = {
        ("corpus", TokenizedDataset): "it is tokenized already: name it in the `data` of a stage "
        "that trains",
        ("tokenizer", Checkpoint): "name the stage that its tokenizer is from",
    }

    def seeded(self, defaults: Mapping[str, int]) -> Stage:
        if isinstance(self.validation, ByFraction):
            return super().seeded(defaults)
        return self.model_copy(update={"seeds": SplitSeeds()})

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        if self.seeds.split is not None and not isinstance(self.validation, ByFraction):
            message = "'split' has no effect: only a `fraction` draws documents at random"
            yield Problem(("seeds", "split"), message)
        if isinstance(self.validation, ByCorpus) and self.validation.corpus == self.corpus:
            yield Problem(
                ("validation", "corpus"),
                f"{str(self.corpus)!r} cannot be both the training and the validation text",
                "name another corpus, or use {fraction: 0.05}",
            )

    def training_texts(self) -> TextPart:
        if isinstance(self.validation, ByFraction):
            return TextPart(self.corpus, fraction=self.validation.fraction)
        files = self.validation.files if isinstance(self.validation, ByFiles) else None
        return TextPart(self.corpus, files=files)

    def validation_texts(self) -> TextPart | None:
        if isinstance(self.validation, ByCorpus):
            return TextPart(self.validation.corpus)
        return None if self.validation == "none" else self.training_texts()

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        problems = []
        tokenizer = inputs[self.tokenizer].artifact
        files = tokenizer.view(TokenizerFiles) if tokenizer else None
        if isinstance(files, TokenizerFiles) and (missing := missing_token(files, self.document)):
            problems.append(Problem(("document",), missing, needs="folder"))
        corpus = inputs[self.corpus].artifact
        if isinstance(corpus, Corpus) and (problem := file_problem(corpus, self.validation)):
            problems.append(Problem(("validation", "files"), problem, needs="folder"))
        bounds = {
            split: bound for split, bound in self._max_tokens(inputs).items() if bound is not None
        }
        return Forecast(
            problems=tuple(problems),
            warnings=(
                *self._tokenizer_warnings(files),
                *dataset_warnings(inputs.values(), experiment_folder),
            ),
            notes=tuple(known_mode(corpus, self.validation)),
            max_tokens=bounds,
            has_validation=self.validation != "none",
            max_ids=_max_ids(inputs[self.tokenizer]),
            vocabulary=inputs[self.tokenizer].vocabulary,
            disk=dataset_need(inputs.values()),
        )

    def _tokenizer_warnings(self, tokenizer: Artifact | None) -> Iterator[Problem]:
        if isinstance(tokenizer, TokenizerFiles):
            for warning in tokenizer.warnings:
                yield Problem(("tokenizer",), warning, severity="warning", needs="folder")
            for warning in policy_warnings(tokenizer, self.document):
                yield Problem(("document",), warning, severity="warning", needs="folder")

    def run(self, ctx: StageContext) -> TokenizedDataset:
        from continuum.text.dataset import token_dtype, write_splits
        from continuum.text.documents import DocumentLog, Listed, count_repeats, find_overlap
        from continuum.text.loss_watch import remarks_on

        tokenizer = ctx.artifact(self.tokenizer)
        special = document_tokens(tokenizer, self.document)
        corpora = [ctx.artifact(ref) for ref in self.corpora]
        if problem := file_problem(corpora[0], self.validation):
            raise PreflightError(problem)
        method, watch = self._choose_method(ctx, tokenizer, corpora)
        total = sum(corpus.size_bytes for corpus in corpora)
        num_passes = 2 if isinstance(self.validation, ByFraction) else 1
        progress = ByteProgress(ctx.report, num_files=1, total=total * num_passes)
        folders = {split: ctx.output_dir / split for split in self._split_names()}
        drawn = self._draw(ctx, corpora[0], progress.add)
        items = [item for corpus in corpora for item in corpus.items]
        with DocumentLog(ctx.output_dir, folders, items) as log:
            splits = write_splits(
                self._parts(corpora, drawn, progress.add),
                folders,
                method=method,
                special=special,
                num_ids=tokenizer.num_ids,
                log=log,
                watch=watch,
            )
        listed = Listed(ctx.output_dir / DOCUMENTS, items)
        overlap = find_overlap(listed, listed) if "validation" in folders else None
        progress.finish()
        _warn(ctx, method.late_remarks())
        splits = {
            split: made.model_copy(update={"num_repeats": count_repeats(listed, split)})
            for split, made in splits.items()
        }
        self._check_splits(splits)
        loss = watch.result()
        self._check_loss(loss, tokenizer.label)
        _warn(ctx, remarks_on(loss, tokenizer.label))
        copy_tokenizer(tokenizer.path, ctx.output_dir / "tokenizer")
        made = TokenizedDataset(
            path=ctx.output_dir,
            train=splits["train"],
            validation=splits.get("validation"),
            dtype=token_dtype(tokenizer.num_ids),
            num_ids=tokenizer.num_ids,
            vocabulary_digest=tokenizer.vocabulary_digest,
            document=self.document,
            backend=method.encoder.name,
            sources=log.sources(),
            shares=None
            if drawn is None
            else Shares.between(splits, asked=drawn.fraction, mode=drawn.mode),
            loss=loss,
            overlap=overlap,
        )
        if leaks := made.leaks():
            _warn(ctx, (f"{leaks}; for them the validation loss measures memorization",))
        return made

    def _choose_method(
        self, ctx: StageContext, tokenizer: TokenizerFiles, corpora: list[Corpus]
    ) -> "tuple[Method, LossWatch]":
        """Choose the method of tokenization, and check the losses on a sample.

        Raises:
            PreflightError: the tokenizer cannot be loaded, or loses text of the sample.
        """
        from continuum.text.encoding import choose_method
        from continuum.text.loss_watch import LossWatch
        from continuum.text.sampling import sample_windows

        _warn(ctx, map(str, self._tokenizer_warnings(tokenizer)))
        sample = [window for corpus in corpora for window in sample_windows(corpus)]
        texts = [window.text for window in sample]
        method = choose_method(tokenizer.path, texts, name=tokenizer.label)
        _warn(ctx, method.remarks)
        watch = LossWatch(method.tokenizer)
        self._check_loss(watch.see_sample(sample, method.sample), tokenizer.label)
        return method, watch

    def _split_names(self) -> tuple[SplitName, ...]:
        return ("train",) if self.validation == "none" else ("train", "validation")

    @property
    def corpora(self) -> tuple[Ref[Corpus], ...]:
        """The training corpus, and the validation corpus if it is separate."""
        other = (self.validation.corpus,) if isinstance(self.validation, ByCorpus) else ()
        return (self.corpus, *other)

    def _draw(self, ctx: StageContext, corpus: Corpus, on_bytes: OnBytes) -> "Draw | None":
        """Draw a `fraction` of the corpus in a pass over it; None without a `fraction`.

        Raises:
            PreflightError: no split comes near the fraction.
        """
        if not isinstance(self.validation, ByFraction):
            return None
        from continuum.text.reading import read_documents
        from continuum.text.splits import draw, survey

        table = survey(read_documents(corpus, on_bytes=on_bytes), ctx.seeds["split"])
        drawn = draw(table, self.validation.fraction)
        if problem := drawn.sides.problem(drawn.fraction):
            raise PreflightError(problem)
        if drawn.mode == "ends":
            _state_ends(ctx, self.document)
        return drawn

    def _parts(
        self, corpora: list[Corpus], drawn: "Draw | None", on_bytes: OnBytes
    ) -> "Iterator[Part]":
        from continuum.text.splits import by_draw, whole_items

        corpus = corpora[0]
        validation = self.validation
        if drawn is not None:
            return by_draw(corpus, drawn, on_bytes=on_bytes)
        if isinstance(validation, ByFiles):
            return whole_items(corpus, is_named(validation.files), on_bytes=on_bytes)
        training = whole_items(corpus, is_named(()), on_bytes=on_bytes)
        others = (whole_items(other, is_named(("*",)), on_bytes=on_bytes) for other in corpora[1:])
        return chain(training, *others)

    def _check_loss(self, loss: TextLoss, name: str) -> None:
        from continuum.text.loss_watch import problem_of

        if self.lossy == "error" and (problem := problem_of(loss, name)):
            raise PreflightError(problem)

    def _check_splits(self, splits: Mapping[SplitName, Split]) -> None:
        for split, made in splits.items():
            if made.num_tokens:
                continue
            others = "; ".join(
                f"{name} has {plural(other.num_tokens, 'token')} in "
                f"{plural(other.num_documents, 'document')}"
                for name, other in splits.items()
                if name != split
            )
            raise PreflightError(
                f"the {split} split is empty{f' ({others})' if others else ''}; add text"
            )
        if isinstance(self.validation, ByFraction):
            from continuum.text.splits import Sides

            problem = Sides.of(splits).problem(self.validation.fraction)
            if problem:
                raise PreflightError(problem)

    def _max_tokens(self, inputs: Mapping[str, PlanInput]) -> dict[str, int | None]:
        corpus, form = inputs[self.corpus], self.validation
        if isinstance(form, ByFiles) and isinstance(corpus.artifact, Corpus):
            is_validation, items = is_named(form.files), corpus.artifact.items
            return {
                "train": _sum_of(item for item in items if not is_validation(item)),
                "validation": _sum_of(item for item in items if is_validation(item)),
            }
        found = {"train": _max_text_bytes(corpus)}
        if form != "none":
            other = form.corpus if isinstance(form, ByCorpus) else self.corpus
            found["validation"] = _max_text_bytes(inputs[other])
        return found


def _warn(ctx: StageContext, remarks: Iterable[str]) -> None:
    for remark in remarks:
        ctx.warn(remark)


def _state_ends(ctx: StageContext, policy: DocumentPolicy) -> None:
    """Report that documents are divided; a warning if the model learns false ends."""
    ends = (
        "the end of each document is used for validation, because the documents are too few or too "
        "long to reach the fraction"
    )
    remedy = "to keep documents complete, name the validation text by `files` or `corpus`"
    if policy in ("eos", "both"):
        learned = "each EOS in training follows a cut inside a document, not its own end"
        ctx.warn(f"{ends}; {learned}; {remedy}")
    else:
        ctx.report(Noted(f"{ends}; {remedy}"))


def _max_ids(tokenizer: PlanInput) -> int | None:
    files = tokenizer.artifact.view(TokenizerFiles) if tokenizer.artifact else None
    return files.num_ids if isinstance(files, TokenizerFiles) else tokenizer.forecast.max_ids


def _max_text_bytes(corpus: PlanInput) -> int | None:
    """Upper bound: a token covers at least one byte of UTF-8; None if the text is compressed."""
    if isinstance(corpus.artifact, Corpus):
        return _sum_of(corpus.artifact.items)
    return corpus.forecast.max_text_bytes


def _sum_of(items: Iterable[CorpusItem]) -> int | None:
    bounds = [max_text_bytes(it.size_bytes, it.compression, it.encoding) for it in items]
    total = sum_known(bounds)
    # Two special tokens per document; a JSON line has more characters around its text.
    return None if total is None else total + 2 * len(bounds)
