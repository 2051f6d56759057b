"""What a dataset records of its documents as they are written: the index, and counts by source."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from continuum.artifacts import CorpusItem
from continuum.text.document_index import DocumentIndexWriter, index_path
from continuum.text.splitting import SplitName
from continuum.text_records import SourceCounts


@dataclass(frozen=True)
class DocumentCounts:
    """The size of a document, or of its beginning."""

    num_chars: int = 0
    size_bytes: int = 0
    """As UTF-8."""
    num_unknown: int = 0
    """Ids that stand for text outside the vocabulary."""

    def with_text(self, text: str, num_unknown: int) -> "DocumentCounts":
        """The counts after more text."""
        num_bytes = len(text) if text.isascii() else len(text.encode())
        return DocumentCounts(
            self.num_chars + len(text),
            self.size_bytes + num_bytes,
            self.num_unknown + num_unknown,
        )


@dataclass
class _Counts:
    num_documents: int = 0
    num_chars: int = 0
    size_bytes: int = 0
    num_tokens: int = 0
    num_unknown: int = 0


class DocumentLog:
    """Writes the index of each split and adds up documents by source."""

    def __init__(
        self, dataset_folder: Path, splits: Iterable[SplitName], items: Sequence[CorpusItem]
    ) -> None:
        """Open the index files.

        Args:
            items: Those of all corpora, in order.
        """
        self._items = items
        self._counts: dict[tuple[int, SplitName], _Counts] = {}
        self._ends: dict[SplitName, int] = {}
        self._indexes: dict[SplitName, DocumentIndexWriter] = {}
        with ExitStack() as stack:
            for split in splits:
                path = index_path(dataset_folder, split)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._indexes[split] = DocumentIndexWriter(stack.enter_context(path.open("wb")))
            self._files = stack.pop_all()

    def __enter__(self) -> "DocumentLog":
        return self

    def __exit__(self, *_: object) -> None:
        with self._files:
            for index in self._indexes.values():
                index.flush()

    def add(
        self, split: SplitName, place: tuple[int, int], document: DocumentCounts, *, end: int
    ) -> None:
        """Add a document that was written.

        Args:
            place: The number of its item, and its position there.
            end: Tokens of the split up to its end.
        """
        self._indexes[split].append(end, *place)
        counts = self._counts.setdefault((place[0], split), _Counts())
        counts.num_documents += 1
        counts.num_chars += document.num_chars
        counts.size_bytes += document.size_bytes
        counts.num_unknown += document.num_unknown
        counts.num_tokens += end - self._ends.get(split, 0)
        self._ends[split] = end

    def sources(self) -> tuple[SourceCounts, ...]:
        """The counts, in the order of the corpora."""
        return tuple(
            SourceCounts(
                source=self._items[number].source,
                split=split,
                num_documents=counts.num_documents,
                num_chars=counts.num_chars,
                size_bytes=counts.size_bytes,
                num_tokens=counts.num_tokens,
                num_unknown=counts.num_unknown,
            )
            for (number, split), counts in sorted(self._counts.items())
        )
