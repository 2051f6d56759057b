"""Read token blocks in batches: any position, any world size, the same order.

Reads litdata chunks by block number through litdata's reader, in this process: reading a block
copies it from a memory map, and loader workers would cost more than they save. `SampleOrder`
decides the order, so only where a stage started needs to be saved. A chunk is hashed before its
first block is used, and checked for changes afterwards.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from lightning import Fabric
from litdata.streaming import StreamingDataset, TokensLoader

from continuum.errors import IntegrityError, PreflightError, rerun_hint
from continuum.experiment.recipe import Recipe
from continuum.experiment.stage import StageContext
from continuum.preflight.compatibility import evaluation_problems
from continuum.preflight.model_size import has_fused_loss
from continuum.runs.artifacts import TokenizedDataset
from continuum.runs.inputs import ProvedFiles
from continuum.runs.text_records import spread
from continuum.sources.token_chunks import read_chunk_folder
from continuum.training.order import Indices, Part, Positions, SampleOrder, order_of

Datasets = dict[str, TokenizedDataset]
"""By reference."""


class Blocks:
    """The blocks of a split by number, each of `sequence_length + 1` tokens."""

    def __init__(
        self,
        folder: Path,
        sequence_length: int,
        num_ids: int,
        ref: str = "data",
        *,
        proved: ProvedFiles | None = None,
    ) -> None:
        """Open the split in `folder`.

        Args:
            num_ids: Of the tokenizer; every token must be smaller.
            ref: The dataset's name, for messages.
            proved: Hashes the files before they are used, by their names in the dataset's folder;
                None for a folder without a record.

        Raises:
            IntegrityError: its index differs from the record, or cannot be read.
        """
        self._proved = proved
        self._index = f"{folder.name}/index.json"
        if proved is not None:
            proved.prove([self._index])
        try:
            chunks = read_chunk_folder(folder).chunks
        except PreflightError as error:
            raise IntegrityError(f"{ref}: {error}; {rerun_hint(ref)}") from error
        self._chunks = [f"{folder.name}/{chunk.name}" for chunk in chunks]
        self._opened: set[str] = set()
        width = sequence_length + 1
        self._ends = list(accumulate(chunk.num_tokens // width for chunk in chunks))
        self._dataset = StreamingDataset(
            str(folder), item_loader=TokensLoader(block_size=width), shuffle=False
        )
        self._width = width
        self._folder, self._num_ids, self._ref = folder, num_ids, ref

    def __len__(self) -> int:
        """For all processes together, unlike a StreamingDataset's."""
        return self._ends[-1]

    def read(self, number: int) -> torch.Tensor:
        """Block `number` as int64, shape (sequence_length + 1,).

        Raises:
            IntegrityError: it has an invalid token, or its chunk differs from the record.
        """
        block = self._read(number)
        assert block.numel() == self._width
        least, most = (int(it) for it in block.aminmax())
        if least < 0 or most >= self._num_ids:
            raise IntegrityError(
                f"{self._ref}: block {number:,} of {self._folder} is corrupt: invalid token "
                f"{most if most >= self._num_ids else least} (the tokenizer has {self._num_ids:,} "
                f"ids); {rerun_hint(self._ref)}"
            )
        return block

    def _read(self, number: int) -> torch.Tensor:
        if self._proved is None:
            return torch.as_tensor(self._dataset[number]).to(torch.int64)
        chunk = self._chunks[bisect_right(self._ends, number)]
        files = [chunk]
        if chunk not in self._opened:
            files.append(self._index)  # litdata reads it during the first read
            self._proved.prove(files)
            self._opened.add(chunk)
        block = torch.as_tensor(self._dataset[number]).to(torch.int64)
        if not self._proved.are_unchanged(*files):
            # Changed, or too recently to tell: read again between two proofs.
            self._proved.prove(files)
            block = torch.as_tensor(self._dataset[number]).to(torch.int64)
            self._proved.prove(files)
        return block


def open_split(dataset: TokenizedDataset, split: str, sequence_length: int, ref: str) -> Blocks:
    """The blocks of `train` or `validation`, each compared with the dataset's record when read.

    Raises:
        IntegrityError: the split's index differs from the record.
    """
    proved = ProvedFiles(ref, dataset.path, dataset.files)
    return Blocks(dataset.path / split, sequence_length, dataset.num_ids, ref, proved=proved)


@dataclass(frozen=True)
class Share:
    """Which part of every global batch a process computes."""

    rank: int
    world_size: int
    micro_batch_size: int


