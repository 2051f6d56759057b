"""kind: import - a tokenizer, weights, a dataset or texts that already lie on this machine."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from yaml import YAMLError

from continuum.errors import PreflightError
from continuum.experiment.architecture import Architecture, read_architecture
from continuum.experiment.stage import (
    Forecast,
    LocalPath,
    PlanInput,
    Problem,
    Ref,
    Stage,
    StageContext,
    Text,
    runtime_field,
)
from continuum.runs.artifacts import (
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    Artifact,
    Corpus,
    ModelWeights,
    TokenizedDataset,
    TokenizerFiles,
    copy_tokenizer,
)
from continuum.runs.events import ByteProgress
from continuum.runs.files import FileDigest, hash_file, hash_tree, link_or_copy
from continuum.runs.folder import ExperimentFolder
from continuum.sources.globs import FoundFiles, LocalFile
from continuum.sources.local_files import copy_file, find_files
from continuum.sources.model_files import check_model_files
from continuum.sources.source_files import (
    UNIX_NEWLINES,
    Reading,
    TextFiles,
    choose_texts,
    kept_name,
)
from continuum.sources.token_chunks import ChunkFolder, read_chunk_folder
from continuum.text.unsupported_tokenizers import folder_problem, vocabulary_problem

WEIGHT_NAMES = ("lit_model.pth", "model_config.yaml")
HUB_CONFIG = "config.json"
"""Taken in with weights where it is there: LitGPT's config does not say whether they are tied."""
FIELDS_OF_ONE = {
    "tokenizer": ("dataset", "only a dataset names its tokenizer"),
    "format": ("corpus", "only a corpus has a format"),
    "text_field": ("corpus", "only a corpus has a text_field"),
    "missing": ("corpus", "only a corpus has lines whose text may be missing"),
    "newlines": ("corpus", "only a corpus has newlines to read"),
    "tied": ("weights", "only weights have tied embeddings or not"),
}
"""What only one `as` may state."""
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val")}
TYPES: dict[str, tuple[type[Artifact], ...]] = {
    "tokenizer": (TokenizerFiles,),
    # Whether a tokenizer lies beside the weights is not known before the folder is read; the same
    # folder can be imported `as: tokenizer` too.
    "weights": (ModelWeights,),
    "dataset": (TokenizedDataset,),
    "corpus": (Corpus,),
}


