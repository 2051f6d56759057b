"""The kind that a stage of an unknown kind most likely means, by its word and by its keys."""

from collections.abc import Collection
from dataclasses import dataclass

from continuum.loading.aliases import plain
from continuum.loading.keys import names_at
from continuum.stages import stage_kinds
from continuum.suggestions import closest, nearest

MIN_KEYS = 3
"""Keys, with `kind`, that say which kind is meant if its word does not."""


@dataclass(frozen=True)
class MeantKind:
    """A known kind in place of an unknown one."""

    name: str
    is_typo: bool
    """True for a misspelling that the stage's keys confirm: no kind has more of them."""


def meant_kind(word: str, keys: Collection[str]) -> MeantKind | None:
    """Return the kind that is meant by `word` in a stage with these keys; None if it is unclear."""
    kinds = stage_kinds()
    known = {kind: names_at(cls, ()) for kind, cls in kinds.items()}
    unknown = {kind: sum(key not in names for key in keys) for kind, names in known.items()}
    typo, similar = nearest(word, kinds), closest(word, kinds)
    named = [kind for kind, cls in kinds.items() if plain(word) in cls.aliases]
    containing = [kind for kind in kinds if plain(word) in kind.split("_")]
    likely = dict.fromkeys(it for it in (typo, *named, *containing, similar) if it is not None)
    if len(keys) >= MIN_KEYS and not any(unknown[kind] == 0 for kind in likely):
        fitting = [
            kind
            for kind, names in known.items()
            if unknown[kind] == 0 and all(key in keys for key, needed in names.items() if needed)
        ]
        likely = dict.fromkeys(fitting) if len(fitting) == 1 else likely
    if not likely:
        return None
    meant = min(likely, key=unknown.__getitem__)  # the first of equal ones
    return MeantKind(meant, meant == typo and unknown[meant] == min(unknown.values()))
