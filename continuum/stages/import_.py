"""kind: import - add a tokenizer, weights, a dataset or texts from this machine."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from yaml import YAMLError

from continuum.errors import IntegrityError, PreflightError, Problem
from continuum.experiment.architecture import Architecture, read_architecture
from continuum.experiment.fields import LocalPath, Ref, runtime_field
from continuum.experiment.forecast import Forecast, Text, Vocabulary
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.runs.artifacts import (
    CONFIG_FILE,
    SHARDS_DIR,
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    WEIGHTS_FILE,
    Artifact,
    Corpus,
    ModelWeights,
    TokenizedDataset,
    TokenizerFiles,
    copy_tokenizer,
)
from continuum.runs.events import ByteProgress
from continuum.runs.files import FileDigest, hash_file, hash_tree, link_or_copy, sha256_file
from continuum.runs.folder import ExperimentFolder
from continuum.sources.globs import NO_FOLDER, FoundFiles, LocalFile, mode_of, why_no_folder
from continuum.sources.local_files import copy_file, find_files, naming_originals
from continuum.sources.model_files import (
    check_model_files,
    refuse_training_checkpoint,
    tensor_shapes,
)
from continuum.sources.source_files import (
    UNIX_NEWLINES,
    Reading,
    TextFiles,
    choose_texts,
    kept_name,
)
from continuum.sources.token_chunks import ChunkFolder, read_chunk_folder
from continuum.text.unsupported_tokenizers import folder_problem, vocabulary_problem

WEIGHT_NAMES = (WEIGHTS_FILE, CONFIG_FILE)
HUB_CONFIG = "config.json"
"""Imported with weights if it exists: LitGPT's config does not say whether they are tied."""
FIELDS_OF_ONE = {
    "tokenizer": ("dataset", "`tokenizer` only applies to a dataset"),
    "format": ("corpus", "`format` only applies to a corpus"),
    "text_field": ("corpus", "`text_field` only applies to a corpus"),
    "missing": ("corpus", "`missing` only applies to a corpus"),
    "newlines": ("corpus", "`newlines` only applies to a corpus"),
    "tied": ("weights", "`tied` only applies to weights"),
}
"""Fields that apply to one `as` only."""
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val")}
TYPES: dict[str, tuple[type[Artifact], ...]] = {
    "tokenizer": (TokenizerFiles,),
    # Whether a tokenizer is beside the weights is known once the folder is read: the plan checks
    # the stages that name it.
    "weights": (ModelWeights, TokenizerFiles),
    "dataset": (TokenizedDataset,),
    "corpus": (Corpus,),
}