class Import(Stage):
    """Take in local files: checked, kept in the run folder, hashed."""

    kind: Literal["import"] = "import"
    path: LocalPath = Field(examples=["checkpoints/EleutherAI/pythia-160m", "books/*.txt"])
    """A folder (for `corpus` also a file or a glob). Its bytes count, not its place. Of a corpus'
    folder what is hidden, generated or about the data (README, LICENSE) is left, and the rest is of
    one format; a pattern, as `data/**/*.jsonl`, takes what it names."""
    as_: Literal["tokenizer", "weights", "dataset", "corpus"] = Field(alias="as")
    """What is there: a tokenizer, a LitGPT checkpoint of weights, litdata token chunks, texts."""
    tokenizer: Ref[TokenizerFiles] | None = None
    """For `dataset`, and needed there: the tokenizer that made the tokens."""
    format: Literal["txt", "md", "py", "jsonl"] | None = None
    """For `corpus`: `txt`, `md`, `py` or `jsonl`. Default: what each file's suffix says."""
    encoding: str = Field("utf-8", examples=["utf-8", "latin-1", "cp1252"])
    """For `corpus`: the text's encoding, as Python names it; never guessed."""
    text_field: str | None = Field(None, examples=["text", "content"])
    """For `corpus` in `jsonl`: the key that holds the text, or a path of keys: `message.content`.
    Default: `text`."""
    missing: Literal["error", "skip"] | None = None
    """For `corpus` in `jsonl`, what becomes of a line whose text is null or missing: `skip` leaves
    it out and counts it. Default: `error`."""
    newlines: Literal["unix", "keep"] | None = None
    """For `corpus`: `unix` reads CRLF and a lone CR as one newline, as Python and LitGPT do; `keep`
    leaves them in the text. The file keeps its bytes. Default: `unix`."""
    tied: bool | None = None
    """For `weights`: whether the embedding and the output layer are one tensor. Default: what
    `config.json` beside them says, or what the model of this name is on the Hub."""
    link: bool = runtime_field(False)
    """Hard-link the files instead of copying them, where the disk can. Saves room, but an edit of
    the original in place then damages the artifact."""

    checks_local_inputs: ClassVar[bool] = True
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (
            UNIX_NEWLINES,
            "of a folder of texts, what describes them (README, LICENSE) and what programs "
            "generate is left",
        )
    }

    @property
    def own_version(self) -> int:
        """Only what it makes of texts has changed since the first version."""
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
            message = "a dataset needs the tokenizer that made it, to know what its ids mean"
            yield Problem(("tokenizer",), message, "tokenizer: <the stage that has it>")
        for name, (kind, message) in FIELDS_OF_ONE.items():
            if self.as_ != kind and getattr(self, name) is not None:
                yield Problem((name,), f"{message}, not {self.as_}")
        yield from self._reading.problems()

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        try:
            return {file.name: file.path for file in self._files(experiment_folder).files}
        except PreflightError:  # the forecast says so
            return {}

    def texts(self, files: Mapping[str, str | None], pins: Mapping[str, str]) -> tuple[Text, ...]:
        if self.as_ != "corpus":
            return ()
        return tuple(Text(name, digest) for name, digest in files.items()) or (
            Text(str(self.path)),
        )

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        try:
            return self._forecast(experiment_folder)
        except PreflightError as error:
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
        if self.as_ in ("tokenizer", "weights"):
            copy_tokenizer(self.path.resolve(ctx.experiment_folder), ctx.output_dir)
            check_model_files(ctx.output_dir / file.name for file in found)
        artifact = self._artifact(ctx, found)
        # Of a linked file, what was compared is published, whatever becomes of the original.
        listed = hash_tree(ctx.output_dir, known=kept.values())
        return artifact.model_copy(update={"files": listed})

    def _artifact(self, ctx: StageContext, found: Sequence[LocalFile]) -> Artifact:
        folder, source = ctx.output_dir, str(self.path)
        if self.as_ == "tokenizer":
            from continuum.text.inspection import accept_tokenizer

            return accept_tokenizer(folder, source, ctx.report, source=source)
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
        """The files to take in, named as below `path`."""
        root = self.path.resolve(experiment_folder)
        if self.as_ == "corpus":
            runs = ExperimentFolder(experiment_folder).runs_dir
            if root.is_dir():
                return choose_texts(str(self.path), root, self.format, excluded=runs)
            return find_files(str(self.path), experiment_folder, excluded=runs)
        if not root.is_dir():
            raise PreflightError(f"{self.path} is not a folder (looked for {root})")
        if self.as_ == "dataset":
            return FoundFiles(tuple(_dataset_files(root)))
        needed = WEIGHT_NAMES if self.as_ == "weights" else ()
        names = (*needed, HUB_CONFIG, *TOKENIZER_FILES) if needed else TOKENIZER_FILES
        return FoundFiles(tuple(_present(root, str(self.path), names, needed)))

    def _forecast(self, experiment_folder: Path) -> Forecast:
        found = self._files(experiment_folder)
        if self.as_ in ("tokenizer", "weights"):
            check_model_files(file.path for file in found.files)
        if self.as_ == "weights":
            (config,) = (file for file in found.files if file.name == "model_config.yaml")
            return Forecast(architecture=_architecture(config.path, self.tied))
        if self.as_ == "dataset":
            splits = _splits(self.path.resolve(experiment_folder))
            return Forecast(
                max_tokens={name: split.num_tokens for name, split in splits.items()},
                has_validation="validation" in splits,
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
        return Forecast()


def _architecture(model_config: Path, tied: bool | None) -> Architecture:
    try:
        return read_architecture(model_config, tied=tied)
    # What LitGPT's reader raises for a file that is no config of its own.
    except (AssertionError, AttributeError, OSError, TypeError, ValueError, YAMLError) as error:
        raise PreflightError(
            f"{model_config}: not a LitGPT model config ({error}); it comes with the checkpoint"
        ) from error


def _present(
    root: Path, source: str, names: tuple[str, ...], needed: tuple[str, ...]
) -> list[LocalFile]:
    found = [LocalFile(name, root / name) for name in names if (root / name).is_file()]
    missing = [name for name in needed if not (root / name).is_file()]
    if missing:
        raise PreflightError(
            f"{root}: {missing[0]} is missing; a LitGPT checkpoint folder holds "
            f"{' and '.join(needed)}"
        )
    if not found:
        raise PreflightError(f"{source}: {folder_problem(root).replace(str(root), source)}")
    for file in [file for file in found if file.name in VOCABULARY_FILES][:1]:
        if problem := vocabulary_problem(file.path):
            raise PreflightError(f"{source}/{file.name} {problem}")
    return found


def _splits(root: Path) -> dict[str, ChunkFolder]:
    """The token chunks of each split that is there."""
    found: dict[str, ChunkFolder] = {}
    for split, names in SPLIT_FOLDERS.items():
        present = [root / name for name in names if (root / name / "index.json").is_file()]
        if len(present) > 1:
            raise PreflightError(f"{root}: both {names[0]} and {names[1]} are there; keep one")
        if present:
            found[split] = read_chunk_folder(present[0])
    if "train" not in found:
        raise PreflightError(
            f"{root / 'train' / 'index.json'} is missing; a litdata dataset has one for each split"
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
            raise PreflightError(f"{file.path} is missing; copy the dataset again")
    return found


def _import_weights(ctx: StageContext, source: str, tied: bool | None) -> ModelWeights:
    from continuum.text.inspection import accept_tokenizer
    from continuum.training.litgpt import check_weights
    from continuum.training.weights import check_tied

    folder = ctx.output_dir
    check_weights(folder, source)
    shape = _architecture(folder / "model_config.yaml", tied)
    if shape.tied:
        check_tied(folder, source)
    has_tokenizer = any((folder / name).is_file() for name in VOCABULARY_FILES)
    tokenizer = (
        accept_tokenizer(folder, source, ctx.report, source=source) if has_tokenizer else None
    )
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
