"""Whether a corpus is the text it claims to be, before anything is built on it."""

from collections import deque
from collections.abc import Generator
from contextlib import closing
from itertools import islice

from continuum.artifacts import Corpus, CorpusItem
from continuum.errors import PreflightError
from continuum.text.reading import read_documents

NUM_CHECKED_DOCUMENTS = 100
"""Of a JSON-lines file: enough to notice a wrong key or another format under that name."""


def check_item(corpus: Corpus, item: CorpusItem) -> None:
    """Decode the whole file, and parse the first lines of a `jsonl` one.

    Raises:
        PreflightError: a byte is not in the stated encoding, or a line is not what was promised.
    """
    for document in read_documents(corpus, [item.model_copy(update={"format": "txt"})]):
        deque(document.fragments, maxlen=0)
    if item.format == "jsonl":
        # Ended here and not when it is collected: its file stays open until then.
        documents = read_documents(corpus, [item])
        assert isinstance(documents, Generator)
        with closing(documents):
            deque(islice(documents, NUM_CHECKED_DOCUMENTS), maxlen=0)


def check_not_empty(corpus: Corpus) -> None:
    """Refuse a corpus of empty files.

    Raises:
        PreflightError: there is no byte in it.
    """
    if corpus.size_bytes == 0:
        names = ", ".join(item.source for item in corpus.items[:3])
        raise PreflightError(f"the corpus is empty: there are no bytes in {names}")
