"""kind: train_tokenizer - train a byte-level BPE tokenizer on a corpus."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from continuum.errors import PreflightError, Problem
from continuum.experiment.fields import UNIT, Integer, Ref
from continuum.experiment.forecast import Forecast, Vocabulary
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.runs.artifacts import Artifact, Corpus, TokenizerFiles
from continuum.runs.events import ByteProgress
from continuum.text.chunks import LONG_CHUNK_CHARS, TextChunker
from continuum.text.reading import read_documents

NUM_BYTES = 256
"""Every byte is a token, so that every text can be encoded."""


class TrainTokenizer(Stage):
    """Train a byte-level BPE with GPT-2's pre-tokenizer; LitGPT and transformers load it."""

    kind: Literal["train_tokenizer"] = "train_tokenizer"
    corpus: Ref[Corpus]
    """The texts to train on."""
    vocab_size: Integer = Field(
        ge=NUM_BYTES + 4, le=1 << 24, json_schema_extra={UNIT: "token ids"}, examples=[2048, 32768]
    )
    """Number of ids, with special tokens. Up to 65,536, a token takes two bytes on disk, else
    four."""
    min_frequency: Integer = Field(2, ge=1, json_schema_extra={UNIT: "occurrences"})
    """Minimum occurrences of a pair of tokens to merge it; below 2, typos become tokens."""
    bos_token: str = Field("<|endoftext|>", min_length=1)
    """Starts documents. The same token as the end, as in GPT-2 and Pythia."""
    eos_token: str = Field("<|endoftext|>", min_length=1)
    """Ends documents."""
    special_tokens: tuple[str, ...] = Field((), examples=[["<|pad|>"]])
    """Additional texts that are one token each, such as `<|pad|>`."""

    produces: ClassVar[type[Artifact]] = TokenizerFiles
    aliases: ClassVar[tuple[str, ...]] = ("bpe", "vocabulary", "tokenizer_training")
    refused: ClassVar[Mapping[str, str]] = {
        "sources": "texts are a stage of `kind: fetch`, which `corpus` names",
        "tokenizer": "it trains a new one; use `kind: tokenize` to apply one",
    }

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        if len(set(self.special_tokens)) < len(self.special_tokens) or "" in self.special_tokens:
            yield Problem(("special_tokens",), "special tokens must be distinct and not empty")
        smallest = NUM_BYTES + len(self._all_special_tokens())
        if self.vocab_size < smallest:
            yield Problem(
                ("vocab_size",),
                f"must be larger: {NUM_BYTES} bytes and the special tokens already take "
                f"{smallest} ids",
                f"at least {smallest + 1}",
            )

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        return Forecast(
            facts={"max_ids": self.vocab_size},
            max_ids=self.vocab_size,
            vocabulary=Vocabulary(is_new=True),
        )

    def run(self, ctx: StageContext) -> TokenizerFiles:
        from continuum.text.bpe import train_bpe
        from continuum.text.inspection import check_tokenizer, inspect_tokenizer

        num_ids = train_bpe(
            self._texts(ctx),
            ctx.output_dir,
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            bos_token=self.bos_token,
            eos_token=self.eos_token,
            special_tokens=self.special_tokens,
        )
        if num_ids < self.vocab_size:
            message = (
                f"the corpus only yields {num_ids:,} ids, fewer than vocab_size "
                f"{self.vocab_size:,} "
                f"(min_frequency {self.min_frequency}); the tokenizer has {num_ids:,}"
            )
            ctx.warn(message)
        check_tokenizer(ctx.output_dir)
        return inspect_tokenizer(ctx.output_dir)

    def _all_special_tokens(self) -> set[str]:
        return {self.bos_token, self.eos_token, *self.special_tokens}

    def _texts(self, ctx: StageContext) -> Iterator[str]:
        from continuum.text.bpe import untrained_bpe
        from continuum.text.safe_places import SafePlaces

        corpus = ctx.artifact(self.corpus)
        progress = ByteProgress(ctx.report, num_files=1, total=corpus.size_bytes)
        is_empty = True
        # The pre-tokenizer ends a word at each cut, so no count changes. A word of a million
        # characters is divided anyway, to bound memory.
        chunker = TextChunker(SafePlaces(untrained_bpe()))
        for document in read_documents(corpus, on_bytes=progress.add):
            for chunk in chunker.cut(document.fragments):
                is_empty = is_empty and not chunk
                for start in range(0, len(chunk), LONG_CHUNK_CHARS):
                    yield chunk[start : start + LONG_CHUNK_CHARS]
        if is_empty:
            counts = f": {corpus.counts.summary()}" if corpus.counts is not None else ""
            raise PreflightError(
                f"{self.corpus}: the corpus is empty{counts}, so a tokenizer cannot be trained; "
                "name "
                "a corpus with text"
            )
        progress.finish()
