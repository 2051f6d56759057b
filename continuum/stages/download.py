"""kind: download - get a tokenizer, weights or both from the Hugging Face Hub, at one commit."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from continuum.errors import PreflightError, Problem
from continuum.experiment.architecture import (
    Architecture,
    architecture,
    read_architecture,
    suggest_model,
)
from continuum.experiment.forecast import Forecast, Vocabulary
from continuum.experiment.model_fields import ModelName
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.runs.artifacts import (
    CONFIG_FILE,
    VOCABULARY_FILES,
    Artifact,
    ModelWeights,
    TokenizerFiles,
    tokenizer_files,
)
from continuum.runs.events import ByteProgress
from continuum.runs.files import link_or_copy
from continuum.sources.local_files import naming_originals
from continuum.sources.model_files import check_model_files
from continuum.sources.source_files import sum_known
from continuum.text.unsupported_tokenizers import unsupported_tokenizer

if TYPE_CHECKING:  # the HTTP client takes a while to import, and plans need none
    from continuum.sources.hub import HubFile, HubRevision

COMMIT = re.compile(r"[0-9a-f]{40}")
PARTIAL_DIR = "partial"
"""In the run folder, beside `output/`: received files, so that a killed download resumes."""
WEIGHT_PATTERNS = (
    r"model(-\d+-of-\d+)?\.safetensors",
    r"pytorch_model(-\d+-of-\d+)?\.bin",
)
"""Safetensors first: the same weights, and loading them executes no code."""
INDEX_NAMES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
CONFIG_NAME = "config.json"


class Download(Stage):
    """Download files of a Hub repository; weights are converted to LitGPT's layout."""

    kind: Literal["download"] = "download"
    repo: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        examples=["EleutherAI/pythia-160m"],
    )
    """The repository, `organisation/name`."""
    revision: str = Field("main", min_length=1, examples=["main", "v1.0"])
    """A branch, tag or commit. A branch may move: the resolved commit is recorded."""
    files: Literal["tokenizer", "weights", "all"]
    """What to download; `all` is both."""
    model: ModelName | None = None
    """LitGPT's name of the model; required for weights if the repository's name is not one."""

    tied: bool | None = None
    """For weights: whether the embedding and the output layer share one tensor. Default: as in the
    repository's `config.json`."""

    aliases: ClassVar[tuple[str, ...]] = (
        "hf", "huggingface", "hub", "from_hub", "hf_hub", "from_pretrained", "pretrained", "pull",
    )  # fmt: skip
    refused: ClassVar[Mapping[str, str]] = {
        "path": "use `kind: import` for a folder of this machine",
        "url": "use `kind: fetch` for texts, and `repo` for a model of the Hub",
        "as": "`files` says what to download",
    }

    @property
    def wants_weights(self) -> bool:
        return self.files != "tokenizer"

    @property
    def wants_tokenizer(self) -> bool:
        return self.files != "weights"

    @property
    def model_name(self) -> str:
        """LitGPT's name of the model."""
        return self.model if self.model is not None else self.repo.partition("/")[2]

    def output_types(self) -> tuple[type[Artifact], ...]:
        types: dict[str, tuple[type[Artifact], ...]] = {
            "tokenizer": (TokenizerFiles,),
            "weights": (ModelWeights,),
            "all": (ModelWeights, TokenizerFiles),
        }
        return types[self.files]

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        if self.model is not None and not self.wants_weights:
            yield Problem(("model",), "`model` has no effect on a tokenizer; remove it")
        if self.tied is not None and not self.wants_weights:
            yield Problem(("tied",), "`tied` has no effect on a tokenizer; remove it")
        if self.wants_weights and self._architecture() is None:
            closest = suggest_model(self.model_name)
            yield Problem(
                ("repo",),
                f"LitGPT has no model {self.model_name!r}; set `model` to LitGPT's name",
                f"model: {closest}" if closest else None,
            )

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        return Forecast(
            architecture=self._architecture() if self.wants_weights else None,
            vocabulary=Vocabulary() if self.wants_tokenizer else None,
        )

    @property
    def _source(self) -> str:
        return f"{self.repo}@{self.revision}"

    def unpinned(self, pins: Mapping[str, str]) -> Iterator[Problem]:
        if COMMIT.fullmatch(self.revision) or self._source in pins:
            return
        yield Problem(
            ("revision",) if "revision" in self.model_fields_set else ("repo",),
            f"revision {self.revision!r} may move to another commit",
            "set the 40 hexadecimal digits of a commit, or commit the continuum.lock that a run "
            "writes",
        )

    def pins(self, artifact: Artifact) -> dict[str, str]:
        commit = getattr(artifact, "commit", None)
        return {self._source: commit} if commit is not None else {}

    def renew_pins(self) -> dict[str, str]:
        from continuum.sources.hub import resolve

        return {self._source: resolve(self.repo, self.revision).commit}

    def run(self, ctx: StageContext) -> Artifact:
        from continuum.sources.hub import fetch_file, resolve

        revision = resolve(self.repo, ctx.record.pins.get(self._source, self.revision))
        partial_dir = ctx.run.path / PARTIAL_DIR / revision.commit
        wanted = self._select(revision, partial_dir)
        total = sum_known(file.size_bytes for file in wanted)
        progress = ByteProgress(ctx.report, num_files=len(wanted), total=total)
        for file in wanted:
            fetch_file(revision, file, partial_dir, on_progress=progress.update)
            _check(partial_dir / file.name, revision)
            link_or_copy(partial_dir / file.name, ctx.output_dir / file.name)
            progress.next_file()
        progress.finish()
        try:
            with naming_originals({str(ctx.output_dir): str(revision)}):
                artifact = self._finish(ctx, revision)
        except PreflightError:  # which the same files would cause again
            shutil.rmtree(partial_dir.parent, ignore_errors=True)
            raise
        shutil.rmtree(partial_dir.parent, ignore_errors=True)
        return artifact

    def _finish(self, ctx: StageContext, revision: "HubRevision") -> Artifact:
        folder, tokenizer = ctx.output_dir, None
        origin = {"repo": revision.repo, "commit": revision.commit}
        if self.wants_tokenizer:
            from continuum.text.inspection import accept_tokenizer

            tokenizer = accept_tokenizer(folder, ctx.report, **origin)
        if not self.wants_weights:
            assert tokenizer is not None, "`files` asks for a tokenizer or weights"
            return tokenizer
        shape = _convert(folder, self.model_name, self.tied)
        return ModelWeights.from_elsewhere(
            folder, shape.fields, tokenizer, tied=shape.tied, **origin
        )

    def _select(self, revision: "HubRevision", partial_dir: Path) -> "list[HubFile]":
        wanted = _tokenizer_files(revision) if self.wants_tokenizer else []
        if self.wants_weights:
            wanted += [file for file in revision.files if file.name == CONFIG_NAME]
            wanted += _weight_files(revision, partial_dir)
        return wanted

    def _architecture(self) -> Architecture | None:
        try:
            return architecture(self.model_name, tied=self.tied)
        except ValueError:
            return None


