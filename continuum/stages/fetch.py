"""kind: fetch - texts from the web, from this machine or from Python packages, as a corpus."""

import shutil
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from continuum.errors import PreflightError
from continuum.experiment.stage import (
    Forecast,
    LocalPath,
    PlanInput,
    Problem,
    Spec,
    Stage,
    StageContext,
    Text,
)
from continuum.runs.artifacts import Artifact, Corpus, CorpusItem
from continuum.runs.events import ByteProgress
from continuum.runs.files import link_or_copy, sha256_file
from continuum.runs.folder import ExperimentFolder
from continuum.sources.globs import FoundFiles
from continuum.sources.local_files import copy_file, find_files, find_python_files
from continuum.sources.source_files import (
    UNIX_NEWLINES,
    Reading,
    TextFiles,
    format_of,
    kept_name,
    no_format,
    sum_known,
)

if TYPE_CHECKING:  # the HTTP client takes a while to import, and plans need none
    from continuum.sources.transfer import OnProgress

PLACES = ("url", "path", "python")
PARTIAL_DIR = "partial"
"""In the run folder, beside `output/`: what has arrived, so that a killed fetch goes on."""


class Source(Spec):
    """Where one text, or several, come from: exactly one of `url`, `path` and `python`."""

    url: str | None = Field(
        None, examples=["https://www.gutenberg.org/cache/epub/24440/pg24440.txt"]
    )
    """An http or https address of one file."""
    path: LocalPath | None = Field(None, examples=["books/*.txt", "data/**/*.jsonl.zst"])
    """A local file or a glob (`*`, `?`, `[…]`, `**`); its bytes count, not its place."""
    python: str | None = Field(None, examples=["pydoc_data/topics.py", "json/*.py"])
    """A file or glob in the standard library or an installed package: `pydoc_data/topics.py`."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Of the file at `url`, in lower-case hexadecimal; other bytes are an error."""
    format: Literal["txt", "md", "py", "jsonl"] | None = None
    """`txt`, `md`, `py`: a file is a document; `jsonl`: a line is one. Default: by the suffix."""
    encoding: str = Field("utf-8", examples=["utf-8", "latin-1", "cp1252"])
    """Of the text, as Python names it. Never guessed: bytes outside it are an error."""
    text_field: str | None = Field(None, examples=["text", "content"])
    """For `jsonl`: the key that holds the text, or a path of keys: `message.content`. Default:
    `text`."""
    missing: Literal["error", "skip"] = "error"
    """For `jsonl`, what becomes of a line whose text is null or missing: `skip` leaves it out and
    counts it."""
    newlines: Literal["unix", "keep"] = "unix"
    """`unix` reads CRLF and a lone CR as one newline, as Python and LitGPT do; `keep` leaves them
    in the text. The file keeps its bytes."""

    @property
    def place(self) -> str:
        """The field that says where: `url`, `path` or `python`."""
        return "url" if self.url is not None else "path" if self.path is not None else "python"

    @property
    def reading(self) -> Reading:
        return Reading(self.format, self.encoding, self.text_field, self.missing, self.newlines)

    def texts(self, experiment_folder: Path) -> TextFiles:
        """The files of a `path` or `python` source, sorted by name; none for a `url`.

        Raises:
            PreflightError: there are none, or their names say no format.
        """
        found = FoundFiles()
        if self.path is not None:
            runs = ExperimentFolder(experiment_folder).runs_dir
            found = find_files(str(self.path), experiment_folder, excluded=runs)
        elif self.python is not None:
            found = find_python_files(self.python)
        return TextFiles(found, self.reading, str(self.path or self.python)).checked()

    def named_files(self, experiment_folder: Path) -> list[tuple[str, Path | None]]:
        """Names, with the suffixes that say what the files are, and paths; a url has none."""
        if self.url is not None:
            return [(_url_name(self.url), None)]
        return [(file.name, file.path) for file in self.texts(experiment_folder).found.files]

    def problems(self) -> Iterator[Problem]:
        """What does not go together."""
        stated = [name for name in PLACES if getattr(self, name) is not None]
        if len(stated) != 1:
            found = " and ".join(stated) if stated else "none of them"
            yield Problem((), f"exactly one of url, path and python is needed; here is {found}")
        if self.sha256 is not None and self.url is None:
            message = "only a url has a sha256; local bytes are hashed by themselves"
            yield Problem(("sha256",), message)
        if self.text_field is not None and self.format not in {None, "jsonl"}:
            yield Problem(("text_field",), f"only jsonl has keys, not {self.format}")
        yield from self.reading.problems()
        if self.url is not None:
            yield from _url_problems(self.url, self.format)


