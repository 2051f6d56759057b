"""Texts to evaluate models on: their tokens in windows, and the bytes of text behind the tokens."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuum.errors import PreflightError
from continuum.runs.artifacts import Corpus, TokenizedDataset
from continuum.runs.text_records import SourceCounts, Split, spread
from continuum.text.dataset import token_dtype, write_splits
from continuum.text.documents import DocumentLog
from continuum.text.encoding import choose_method
from continuum.text.inspection import inspect_tokenizer
from continuum.text.loss_watch import LossWatch
from continuum.text.peek import TokenStream
from continuum.text.sampling import sample_windows
from continuum.text.special_tokens import DocumentPolicy, document_tokens
from continuum.text.splits import whole_items
from continuum.text.tokenizer import LoadedTokenizer, load_tokenizer


@dataclass(frozen=True)
class Window:
    """Tokens `[start, end)` of a text: all but the last are inputs, all but the first targets."""

    start: int
    end: int

    @property
    def num_targets(self) -> int:
        return self.end - self.start - 1


class EvaluatedText:
    """The tokens of one split of a dataset, or of a corpus in the tokens of a model."""

    def __init__(
        self,
        folder: Path,
        split: Split,
        dtype: str,
        tokenizer: LoadedTokenizer,
        vocabulary_digest: str,
        counts: Iterable[SourceCounts] | None,
    ) -> None:
        """Read the index of the chunks in `folder`.

        Args:
            vocabulary_digest: Of the tokenizer.
            counts: Of the sources of the split; None if they were not counted.

        Raises:
            PreflightError: the index is corrupt.
        """
        self.vocabulary_digest = vocabulary_digest
        self._stream = TokenStream(folder, split, dtype)
        self._split, self._tokenizer = split, tokenizer
        self._size_bytes = None if counts is None else sum(it.size_bytes for it in counts)

    @classmethod
    def of_dataset(cls, dataset: TokenizedDataset, split_name: str) -> "EvaluatedText":
        """One split of a dataset, which has it."""
        split = dataset.train if split_name == "train" else dataset.validation
        assert split is not None, "the stage has checked it"
        sources = dataset.sources
        counts = None if sources is None else [it for it in sources if it.split == split_name]
        tokenizer = load_tokenizer(dataset.path / "tokenizer")
        folder, digest = dataset.path / split_name, dataset.vocabulary_digest
        return cls(folder, split, dataset.dtype, tokenizer, digest, counts)

    @classmethod
    def of_corpus(
        cls, corpus: Corpus, tokenizer_dir: Path, policy: DocumentPolicy, folder: Path
    ) -> "EvaluatedText":
        """All of a corpus in the tokens of a model.

        Args:
            tokenizer_dir: Has the tokenizer's files.
            policy: The special tokens around each document.
            folder: Receives the tokens.

        Raises:
            PreflightError: the tokenizer cannot be loaded, or lacks a special token; or the corpus
                has no text.
        """
        found = inspect_tokenizer(tokenizer_dir)
        special = document_tokens(found, policy)
        sample = [window.text for window in sample_windows(corpus)]
        method = choose_method(tokenizer_dir, sample, name=found.label)
        target = folder / "validation"
        with DocumentLog(folder, ("validation",), corpus.items) as log:
            written = write_splits(
                whole_items(corpus, lambda _: True),
                {"validation": target},
                method=method,
                special=special,
                num_ids=found.num_ids,
                watch=LossWatch(method.tokenizer),
                log=log,
            )
        split = written["validation"]
        if not split.num_tokens:
            raise PreflightError("the corpus has no text to evaluate on")
        dtype, digest = token_dtype(found.num_ids), found.vocabulary_digest
        return cls(target, split, dtype, method.tokenizer, digest, log.sources())

    @property
    def num_tokens(self) -> int:
        return len(self._stream)

    def windows(self, length: int, num_sequences: int | None) -> list[Window]:
        """Windows of `length` targets.

        Without `num_sequences` all of the text, in order: consecutive windows share one token, so
        that every token but the first is a target once, and the last window may be shorter. Else
        that many of training's blocks, spread over the text as for the validation loss.
        """
        if num_sequences is None:
            last = len(self._stream) - 1
            return [Window(it, min(it + length, last) + 1) for it in range(0, last, length)]
        num_blocks = self._split.num_blocks(length)
        chosen = spread(num_blocks, min(num_blocks, num_sequences))
        starts = (self._split.block_start(number, length) for number in chosen)
        return [Window(start, start + length + 1) for start in starts]

    def read(self, window: Window) -> NDArray[Any]:
        """The ids of a window, 1-D."""
        return self._stream.read(window.start, window.end)

    def num_bytes(self, windows: list[Window]) -> int:
        """UTF-8 bytes of text behind the targets; special tokens have none.

        For all of a text, as counted when it was tokenized; else by the bytes of each token, which
        differ only where the tokenizer rewrites the text.
        """
        num_targets = sum(window.num_targets for window in windows)
        if self._size_bytes is not None and num_targets == len(self._stream) - 1:
            return self._size_bytes - self._token_bytes(int(self._stream.read(0, 1)[0]))
        counts = np.zeros(self._tokenizer.num_ids, dtype=np.int64)
        for window in windows:
            counts += np.bincount(self.read(window)[1:], minlength=len(counts))
        present = np.flatnonzero(counts).tolist()
        return sum(int(counts[token]) * self._token_bytes(token) for token in present)

    def _token_bytes(self, token: int) -> int:
        is_special = token in self._tokenizer.special_ids
        return 0 if is_special else len(self._tokenizer.bytes_of(token))
