"""The parts a tokenizer of `tokenizers` is made of, as `tokenizer.json` writes them."""

import json
from typing import Any


def _byte_signs() -> tuple[str, ...]:
    """The character by which byte-level tokenizers write each byte, as GPT-2 chose it."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTE_SIGNS = _byte_signs()


def component_kinds(component: Any, members: str) -> list[dict[str, Any]]:
    """The parts of a normalizer (`members` is `normalizers`), a pre-tokenizer (`pretokenizers`) or
    a decoder (`decoders`), in order."""
    return _flat(json.loads(component.__getstate__()) if component is not None else None, members)


def _flat(kind: dict[str, Any] | None, members: str) -> list[dict[str, Any]]:
    """The components of a sequence of sequences, in order."""
    if kind is None:
        return []
    if kind["type"] != "Sequence":
        return [kind]
    return [inner for member in kind[members] for inner in _flat(member, members)]