class Import(Stage):
    """Import local files: check them, copy them into the run folder, and hash them."""

    kind: Literal["import"] = "import"
    path: LocalPath = Field(examples=["checkpoints/EleutherAI/pythia-160m", "books/*.txt"])
    """A folder, or for `corpus` also a file or a glob. Only the content matters, not the location.
    In a corpus folder, hidden and generated files and those that describe data (README, LICENSE)
    are skipped, and the rest must have one format; a pattern such as `data/**/*.jsonl` selects
    files."""
    as_: Literal["tokenizer", "weights", "dataset", "corpus"] = Field(alias="as")
    """What to import: a tokenizer, LitGPT weights, litdata token chunks, or texts. A tokenizer
    beside the weights comes with them: other stages can name the import as either."""
    tokenizer: Ref[TokenizerFiles] | None = None
    """For `dataset`, required: the tokenizer that produced the tokens."""
    format: Literal["txt", "md", "py", "jsonl"] | None = None
    """For `corpus`: `txt`, `md`, `py` or `jsonl`. Default: by each file's suffix."""
    encoding: str = Field("utf-8", examples=["utf-8", "latin-1", "cp1252"])
    """For `corpus`: the text encoding, as named in Python; never guessed."""
    text_field: str | None = Field(None, examples=["text", "content"])
    """For `corpus` in `jsonl`: the key of the text, or a path of keys: `message.content`. Default:
    `text`."""
    missing: Literal["error", "skip"] | None = None
    """For `corpus` in `jsonl`, how to treat a line whose text is null or missing: `skip` skips and
    counts it. Default: `error`."""
    newlines: Literal["unix", "keep"] | None = None
    """For `corpus`: `unix` converts CRLF and lone CR to newlines, as Python and LitGPT do; `keep`
    keeps them in the text. The stored file is not changed. Default: `unix`."""
    tied: bool | None = None
    """For `weights`: whether the embedding and the output layer share one tensor. Default: as in
    the `config.json` beside them, or in the model of this name on the Hub."""
    link: bool = runtime_field(False)
    """Hard-link the files instead of copying them, if the file system can. Saves disk space, but
    editing the original in place then corrupts the artifact."""

    aliases: ClassVar[tuple[str, ...]] = ("local", "load", "from_path", "checkpoint", "copy")
    refused: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("repo", "revision"), "use `kind: download` for a repository of the Hub"),
        "files": "`as` says what to import",
        "url": "use `kind: fetch` for texts of a URL",
        "sources": "use `kind: fetch` for texts of several places, and `path` for one folder",
    }
    checks_local_inputs: ClassVar[bool] = True
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            UNIX_NEWLINES,
            "in a folder of texts, files that describe data (README, LICENSE) and generated files "
            "are skipped",
        )
    }

    @property
    def own_version(self) -> int:
        """Only the import of texts has changed since the first version."""
        return self.version if self.as_ == "corpus" else 1

    def identity(self) -> dict[str, Any]:
        payload = super().identity()
        if self.as_ == "corpus":
            payload |= {"missing": self._reading.missing, "newlines": self._reading.newlines}
        return payload

    def output_types(self) -> tuple[type[Artifact], ...]:
        return TYPES[self.as_]

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        if self.as_ == "dataset" and self.tokenizer is None:
            message = "a dataset requires the tokenizer that produced its ids"
            yield Problem(("tokenizer",), message, "tokenizer: <name of its stage>")
        for name, (kind, message) in FIELDS_OF_ONE.items():
            if self.as_ != kind and getattr(self, name) is not None:
                yield Problem((name,), f"{message}, not {self.as_}")
        yield from self._reading.problems()

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        try:
            return {file.name: file.path for file in self._files(experiment_folder).files}
        except PreflightError:  # reported by the forecast
            return {}

    def texts(self, files: Mapping[str, str | None], pins: Mapping[str, str]) -> tuple[Text, ...]:
        if self.as_ != "corpus":
            return ()
        return tuple(Text(name, digest) for name, digest in files.items()) or (
            Text(str(self.path)),
        )

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        root = self.path.resolve(experiment_folder)
        # Where nothing is found, its place is what helps.
        originals = {str(root): str(self.path)} if why_no_folder(root) is None else {}
        try:
            with naming_originals(originals):
                return self._forecast(inputs, experiment_folder)
        except (IntegrityError, PreflightError) as error:
            return Forecast(problems=(Problem(("path",), str(error), needs="folder"),))

    def run(self, ctx: StageContext) -> Artifact:
        found = self._files(ctx.experiment_folder).files
        total = sum(file.path.stat().st_size for file in found)
        progress = ByteProgress(ctx.report, num_files=len(found), total=total)
        is_corpus = self.as_ == "corpus"
        kept: dict[str, FileDigest] = {}
        for number, file in enumerate(found):
            name = kept_name(number, file.name) if is_corpus else file.name
            if self.link:
                link_or_copy(file.path, ctx.output_dir / name)
            else:
                copy_file(file.path, ctx.output_dir / name, progress.update)
            progress.next_file()
            kept[file.name] = hash_file(ctx.output_dir / name, ctx.output_dir)
        progress.finish()
        ctx.check_files({name: file.sha256 for name, file in kept.items()})
        with naming_originals(self._originals(ctx.output_dir, found)):
            if self.as_ in ("tokenizer", "weights"):
                copy_tokenizer(self.path.resolve(ctx.experiment_folder), ctx.output_dir)
                check_model_files(ctx.output_dir / file.name for file in found)
            artifact = self._artifact(ctx, found)
        # The compared digests are published, even if the original of a link changes later.
        listed = hash_tree(ctx.output_dir, known=kept.values())
        return artifact.model_copy(update={"files": listed})

    def _originals(self, folder: Path, found: Sequence[LocalFile]) -> dict[str, str]:
        """The path that the user knows, by how errors name a copy."""
        if self.as_ != "corpus":
            return {str(folder): str(self.path)}
        return {
            f"{folder / kept_name(number, file.name)} ({file.name})": str(file.path)
            for number, file in enumerate(found)
        }

    def _artifact(self, ctx: StageContext, found: Sequence[LocalFile]) -> Artifact:
        folder, source = ctx.output_dir, str(self.path)
        if self.as_ == "tokenizer":
            from continuum.text.inspection import accept_tokenizer

            return accept_tokenizer(folder, ctx.report, source=source)
        if self.as_ == "weights":
            return _import_weights(ctx, source, self.tied)
        if self.as_ == "corpus":
            from continuum.text.checking import checked_corpus

            names = ((kept_name(number, file.name), file.name) for number, file in enumerate(found))
            items = (self._reading.item(folder / kept, source=n, name=n) for kept, n in names)
            return checked_corpus(folder, items)
        assert self.tokenizer is not None, "checked when the spec was loaded"
        return _import_dataset(folder, ctx.artifact(self.tokenizer))

    @property
    def _reading(self) -> Reading:
        missing, newlines = self.missing or "error", self.newlines or "unix"
        return Reading(self.format, self.encoding, self.text_field, missing, newlines)

    def _files(self, experiment_folder: Path) -> FoundFiles:
        """The files to import, with their names below `path`."""
        root = self.path.resolve(experiment_folder)
        if self.as_ == "corpus":
            runs = ExperimentFolder(experiment_folder).runs_dir
            if stat.S_ISDIR(mode_of(root)):
                return choose_texts(str(self.path), root, self.format, excluded=runs)
            return find_files(str(self.path), experiment_folder, excluded=runs)
        if stat.S_ISREG(mode_of(root)):
            above = self.path.rpartition("/")[0] or "."
            its = f"its folder, {above}" if self.as_ != "dataset" else "the folder that has `train`"
            raise PreflightError(f"{self.path} is a file; name {its}")
        if problem := why_no_folder(root):
            why = ": no such folder" if problem == NO_FOLDER else f" {problem}"
            raise PreflightError(f"{self.path}{why} (resolved to {root})")
        if self.as_ == "dataset":
            return FoundFiles(tuple(_dataset_files(root)))
        needed = WEIGHT_NAMES if self.as_ == "weights" else ()
        names = (*needed, HUB_CONFIG, *TOKENIZER_FILES) if needed else TOKENIZER_FILES
        return FoundFiles(tuple(_present(root, str(self.path), names, needed)))

    def _forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        found = self._files(experiment_folder)
        if self.as_ == "dataset":
            splits = _splits(self.path.resolve(experiment_folder))
            for split in splits.values():
                split.check_sizes()
            assert self.tokenizer is not None, "checked when the spec was loaded"
            return Forecast(
                max_tokens={name: split.num_tokens for name, split in splits.items()},
                has_validation="validation" in splits,
                vocabulary=inputs[self.tokenizer].vocabulary,
            )
        if self.as_ == "corpus":
            texts = TextFiles(found, self._reading).checked()
            return Forecast(
                facts={"files": len(found.files)},
                warnings=texts.warnings,
                notes=(texts.note,),
                taken_files=texts.taken,
                left_files=texts.left,
                max_text_bytes=texts.max_text_bytes,
            )
        if self.as_ == "weights":
            refuse_training_checkpoint(self.path.resolve(experiment_folder) / WEIGHTS_FILE)
        check_model_files(file.path for file in found.files)
        used = next((file.path for file in found.files if file.name in VOCABULARY_FILES), None)
        vocabulary = Vocabulary(sha256_file(used)) if used is not None else None
        if self.as_ == "tokenizer":
            return Forecast(vocabulary=vocabulary)
        return Forecast(
            architecture=self._stored_architecture(experiment_folder),
            has_tokenizer=vocabulary is not None,
            vocabulary=vocabulary,
        )

    def _stored_architecture(self, experiment_folder: Path) -> Architecture:
        """The model of a folder of weights.

        Raises:
            PreflightError: they are of another model than their config.
        """
        weights, config = (self.path.resolve(experiment_folder) / name for name in WEIGHT_NAMES)
        shape, stored = _architecture(config, self.tied), tensor_shapes(weights)
        problem = shape.mismatch(stored) if stored is not None else None
        if problem is not None:
            raise PreflightError(
                f"{weights} does not match {config.name}: {problem}; use the {config.name} that "
                "belongs to these weights"
            )
        return shape


