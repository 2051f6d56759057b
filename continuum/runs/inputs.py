"""The files that a stage reads, proved to be those of their record.

A file is hashed in the process that reads it, before it is used. Then its stamp (inode, size,
times) stands for its bytes, and is looked at again after each use; a file with another stamp is
hashed again. A write that leaves no trace in the stamp is not seen: through a memory mapping that
was made before, or, on a network's disk, by another machine whose write is not yet known here.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from continuum.errors import IntegrityError, rerun_hint
from continuum.runs.artifacts import Artifact, Checkpoint, TokenizedDataset
from continuum.runs.files import FileDigest, find_damage, stamp

SETTLED_S = 0.1
"""Age of a file's last change from which another would show: clocks tick every few milliseconds."""


class ProvedFiles:
    """Files below a folder that are hashed when they are first asked for, and after each change."""

    def __init__(self, ref: str, folder: Path, listed: Iterable[FileDigest]) -> None:
        """Nothing is read yet.

        Args:
            ref: How the spec names them, for messages.
        """
        self._ref = ref
        self._folder = folder
        self._listed = {file.path: file for file in listed}
        self._stamps: dict[str, str] = {}

    def prove(self, names: Iterable[str]) -> None:
        """Return when these files have the recorded bytes.

        Raises:
            IntegrityError: one is missing or differs, or has no record.
        """
        stamps = {name: self._stamp(name) for name in names}
        due = [
            name for name, found in stamps.items() if not found or found != self._stamps.get(name)
        ]
        if unknown := [name for name in due if name not in self._listed]:
            self._refuse(f"{unknown[0]} is not in its record")
        if damage := find_damage(self._folder, [self._listed[name] for name in due], read=True):
            self._refuse(damage[0])
        self._stamps |= {name: stamps[name] for name in due}

    def check_sizes(self) -> None:
        """Compare presence and size of all files, without reading them; raises IntegrityError."""
        if damage := find_damage(self._folder, self._listed.values(), read=False):
            self._refuse(damage[0])

    def are_unchanged(self, *names: str) -> bool:
        """True if these files were proved and surely have the same bytes still."""
        now = map(self._stamp, names)
        return all(it and it == self._stamps.get(name) for name, it in zip(names, now, strict=True))

    def prove_again(self) -> None:
        """Return when all that was proved so far still has the recorded bytes.

        Raises:
            IntegrityError: a file was changed while it was in use.
        """
        self.prove(tuple(self._stamps))

    def _stamp(self, name: str) -> str:
        """Empty for a file that may be changed again without a trace, or is not there."""
        try:
            status = os.stat(f"{self._folder}/{name}")  # noqa: PTH116 - for each block that is read
        except OSError:
            return ""
        age = time.time() - max(status.st_mtime, status.st_ctime)
        # Times that are still to come, as a server whose clock is ahead writes them, are as good.
        return "" if abs(age) < SETTLED_S else stamp(status)

    def _refuse(self, damage: str) -> None:
        remedy = rerun_hint(self._ref)
        raise IntegrityError(f"{self._ref}: {self._folder} is damaged: {damage}; {remedy}")


class InputsProof:
    """The proof that a stage's inputs are what their records say, before and after their use."""

    def __init__(
        self, inputs: Mapping[str, Artifact], *, is_training: bool, reads_models: bool = True
    ) -> None:
        """Nothing is read yet.

        Args:
            is_training: Whether token chunks are proved by the stage, as it opens them, since it
                may need only some; here their sizes must do.
            reads_models: False where another process of this machine reads the models.
        """
        self._inputs = inputs
        self._is_training, self._reads_models = is_training, reads_models
        self._proved: list[ProvedFiles] = []

    def first(self) -> None:
        """Read what the stage is about to read; raises IntegrityError."""
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
