"""Score models on texts: the loss of each sequence, and how often its tokens were the most likely.

Every process has the whole model and takes its share of the batches. Which sequences are a batch
depends on their length alone, and sums are added in the order of the sequences, so the scores are
the same for every number of processes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from lightning import Fabric
from numpy.typing import NDArray

from continuum.errors import IntegrityError, StoppedError
from continuum.preflight.model_size import has_fused_loss
from continuum.runs.artifacts import Checkpoint
from continuum.training.litgpt import build_model, set_rope_cache
from continuum.training.loss_head import LossHead, ScoringHead, scores_of
from continuum.training.state import load_model
from continuum.training.weights import load_weights, tie_embeddings

Ids = NDArray[Any]
TOKENS_AT_ONCE = 4096
"""In one forward pass: enough to keep a device busy, and their activations, of one layer at a time,
take little beside the weights."""


@dataclass(frozen=True)
class Totals:
    """What a model's scores on the sequences of a text come to."""

    num_tokens: int
    """Targets: the predicted tokens."""
    loss: float
    """Mean cross-entropy in nats per target."""
    standard_error: float | None
    """Of the loss, over sequences; None for a single one."""
    accuracy: float
    """Share of targets that were the most likely token."""

    @classmethod
    def of(
        cls, losses: NDArray[np.float64], hits: NDArray[np.float64], sizes: list[int]
    ) -> "Totals":
        """Add up sequences: their summed losses, most likely targets, and targets.

        The error is that of a ratio estimate: sequences with more targets weigh more (Cochran,
        Sampling Techniques, 3rd ed., eq. 6.9, without the correction for finite populations).
        """
        num_sequences, num_tokens = len(sizes), sum(sizes)
        loss = math.fsum(losses) / num_tokens
        error = None
        if num_sequences > 1:
            squares = math.fsum((losses - loss * np.array(sizes)) ** 2)
            error = math.sqrt(squares * num_sequences / (num_sequences - 1)) / num_tokens
        return cls(num_tokens, loss, error, math.fsum(hits) / num_tokens)


class ScoredModel:
    """A model on this process's device that scores sequences."""

    def __init__(self, fabric: Fabric, checkpoint: Checkpoint, sequence_length: int) -> None:
        """Load it.

        Args:
            sequence_length: The longest sequence, in targets.

        Raises:
            PreflightError: the file is not a LitGPT checkpoint.
        """
        fields = checkpoint.model_config_fields
        model = build_model(fabric, fields, sequence_length)
        if isinstance(model.lm_head, LossHead):
            model.lm_head = ScoringHead.adopt(model.lm_head)
        if checkpoint.is_tied:
            tie_embeddings(model)
        load_model(model, load_weights(checkpoint.path))
        set_rope_cache(model)
        self._fabric, self._model = fabric, model.eval()
        is_fused = has_fused_loss(fields, fabric.strategy.precision.precision)
        # Without a loss head, the logits of each further sequence take memory too.
        self._rows = max(1, TOKENS_AT_ONCE // sequence_length) if is_fused else 1
        self._num_ids = model.config.padded_vocab_size

    def score(
        self,
        sizes: Sequence[int],
        read: Callable[[int], Ids],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Totals:
        """Score all sequences; collective.

        Args:
            sizes: Number of targets of each.
            read: Reads a sequence by its number: its tokens, one more than targets.

        Raises:
            IntegrityError: a token is not in the model's vocabulary.
            StoppedError: `should_stop` returned True.
        """
        found = torch.zeros(len(sizes), 2, dtype=torch.float64, device=self._fabric.device)
        for number, batch in enumerate(_batches(sizes, self._rows)):
            if number % self._fabric.world_size != self._fabric.global_rank:
                continue
            if should_stop():
                raise StoppedError.with_nothing_saved()
            ids = torch.from_numpy(np.stack([read(it).astype(np.int64) for it in batch]))
            if int(ids.min()) < 0 or int(ids.max()) >= self._num_ids:
                raise IntegrityError(
                    f"token {int(ids.max())} is not in the model's vocabulary ({self._num_ids:,} "
                    "ids); the dataset is corrupt or of another tokenizer"
                )
            found[batch] = self._score(ids.to(self._fabric.device)).sum(1)
        # One process has each sequence, the others have zeros.
        summed = self._fabric.all_reduce(found, reduce_op="sum")
        assert isinstance(summed, torch.Tensor)
        losses, hits = summed.cpu().numpy().T
        return Totals.of(losses, hits, list(sizes))

    @torch.no_grad()
    def _score(self, ids: torch.Tensor) -> torch.Tensor:
        """The scores (B, T, 2) in fp64 of sequences (B, T + 1)."""
        inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        head = self._model.lm_head
        with self._fabric.autocast():
            if not isinstance(head, ScoringHead):
                return scores_of(self._model(inputs).float(), targets).double()
            head.targets = targets
            try:
                scores: torch.Tensor = self._model(inputs)
            finally:
                head.targets = None
        return scores.double()


def _batches(sizes: Sequence[int], rows: int) -> list[list[int]]:
    """The numbers of sequences that are computed together: neighbours of one size."""
    batches = []
    for _, group in groupby(range(len(sizes)), key=sizes.__getitem__):
        numbers = list(group)
        batches += [numbers[first : first + rows] for first in range(0, len(numbers), rows)]
    return batches