def _architecture(model_config: Path, tied: bool | None) -> Architecture:
    try:
        return read_architecture(model_config, tied=tied)
    # The errors of LitGPT's reader for an invalid config.
    except (AssertionError, AttributeError, OSError, TypeError, ValueError, YAMLError) as error:
        raise PreflightError(
            f"{model_config}: not a valid LitGPT model config ({error}); use the checkpoint's own"
        ) from error


def _present(
    root: Path, source: str, names: tuple[str, ...], needed: tuple[str, ...]
) -> list[LocalFile]:
    found = [LocalFile(name, root / name) for name in names if (root / name).is_file()]
    vocabularies = [file for file in found if file.name in VOCABULARY_FILES]
    missing = [name for name in needed if not (root / name).is_file()]
    if missing:
        raise PreflightError(f"{source}/{missing[0]} not found; {_where_weights_are(root, source)}")
    if not needed and not vocabularies:
        raise PreflightError(f"{source}: {folder_problem(root).replace(str(root), source)}")
    for file in vocabularies[:1]:
        if problem := vocabulary_problem(file.path):
            raise PreflightError(f"{source}/{file.name} {problem}")
    return found


def _where_weights_are(root: Path, source: str) -> str:
    """What to do about a folder that has no complete weights."""
    if (root / SHARDS_DIR).is_dir():
        return (
            "this is a sharded training checkpoint; extract its weights with `kind: convert` in "
            "the experiment that made it, and import the output of that stage"
        )
    below = sorted(path.parent.name for path in root.glob(f"*/{WEIGHTS_FILE}"))
    if below:
        return f"name a folder below it that has one, for example {source}/{below[-1]}"
    return f"a LitGPT checkpoint folder contains {' and '.join(WEIGHT_NAMES)}"


