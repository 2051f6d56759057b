"""Verify the checksums of the files that a stage reads.

A file is hashed in the process that reads it, before it is used. From then on its stamp (inode,
size, times) identifies its content and is checked after each use; a file with another stamp is
hashed again. A write that does not change the stamp goes unnoticed: through an earlier memory
mapping, or, on a network file system, by another machine whose write is not yet visible here.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from continuum.errors import IntegrityError, rerun_hint
from continuum.runs.artifacts import Artifact, Checkpoint, TokenizedDataset
from continuum.runs.files import FileDigest, find_damage, stamp

SETTLED_S = 0.1
"""Age of a file's last change after which another changes its times: clocks tick every few ms."""


class ProvedFiles:
    """Files below a folder that are hashed on first use and after each change."""

    def __init__(self, ref: str, folder: Path, listed: Iterable[FileDigest]) -> None:
        """Read nothing yet.

        Args:
            ref: The reference in the spec, for messages.
        """
        self._ref = ref
        self._folder = folder
        self._listed = {file.path: file for file in listed}
        self._stamps: dict[str, str] = {}

    def prove(self, names: Iterable[str]) -> None:
        """Verify the checksums of these files.

        Raises:
            IntegrityError: one is missing, differs from its record, or has none.
        """
        stamps = {name: self._stamp(name) for name in names}
        due = [
            name for name, found in stamps.items() if not found or found != self._stamps.get(name)
        ]
        if unknown := [name for name in due if name not in self._listed]:
            self._refuse(f"{unknown[0]} is not recorded")
        if damage := find_damage(self._folder, [self._listed[name] for name in due], read=True):
            self._refuse(damage[0])
        self._stamps |= {name: stamps[name] for name in due}

    def check_sizes(self) -> None:
        """Check the presence and size of all files without reading them; raises IntegrityError."""
        if damage := find_damage(self._folder, self._listed.values(), read=False):
            self._refuse(damage[0])

    def are_unchanged(self, *names: str) -> bool:
        """Whether these files were verified and have surely not changed since."""
        now = map(self._stamp, names)
        return all(it and it == self._stamps.get(name) for name, it in zip(names, now, strict=True))

    def prove_again(self) -> None:
        """Verify again all files verified so far.

        Raises:
            IntegrityError: a file was changed while it was in use.
        """
        self.prove(tuple(self._stamps))

    def _stamp(self, name: str) -> str:
        """The stamp; empty if the file is missing, or another change might not show in it."""
        try:
            status = os.stat(f"{self._folder}/{name}")  # noqa: PTH116 - for each block that is read
        except OSError:
            return ""
        age = time.time() - max(status.st_mtime, status.st_ctime)
        # Times in the future, from a server whose clock is ahead, are just as good.
        return "" if abs(age) < SETTLED_S else stamp(status)

    def _refuse(self, damage: str) -> None:
        remedy = rerun_hint(self._ref)
        raise IntegrityError(f"{self._ref}: {self._folder} is corrupt: {damage}; {remedy}")


class InputsProof:
    """Verifies the inputs of a stage before and after their use."""

    def __init__(
        self, inputs: Mapping[str, Artifact], *, is_training: bool, reads_models: bool = True
    ) -> None:
        """Read nothing yet.

        Args:
            is_training: Whether the stage itself verifies token chunks when it opens them, since it
                may need only some; here only their sizes are checked.
            reads_models: False where another process of this machine reads the models.
        """
        self._inputs = inputs
        self._is_training, self._reads_models = is_training, reads_models
        self._proved: list[ProvedFiles] = []

    def first(self) -> None:
        """Verify what the stage is about to read; raises IntegrityError."""
        for ref, artifact in self._inputs.items():
            files = ProvedFiles(ref, artifact.path, artifact.files)
            files.check_sizes()
            if self._reads_models or not isinstance(artifact, Checkpoint):
                names = (file.path for file in artifact.files)
                files.prove(
                    [n for n in names if not (self._is_training and _is_chunk(artifact, n))]
                )
            self._proved.append(files)

    def again(self) -> None:
        """Raise IntegrityError if a file was changed after it was read."""
        for files in self._proved:
            files.prove_again()


def _is_chunk(artifact: Artifact, file: str) -> bool:
    folder, _, name = file.partition("/")
    is_of_split = folder in ("train", "validation") and name != "index.json"
    return isinstance(artifact, TokenizedDataset) and is_of_split
