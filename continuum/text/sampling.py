"""Some hundred kilobytes of a corpus, from the beginning, middle and end of items all over it."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from continuum.artifacts import Corpus, CorpusItem
from continuum.text.reading import read_documents

WINDOW_CHARS = 1 << 12
MIN_WINDOWS = 3
"""Of an item: at its beginning, in its middle, and its end."""
NUM_WINDOWS = 96
"""Many short texts meet more of a tokenizer's rare cases than few long ones; to tokenize them the
slowest way takes a fifth of a second."""
SAMPLE_BYTES = NUM_WINDOWS * WINDOW_CHARS


def sample_texts(corpus: Corpus) -> tuple[str, ...]:
    """Texts of the corpus, each at most `WINDOW_CHARS` long; the same for the same corpus."""
    items = _spread(corpus.items)
    num_windows = max(MIN_WINDOWS, NUM_WINDOWS // max(1, len(items)))
    texts: dict[str, None] = {}
    for item in items:
        distinct = max(MIN_WINDOWS, item.size_bytes // WINDOW_CHARS)
        texts.update(dict.fromkeys(_sample_item(corpus, item, min(num_windows, distinct))))
    return tuple(texts)


@dataclass
class _Window:
    """The texts met from some byte of an item on, until there are enough."""

    start_byte: int
    share: float
    """Which part of a fragment to take: 0.0 its beginning, 0.5 its middle."""
    texts: list[str] = field(default_factory=list)
    room: int = WINDOW_CHARS

    def offer(self, fragment: str, num_bytes_read: int) -> None:
        if self.room <= 0 or num_bytes_read < self.start_byte:
            return
        start = int(max(0, len(fragment) - self.room) * self.share)
        taken = fragment[start : start + self.room]
        self.texts.append(taken)
        self.room -= len(taken)


def _sample_item(corpus: Corpus, item: CorpusItem, num_windows: int) -> Iterator[str]:
    num_bytes_read = 0

    def count(num_bytes: int) -> None:
        nonlocal num_bytes_read
        num_bytes_read += num_bytes

    # The last window is the ending, which only the end of the file tells.
    shares = [index / (num_windows - 1) for index in range(num_windows - 1)]
    windows = [_Window(int(item.size_bytes * share), share) for share in shares]
    ending: deque[str] = deque()
    ending_chars = 0
    for document in read_documents(corpus, (item,), on_bytes=count):
        for fragment in document.fragments:
            for window in windows:
                window.offer(fragment, num_bytes_read)
            ending.append(fragment[-WINDOW_CHARS:])
            ending_chars += len(ending[-1])
            while ending_chars - len(ending[0]) >= WINDOW_CHARS:
                ending_chars -= len(ending.popleft())
    for window in windows:
        yield from window.texts
    yield from ending


def _spread(items: Sequence[CorpusItem]) -> list[CorpusItem]:
    """Items at even distances, as many as it takes for a sample of the usual size."""
    mean = max(1, sum(item.size_bytes for item in items) // max(1, len(items)))
    number = min(len(items), max(NUM_WINDOWS // MIN_WINDOWS, SAMPLE_BYTES // mean))
    return [items[index * len(items) // number] for index in range(number)]
