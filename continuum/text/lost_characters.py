"""Characters that a tokenizer gives back nowhere, counted in all of a corpus."""

import unicodedata
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from continuum.text.pieces import Piece
from continuum.text.round_trip import RoundTrip
from continuum.text.text_loss import Excerpt, compare
from continuum.text_records import LossExample

AROUND_CHARS = 16
NUM_CODE_POINTS = 0x110000


class LostCharacters:
    """Tries each character where it is first met, and counts those that are lost."""

    def __init__(self, round_trip: RoundTrip) -> None:
        self._round_trip = round_trip
        self._kept: NDArray[np.bool_] = np.zeros(NUM_CODE_POINTS, dtype=np.bool_)
        self._kept_ascii = b""
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, LossExample] = {}
        """By character."""

    def see(self, piece: Piece) -> None:
        """Count the lost characters of a piece."""
        for char, number in Counter(self._doubtful(piece.text)).items():
            if char not in self._examples:
                example = self._try(char, piece)
                if example is None:
                    self._keep(char)
                    continue
                self._examples[char] = example
            self._counts[char] += number

    def by_kind(self) -> dict[str, int]:
        """How many characters were lost."""
        kinds: Counter[str] = Counter()
        for char, number in self._counts.items():
            kinds[self._examples[char].kind] += number
        return dict(kinds)

    def examples(self) -> list[LossExample]:
        """One of each lost character, the most frequent first."""
        return [self._examples[char] for char, _ in self._counts.most_common()]

    def _doubtful(self, text: str) -> str:
        """The characters that are not known to be kept."""
        rest = text.encode().translate(None, self._kept_ascii).decode()
        if not rest:
            return rest
        codes = np.frombuffer(rest.encode("utf-32-le"), dtype="<u4")
        return bytes(codes[~self._kept[codes]]).decode("utf-32-le")

    def _keep(self, char: str) -> None:
        self._kept[ord(char)] = True
        if char.isascii():
            self._kept_ascii += char.encode()

    def _try(self, char: str, piece: Piece) -> LossExample | None:
        """An example of its loss, both among its neighbours and alone; None if it is kept."""
        place = piece.text.index(char)
        start = max(0, place - AROUND_CHARS)
        around = piece.text[start : place + AROUND_CHARS + 1]
        decoded, alone = self._round_trip.decode(self._round_trip.encode([around, char]))
        unknown = self._round_trip.unknown_text
        if _has(decoded, char, unknown) or _has(alone, char, unknown):
            return None
        document = piece.document
        excerpt = Excerpt(
            around,
            document.item.source if document else "",
            document.position + 1 if document else 1,
            piece.start + start,
        )
        found = compare(excerpt, decoded, unknown).examples
        kind = compare(Excerpt(char, "", 1, 0), alone, unknown).examples
        if not found or not kind:
            return None
        return found[0].model_copy(
            update={
                "kind": kind[0].kind,
                "character": piece.start + place + 1,
                "text": around,
                "became": decoded,
            }
        )


def _has(decoded: str, char: str, unknown_text: str) -> bool:
    parts = set(unicodedata.normalize("NFD", char))
    text = decoded.replace(unknown_text, "") if unknown_text else decoded
    return parts <= set(unicodedata.normalize("NFD", text))