def _check(arrived: Path, revision: "HubRevision") -> None:
    try:
        with naming_originals({str(arrived): f"{revision}: {arrived.name}"}):
            check_model_files((arrived,))
    except PreflightError:
        arrived.unlink()  # so that the next attempt downloads it again
        raise


def _tokenizer_files(revision: "HubRevision") -> "list[HubFile]":
    files = {file.name: file for file in revision.files}
    found = [files[name] for name in tokenizer_files(files)]
    if not any(file.name in VOCABULARY_FILES for file in found):
        foreign = unsupported_tokenizer((file.name for file in revision.files), revision.repo)
        raise PreflightError(
            f"{revision}: tokenizer.json (or tokenizer.model) not found; use a repository "
            f"that has one (a model's base model often does){f'. {foreign}' if foreign else ''}"
        )
    return found


def _weight_files(revision: "HubRevision", partial_dir: Path) -> "list[HubFile]":
    for pattern, index_name in zip(WEIGHT_PATTERNS, INDEX_NAMES, strict=True):
        found = [file for file in revision.files if re.fullmatch(pattern, file.name)]
        if not found:
            continue
        index = revision.named(index_name)
        if index is None:
            return found
        from continuum.sources.hub import fetch_file

        fetch_file(revision, index, partial_dir, on_progress=lambda *_: None)
        return [index, *_indexed(revision, found, partial_dir / index_name)]
    raise PreflightError(
        f"{revision}: no supported weights found (model*.safetensors or pytorch_model*.bin); "
        "name a repository that has them"
    )


def _indexed(revision: "HubRevision", found: "list[HubFile]", index: Path) -> "list[HubFile]":
    """The files that the index names; a repository may contain others with similar names."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PreflightError(f"{revision}: {index.name} is not a valid index ({error})") from error
    missing = sorted(names - {file.name for file in found})
    if missing:
        raise PreflightError(
            f"{revision}: {missing[0]} not found, but {index.name} names it; "
            "choose another revision"
        )
    return [file for file in found if file.name in names]


def _convert(folder: Path, model_name: str, tied: bool | None) -> Architecture:
    from continuum.training.litgpt import check_weights, convert_hf_weights
    from continuum.training.weights import check_tied

    convert_hf_weights(folder, model_name)
    check_weights(folder)
    shape = read_architecture(folder / CONFIG_FILE, tied=tied)
    if shape.tied:
        check_tied(folder)
    for path in folder.iterdir():
        if path.name in INDEX_NAMES or any(re.fullmatch(it, path.name) for it in WEIGHT_PATTERNS):
            path.unlink()
    return shape
