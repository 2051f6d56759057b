"""One document over another: what `extends` does with a file and its bases."""

from dataclasses import replace

from continuum.spec.source import Node


def merge(
    base: Node, over: Node, cleared: set[tuple[str, ...]], path: tuple[str, ...] = ()
) -> Node:
    """Deep merge of mappings; anything else in `over` replaces what `base` has.

    The paths of values that `over` replaces by null are added to `cleared`.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        cleared.discard(path)
        if over.value is None and base.value is not None:
            cleared.add(path)
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node, cleared, (*path, key)) if key in merged else node
    return replace(over, value=merged)
