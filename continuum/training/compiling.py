"""torch.compile as training uses it: a graph for each size of batch, none for any size.

Left to itself, torch compiles for any size from the second size on. What a step computes would hang
on what came before it: an evaluation that a recovered run owes, before its first step, would make
the graph of training another one than the unbroken run's, with other last bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def compiled(model: nn.Module, backend: Any = "inductor") -> nn.Module:
    """The model, compiled anew for each size of batch."""
    made: Any = torch.compile(model, backend=backend, dynamic=False)
    assert isinstance(made, nn.Module)
    return made


@contextmanager
def eagerly() -> Iterator[None]:
    """A context in which nothing is compiled and nothing compiled is used."""
    with torch.compiler.set_stance("force_eager"):
        yield