class TrainingData:
    """Global batches of one or more datasets, split into this process's micro-batches."""

    def __init__(
        self, sources: list[Blocks], order: SampleOrder, global_batch_size: int, share: Share
    ) -> None:
        self._sources = sources
        self._order = order
        self._global_batch_size = global_batch_size
        self._share = share

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of this process in one optimizer step."""
        return self._global_batch_size // (self._share.world_size * self._share.micro_batch_size)

    def micro_batches(self, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and targets, each (micro_batch_size, sequence_length), of optimizer step `step`.

        Steps count from zero; step `s` reads samples `s · B … (s + 1) · B - 1`.
        """
        datasets, blocks = self._samples(step)
        size, world = self._share.micro_batch_size, self._share.world_size
        for number in range(self.num_micro_batches):
            first = (number * world + self._share.rank) * size
            chosen = slice(first, first + size)
            yield self._stack(datasets[chosen].tolist(), blocks[chosen].tolist())

    def sample_ids(self, step: int) -> list[tuple[int, int]]:
        """Dataset and block numbers of a global batch, for messages and tests."""
        datasets, blocks = self._samples(step)
        return list(zip(datasets.tolist(), blocks.tolist(), strict=True))

    def blocks_read(self, step: int) -> list[int]:
        """Blocks of each dataset read after `step` optimizer steps."""
        return self._order.blocks_read(step * self._global_batch_size)

    def _samples(self, step: int) -> tuple[Indices, Indices]:
        start = step * self._global_batch_size
        return self._order.samples(start, start + self._global_batch_size)

    def _stack(self, datasets: list[int], blocks: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [
            self._sources[dataset].read(block)
            for dataset, block in zip(datasets, blocks, strict=True)
        ]
        stacked = torch.stack(rows)
        return stacked[:, :-1].contiguous(), stacked[:, 1:].contiguous()


def to_device(
    fabric: Fabric, inputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move a batch to the model's device; from pinned memory, a copy to a GPU is asynchronous."""
    if fabric.device.type == "cuda":
        inputs, targets = inputs.pin_memory(), targets.pin_memory()
    moved: tuple[torch.Tensor, torch.Tensor] = fabric.to_device((inputs, targets))
    return moved


@dataclass(frozen=True)
class ValidationBatch:
    """Sequences of a validation split that one process evaluates together."""

    number: int | None
    """Among the batches of the split; None for padding that does not count."""
    inputs: torch.Tensor
    targets: torch.Tensor


class ValidationData:
    """Sequences spread evenly over a validation split, the same at every evaluation.

    The batches depend neither on the number of processes nor on `micro_batch_size`, so neither
    changes a bit of any batch's loss.
    """

    def __init__(
        self, source: Blocks, num_sequences: int, *, rows: int, rank: int = 0, world_size: int = 1
    ) -> None:
        """Choose the sequences.

        Args:
            num_sequences: At most this many.
            rows: Sequences in a batch; the last batch may have fewer.
        """
        blocks = spread(len(source), min(len(source), num_sequences))
        self.rows = rows
        self._source = source
        self._batches = [blocks[first : first + rows] for first in range(0, len(blocks), rows)]
        self._rank, self._world_size = rank, world_size

    @property
    def num_rows(self) -> list[int]:
        """Sequences in each batch of the split."""
        return [len(batch) for batch in self._batches]

    def batches(self) -> Iterator[ValidationBatch]:
        """This process's batches.

        Sharded models need the same number of batches in every process, so some get a batch that
        does not count.
        """
        for first in range(0, len(self._batches), self._world_size):
            number = first + self._rank
            counts = number < len(self._batches)
            blocks = self._batches[number if counts else first]
            stacked = torch.stack([self._source.read(block) for block in blocks])
            inputs, targets = stacked[:, :-1].contiguous(), stacked[:, 1:].contiguous()
            yield ValidationBatch(number if counts else None, inputs, targets)


def rows_at_once(fields: Mapping[str, Any], precision: str) -> int:
    """Sequences that are evaluated in one forward pass.

    It depends only on the model, so that losses are the same for every `micro_batch_size`, and
    needs no more memory than one sequence in training, which stores the activations of every layer,
    while evaluation holds those of one layer at a time. Where all logits are held, the logits of a
    second sequence might be too much.

    Measured on a CPU, pythia-14m takes 111 ms per sequence of 256 tokens with its 3 rows, against
    132 with 1 and 114 with 4.

    Args:
        fields: LitGPT's `Config` as a dictionary.
    """
    return max(1, fields["n_layer"] // 2) if has_fused_loss(dict(fields), precision) else 1


def open_datasets(ctx: StageContext, recipe: Recipe) -> Datasets:
    """The recipe's datasets by reference, in its order, then those that are only evaluated."""
    datasets: Datasets = {}
    for ref in recipe.all_data:
        dataset = ctx.inputs[str(ref)]
        assert isinstance(dataset, TokenizedDataset)
        datasets[str(ref)] = dataset
    return datasets


def training_data(
    parts: list[Part], recipe: Recipe, starts: Positions, share: Share
) -> TrainingData:
    """The training batches of this process.

    Args:
        starts: Where each dataset is read from at step 0.

    Raises:
        PreflightError: the number of blocks differs from the record, or is zero.
    """
    length = recipe.sequence_length
    data = [(part.ref, part.dataset) for part in parts]
    sources = [open_split(dataset, "train", length, ref) for ref, dataset in data]
    for part, source in zip(parts, sources, strict=True):
        if len(source) != part.num_blocks or not part.num_blocks:
            raise PreflightError(
                f"{part.ref}: found {len(source):,} training blocks of {length:,} tokens on disk, "
                f"expected {part.num_blocks:,} from the record; at least one is needed"
            )
    assert recipe.data_seed is not None, "the planner fills it in"
    order = order_of(parts, recipe.data_seed, starts)
    return TrainingData(sources, order, recipe.global_batch_size, share)


def validation_data(
    recipe: Recipe, datasets: Datasets, share: Share, rows: int
) -> dict[str, ValidationData]:
    """The validation batches of this process by dataset; empty if nothing is evaluated.

    Args:
        rows: Sequences in a batch.

    Raises:
        PreflightError: a dataset has no validation split, or no block in it.
    """
    if recipe.evaluate is None:
        return {}
    found, length = {}, recipe.sequence_length
    for name, dataset in datasets.items():
        split = dataset.validation
        num_blocks = split.num_blocks(length) if split is not None else None
        for problem in evaluation_problems(recipe, name, num_blocks):
            raise PreflightError(str(problem))
        source = open_split(dataset, "validation", length, name)
        num_sequences = recipe.evaluate.num_sequences(len(source), length)
        found[name] = ValidationData(
            source, num_sequences, rows=rows, rank=share.rank, world_size=share.world_size
        )
    return found