def _splits(root: Path) -> dict[str, ChunkFolder]:
    found: dict[str, ChunkFolder] = {}
    for split, names in SPLIT_FOLDERS.items():
        present = [root / name for name in names if (root / name / "index.json").is_file()]
        if len(present) > 1:
            raise PreflightError(f"{root}: found both {names[0]} and {names[1]}; keep one of them")
        if present:
            found[split] = read_chunk_folder(present[0])
    if "train" not in found:
        raise PreflightError(
            f"{root / 'train' / 'index.json'} not found; a litdata dataset has one per split"
        )
    return found


def _dataset_files(root: Path) -> list[LocalFile]:
    found = [
        LocalFile(f"{name}/{file}", split.path / file)
        for name, split in _splits(root).items()
        for file in ("index.json", *(chunk.name for chunk in split.chunks))
    ]
    for file in found:
        if not file.path.is_file():
            raise PreflightError(f"{file.path} not found; copy the dataset again")
    return found


def _import_weights(ctx: StageContext, source: str, tied: bool | None) -> ModelWeights:
    from continuum.text.inspection import accept_tokenizer
    from continuum.training.litgpt import check_weights
    from continuum.training.weights import check_tied

    folder = ctx.output_dir
    check_weights(folder)
    shape = _architecture(folder / CONFIG_FILE, tied)
    if shape.tied:
        check_tied(folder)
    has_tokenizer = any((folder / name).is_file() for name in VOCABULARY_FILES)
    tokenizer = accept_tokenizer(folder, ctx.report, source=source) if has_tokenizer else None
    return ModelWeights.from_elsewhere(folder, shape.fields, tokenizer, tied=shape.tied)


def _import_dataset(folder: Path, tokenizer: TokenizerFiles) -> TokenizedDataset:
    copy_tokenizer(tokenizer.path, folder / "tokenizer")
    splits = _splits(folder)
    for split in splits.values():
        split.check(tokenizer.num_ids)
    validation = splits.get("validation")
    return TokenizedDataset(
        path=folder,
        train=splits["train"].split(),
        validation=validation.split() if validation is not None else None,
        dtype=splits["train"].dtype,
        num_ids=tokenizer.num_ids,
        vocabulary_digest=tokenizer.vocabulary_digest,
        document="unknown",
        backend="imported",
    )
