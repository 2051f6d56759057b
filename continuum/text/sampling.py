"""A sample of a corpus: some hundred kilobytes from the start, middle and end of its items."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from continuum.runs.artifacts import Corpus, CorpusItem
from continuum.text.chunks import TextChunk
from continuum.text.reading import read_documents

WINDOW_CHARS = 1 << 12
MIN_WINDOWS = 3
"""Per item: at its start, in its middle and at its end."""
NUM_WINDOWS = 96
"""Many short texts find more of a tokenizer's rare cases than few long ones; the slowest method
tokenizes them in a fifth of a second."""
SAMPLE_BYTES = NUM_WINDOWS * WINDOW_CHARS


def sample_windows(corpus: Corpus) -> tuple[TextChunk, ...]:
    """Distinct parts of the corpus' documents, each at most `WINDOW_CHARS` long; deterministic."""
    items = _spread(corpus.items)
    num_windows = max(MIN_WINDOWS, NUM_WINDOWS // max(1, len(items)))
    windows: dict[str, TextChunk] = {}
    for item in items:
        distinct = max(MIN_WINDOWS, item.size_bytes // WINDOW_CHARS)
        for sampled in _sample_item(corpus, item, min(num_windows, distinct)):
            windows.setdefault(sampled.text, sampled)
    return tuple(windows.values())


@dataclass(frozen=True)
class _Fragment:
    """A fragment of a document, with its approximate bytes in the item."""

    whole: TextChunk
    first_byte: int
    last_byte: int


@dataclass
class _Window:
    """Collects texts from some byte of an item on, until it is full."""

    start_byte: int
    texts: list[TextChunk] = field(default_factory=list)
    room: int = WINDOW_CHARS

    def offer(self, fragment: _Fragment) -> None:
        if self.room <= 0 or fragment.last_byte < self.start_byte:
            return
        num_bytes = max(1, fragment.last_byte - fragment.first_byte)
        share = max(0, self.start_byte - fragment.first_byte) / num_bytes
        start = int(max(0, len(fragment.whole.text) - self.room) * share)
        taken = fragment.whole.part(start, start + self.room)
        self.texts.append(taken)
        self.room -= len(taken.text)


def _sample_item(corpus: Corpus, item: CorpusItem, num_windows: int) -> Iterator[TextChunk]:
    # The last window is the ending, which is known only at the end of the file.
    windows = [
        _Window(item.size_bytes * index // (num_windows - 1)) for index in range(num_windows - 1)
    ]
    ending: deque[TextChunk] = deque()
    ending_chars = 0
    for fragment in _fragments(corpus, item):
        for window in windows:
            window.offer(fragment)
        num_chars = len(fragment.whole.text)
        ending.append(fragment.whole.part(max(0, num_chars - WINDOW_CHARS), num_chars))
        ending_chars += len(ending[-1].text)
        while ending_chars - len(ending[0].text) >= WINDOW_CHARS:
            ending_chars -= len(ending.popleft().text)
    for window in windows:
        yield from window.texts
    yield from ending


def _fragments(corpus: Corpus, item: CorpusItem) -> Iterator[_Fragment]:
    num_bytes_read = 0

    def count(num_bytes: int) -> None:
        nonlocal num_bytes_read
        num_bytes_read += num_bytes

    # A block of bytes may hold many documents: count a character as one byte of its block.
    block_end = first_byte = 0
    for document in read_documents(corpus, (item,), on_bytes=count):
        start = 0
        last: _Fragment | None = None
        for text in document.fragments:
            if last is not None:
                yield last
            if num_bytes_read > block_end:
                first_byte, block_end = block_end, num_bytes_read
            last_byte = block_end if item.format != "jsonl" else first_byte + len(text)
            whole = TextChunk(text, document, start, begins=start == 0, ends=False)
            last = _Fragment(whole, min(first_byte, block_end), min(last_byte, block_end))
            first_byte = last_byte
            start += len(text)
        if last is not None:
            yield replace(last, whole=replace(last.whole, ends=True))


def _spread(items: Sequence[CorpusItem]) -> list[CorpusItem]:
    mean = max(1, sum(item.size_bytes for item in items) // max(1, len(items)))
    number = min(len(items), max(NUM_WINDOWS // MIN_WINDOWS, SAMPLE_BYTES // mean))
    return [items[index * len(items) // number] for index in range(number)]
