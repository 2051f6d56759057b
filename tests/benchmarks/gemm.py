"""The matrix products of a training step and nothing else: the limit of what a machine can train.

    python -m tests.benchmarks.gemm TRAINING

Each linear layer of the model takes three products a step, of the shapes that training has: the
outputs, the gradients of the inputs and those of the weights; attention takes its own, forward and
backward. What lies between the products is left out, and so is the optimizer.
"""

import sys
from dataclasses import dataclass

import torch

from tests.benchmarks.pacing import Pace
from tests.benchmarks.training_spec import Training


@dataclass(frozen=True)
class Product:
    """`count` products of (batch, rows, inner) by (batch, inner, columns) in a micro-batch."""

    count: int
    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each element of each row and column."""
        return 2 * self.count * self.batch * self.rows * self.inner * self.columns


def products_of(training: Training) -> list[Product]:
    """The products of one micro-batch, forward and backward."""
    from litgpt import Config

    config = Config.from_name(training.model)
    length = training.sequence_length
    rows = training.micro_batch * length
    heads, size = config.n_head, config.head_size
    groups = config.n_query_groups or heads
    hidden = config.intermediate_size
    assert hidden is not None
    linears = [
        (config.n_layer, config.n_embd, (heads + 2 * groups) * size),
        (config.n_layer, heads * size, config.n_embd),
        (config.n_layer, config.n_embd, hidden),
        (config.n_layer, hidden, config.n_embd),
        (1, config.n_embd, config.padded_vocab_size),
    ]
    assert config.mlp_class_name == "GptNeoxMLP", "a gated one has a third layer"
    found = []
    for count, inputs, outputs in linears:
        found += [
            Product(count, 1, rows, inputs, outputs),
            Product(count, 1, rows, outputs, inputs),
            Product(count, 1, inputs, rows, outputs),
        ]
    batch = training.micro_batch * heads
    # Scores and values forward; two products backward for each of them.
    found.append(Product(config.n_layer * 3, batch, length, size, length))
    found.append(Product(config.n_layer * 3, batch, length, length, size))
    return found


def flops_of_turn(training: Training) -> int:
    """Operations of the products of all optimizer steps in a turn."""
    micro_batches = training.global_batch // training.micro_batch * training.log_every
    return micro_batches * sum(product.flops for product in products_of(training))


def main() -> None:
    """Compute the products of a step, a turn each time."""
    training = Training.of_json(sys.argv[1])
    pace = Pace()
    pairs = [
        (
            product.count,
            torch.randn(product.batch, product.rows, product.inner),
            torch.randn(product.batch, product.inner, product.columns),
        )
        for product in products_of(training)
    ]
    micro_batches = training.global_batch // training.micro_batch * training.log_every
    while True:
        for _ in range(micro_batches):
            for count, left, right in pairs:
                for _ in range(count):
                    torch.bmm(left, right)
        pace.end_turn("train")


if __name__ == "__main__":
    main()