class Fetch(Stage):
    """Collect texts. Each file is copied into the run folder, checked and hashed."""

    kind: Literal["fetch"] = "fetch"
    sources: tuple[Source, ...] = Field(min_length=1)
    """The files of the corpus, in this order; a file named twice is there twice."""

    produces: ClassVar[type[Artifact]] = Corpus
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (UNIX_NEWLINES, "a `*` leaves what programs generate, such as __pycache__")
    }
    checks_local_inputs: ClassVar[bool] = True

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        for index, source in enumerate(self.sources):
            for problem in source.problems():
                yield problem.below("sources", index)

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        inputs: dict[str, Path] = {}
        for index, source in enumerate(self.sources):
            with suppress(PreflightError):  # the forecast says so
                for file in source.texts(experiment_folder).found.files:
                    inputs[_input_name(index, file.name)] = file.path
        return inputs

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        texts: dict[int, TextFiles] = {}
        problems: list[Problem] = []
        for index, source in enumerate(self.sources):
            try:
                texts[index] = source.texts(experiment_folder)
            except PreflightError as error:
                place = ("sources", index, source.place)
                problems.append(Problem(place, str(error), needs="folder"))
        num_urls = sum(source.url is not None for source in self.sources)
        is_bounded = not problems and num_urls == 0
        found = texts.values()
        return Forecast(
            facts={"files": num_urls + sum(len(it.found.files) for it in found)},
            problems=tuple(problems),
            warnings=tuple(w.below("sources", i) for i, it in texts.items() for w in it.warnings),
            # Of one file that a path names there is no more to say than the spec does.
            notes=tuple(it.note for it in found if len(it.found.files) > 1 or it.left),
            taken_files=sum((it.taken for it in found), Counter()),
            left_files=sum((it.left for it in found), Counter()),
            max_text_bytes=sum_known(it.max_text_bytes for it in found) if is_bounded else None,
        )

    def texts(self, files: Mapping[str, str | None], pins: Mapping[str, str]) -> tuple[Text, ...]:
        found: list[Text] = []
        for index, source in enumerate(self.sources):
            if source.url is not None:
                found.append(Text(source.url, source.sha256 or pins.get(source.url)))
                continue
            start = _input_name(index, "")
            local = [
                Text(n.removeprefix(start), d) for n, d in files.items() if n.startswith(start)
            ]
            found += local or [Text(str(source.path or source.python))]
        return tuple(found)

    def unpinned(self, pins: Mapping[str, str]) -> Iterator[Problem]:
        for index, source in enumerate(self.sources):
            if source.url is not None and source.sha256 is None and source.url not in pins:
                yield Problem(
                    ("sources", index, "url"),
                    "nothing says which bytes this address has to give",
                    "add the file's `sha256`, or commit the continuum.lock that a run writes",
                )

    def pins(self, artifact: Artifact) -> dict[str, str]:
        assert isinstance(artifact, Corpus), "a fetch makes a corpus"
        urls = self._urls_that_may_change()
        return {item.source: item.sha256 for item in artifact.items if item.source in urls}

    def renew_pins(self) -> dict[str, str]:
        from continuum.sources.transfer import download

        pins: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            for url in self._urls_that_may_change():
                arrived = Path(folder) / "file"
                download(url, arrived, on_progress=lambda *_: None)
                pins[url] = sha256_file(arrived)
                arrived.unlink()
        return pins

    def _urls_that_may_change(self) -> list[str]:
        """Those whose bytes the spec does not state itself, each once."""
        urls = (s.url for s in self.sources if s.url is not None and s.sha256 is None)
        return list(dict.fromkeys(urls))

    def run(self, ctx: StageContext) -> Corpus:
        from continuum.text.checking import checked_corpus

        origins = [
            (index, source, name, path)
            for index, source in enumerate(self.sources)
            for name, path in source.named_files(ctx.experiment_folder)
        ]
        sizes = (path.stat().st_size if path is not None else None for *_, path in origins)
        progress = ByteProgress(ctx.report, num_files=len(origins), total=sum_known(sizes))
        partial_dir = ctx.run.path / PARTIAL_DIR
        copied: dict[str, str] = {}

        def bring() -> Iterator[CorpusItem]:
            for number, (index, source, name, path) in enumerate(origins):
                kept = ctx.output_dir / kept_name(number, name)
                if path is not None:
                    copy_file(path, kept, progress.update)
                else:
                    arrived = partial_dir / f"{index:05d}"
                    _download(source, arrived, progress.update, ctx.record.pins)
                    link_or_copy(arrived, kept)
                item = source.reading.item(kept, source=source.url or name, name=name)
                if path is not None:
                    copied[_input_name(index, name)] = item.sha256
                progress.next_file()
                yield item

        corpus = checked_corpus(ctx.output_dir, bring())
        ctx.check_files(copied)
        progress.finish()
        shutil.rmtree(partial_dir, ignore_errors=True)
        return corpus


def _input_name(index: int, name: str) -> str:
    """A local file's, in `Fetch.local_inputs`."""
    return f"{index}/{name}"


def _download(
    source: Source, arrived: Path, on_progress: "OnProgress", pins: Mapping[str, str]
) -> None:
    """Bring a url; its bytes are those of the spec's SHA-256 or, without one, of the lock's."""
    assert source.url is not None, "it has no path"
    from continuum.sources.transfer import download

    stated = source.sha256
    advice = (
        " as the spec says; if the file was replaced on purpose, correct `sha256`"
        if stated is not None
        else " as continuum.lock says; to take the new file, say `continuum lock --upgrade`"
    )
    sha256 = stated or pins.get(source.url)
    download(source.url, arrived, on_progress=on_progress, sha256=sha256, advice=advice)


def _url_name(url: str) -> str:
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    return PurePosixPath(path).name or "download"


def _url_problems(url: str, format_: str | None) -> Iterator[Problem]:
    try:
        parts = urllib.parse.urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_usable = False
    if not is_usable or not url.isascii() or any(char <= " " for char in url):
        message = "not an http or https address (other letters than ASCII are written as %XX)"
        yield Problem(("url",), message)
    elif parts.username is not None or parts.password is not None:
        message = "an address with a password would be recorded; use a file and `path`"
        yield Problem(("url",), message)
    elif format_ is None and format_of(_url_name(url)) is None:
        problem, advice = no_format(_url_name(url), " beside it")
        yield Problem(("url",), problem.replace("its suffix", "the address' suffix"), advice)
