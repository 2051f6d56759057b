"""kind: fetch - texts from the web, from this machine or from Python packages, as a corpus."""

import shutil
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from continuum.artifacts import Artifact, Corpus, CorpusItem
from continuum.errors import PreflightError
from continuum.files import link_or_copy, sha256_file
from continuum.runs import ExperimentFolder
from continuum.sources.corpus_folders import count_by_suffix, describe_choice, format_warnings
from continuum.sources.local_files import FoundFiles, copy_file, find_files, find_python_files
from continuum.sources.progress import ByteProgress
from continuum.sources.source_files import (
    UNIX_NEWLINES,
    Reading,
    format_of,
    is_text_encoding,
    kept_name,
    no_format,
)
from continuum.stage import Forecast, LocalPath, PlanInput, Problem, Spec, Stage, StageContext, Text

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

    def local_files(self, experiment_folder: Path) -> FoundFiles:
        """The files of a `path` or `python` source, sorted by name; none for a `url`.

        Raises:
            PreflightError: there are none.
        """
        if self.path is not None:
            runs = ExperimentFolder(experiment_folder).runs_dir
            return find_files(str(self.path), experiment_folder, excluded=runs)
        return find_python_files(self.python) if self.python is not None else FoundFiles()


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
            for problem in _source_problems(source):
                path = ("sources", index, *problem.path)
                yield Problem(path, problem.message, problem.suggestion)

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        inputs: dict[str, Path] = {}
        for index, source in enumerate(self.sources):
            try:
                found = source.local_files(experiment_folder).files
            except PreflightError:  # the forecast says so
                continue
            inputs |= {_input_name(index, file.name): file.path for file in found}
        return inputs

    def forecast(self, inputs: Mapping[str, PlanInput], experiment_folder: Path) -> Forecast:
        origins, problems = self._find(experiment_folder)
        sizes = [origin.max_text_bytes() for origin in origins]
        listings = () if problems else tuple(self._listings(experiment_folder))
        return Forecast(
            facts={"files": len(origins)},
            problems=tuple(problems),
            warnings=tuple(warning for listing in listings for warning in listing.warnings),
            notes=tuple(listing.note for listing in listings if listing.is_of_many),
            taken_files=sum((listing.taken for listing in listings), Counter()),
            left_files=sum((listing.left for listing in listings), Counter()),
            max_text_bytes=None if problems else _sum_known(sizes),
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

    def _find(self, experiment_folder: Path) -> tuple[list["_Origin"], list[Problem]]:
        """The files of all sources, and why those of some cannot be listed."""
        origins: list[_Origin] = []
        problems: list[Problem] = []
        for index, source in enumerate(self.sources):
            try:
                origins += _origins(index, source, experiment_folder)
            except PreflightError as error:
                place = ("sources", index, source.place)
                problems.append(Problem(place, str(error), needs="folder"))
        return origins, problems

    def _listings(self, experiment_folder: Path) -> Iterator["_Listing"]:
        for index, source in enumerate(self.sources):
            if source.url is None:
                yield _Listing(index, source, source.local_files(experiment_folder))

    def _urls_that_may_change(self) -> list[str]:
        """Those whose bytes the spec does not state itself, each once."""
        urls = (s.url for s in self.sources if s.url is not None and s.sha256 is None)
        return list(dict.fromkeys(urls))

    def run(self, ctx: StageContext) -> Corpus:
        from continuum.text.checking import check_item, check_not_empty

        origins = [
            origin
            for index, source in enumerate(self.sources)
            for origin in _origins(index, source, ctx.experiment_folder)
        ]
        total = _sum_known([origin.size_bytes() for origin in origins])
        progress = ByteProgress(ctx.report, num_files=len(origins), total=total)
        partial_dir = ctx.run.path / PARTIAL_DIR
        corpus = Corpus(path=ctx.output_dir, items=())
        items = []
        copied: dict[str, str] = {}
        for number, origin in enumerate(origins):
            kept = ctx.output_dir / kept_name(number, origin.name)
            _bring(origin, kept, partial_dir, progress.update, ctx.pins)
            items.append(check_item(corpus, origin.item(kept)))
            if origin.path is not None:
                copied[origin.input_name] = items[-1].sha256
            progress.next_file()
        ctx.check_files(copied)
        corpus = corpus.model_copy(update={"items": tuple(items)})
        check_not_empty(corpus)
        progress.finish()
        shutil.rmtree(partial_dir, ignore_errors=True)
        return corpus


@dataclass(frozen=True)
class _Origin:
    """One file to bring."""

    index: int
    """Of its source."""
    source: Source
    name: str
    """Its own, with the suffixes that say what it is."""
    path: Path | None
    """None when it is on the web."""

    @property
    def input_name(self) -> str:
        """Of a local file, in `Fetch.local_inputs`."""
        return _input_name(self.index, self.name)

    def size_bytes(self) -> int | None:
        return self.path.stat().st_size if self.path is not None else None

    def max_text_bytes(self) -> int | None:
        size = self.size_bytes()
        return None if size is None else self.source.reading.max_text_bytes(self.name, size)

    def item(self, kept: Path) -> CorpusItem:
        label = self.source.url if self.source.url is not None else self.name
        return self.source.reading.item(kept, source=label, name=self.name)


@dataclass(frozen=True)
class _Listing:
    """The local files of one source."""

    index: int
    source: Source
    found: FoundFiles

    @property
    def taken(self) -> Counter[str]:
        return count_by_suffix(self.found.files)

    @property
    def left(self) -> Counter[str]:
        return Counter(self.found.left)

    @property
    def is_of_many(self) -> bool:
        """True if there is more to say than the spec does."""
        return len(self.found.files) > 1 or bool(self.found.left)

    @property
    def note(self) -> str:
        return f"{self._label}: {describe_choice(self.taken, self.left)}"

    @property
    def warnings(self) -> Iterator[Problem]:
        for warning in format_warnings(self.found.files, self.source.format):
            told = f"{self._label}: {warning}"
            where = ("sources", self.index, "format")
            yield Problem(where, told, severity="warning", needs="folder")

    @property
    def _label(self) -> str:
        return str(self.source.path or self.source.python)


def _input_name(index: int, name: str) -> str:
    return f"{index}/{name}"


def _origins(index: int, source: Source, experiment_folder: Path) -> list[_Origin]:
    if source.url is not None:
        return [_Origin(index, source, _url_name(source.url), None)]
    found = source.local_files(experiment_folder)
    for file in found.files:
        source.reading.format_of(file.name, file.path)
    return [_Origin(index, source, file.name, file.path) for file in found.files]


def _bring(
    origin: _Origin,
    kept: Path,
    partial_dir: Path,
    on_progress: "OnProgress",
    pins: Mapping[str, str],
) -> None:
    if origin.path is not None:
        copy_file(origin.path, kept, on_progress)
        return
    assert origin.source.url is not None, "a source has a place"
    from continuum.sources.transfer import download

    arrived = partial_dir / f"{origin.index:05d}"
    stated, pinned = origin.source.sha256, pins.get(origin.source.url)
    advice = (
        " as the spec says; if the file was replaced on purpose, correct `sha256`"
        if stated is not None
        else " as continuum.lock says; to take the new file, say `continuum lock --upgrade`"
    )
    download(
        origin.source.url, arrived, on_progress=on_progress, sha256=stated or pinned, advice=advice
    )
    link_or_copy(arrived, kept)


def _sum_known(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _url_name(url: str) -> str:
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    return PurePosixPath(path).name or "download"


def _source_problems(source: Source) -> Iterator[Problem]:
    stated = [name for name in PLACES if getattr(source, name) is not None]
    if len(stated) != 1:
        found = " and ".join(stated) if stated else "none of them"
        yield Problem((), f"exactly one of url, path and python is needed; here is {found}")
    if source.sha256 is not None and source.url is None:
        yield Problem(("sha256",), "only a url has a sha256; local bytes are hashed by themselves")
    if source.text_field is not None and source.format not in {None, "jsonl"}:
        yield Problem(("text_field",), f"only jsonl has keys, not {source.format}")
    if source.missing != "error" and source.format not in {None, "jsonl"}:
        yield Problem(("missing",), f"only a line of jsonl can lack its text, not {source.format}")
    if not is_text_encoding(source.encoding):
        suggestion = "utf-8, latin-1, cp1252 …"
        yield Problem(("encoding",), f"Python knows no encoding {source.encoding!r}", suggestion)
    if source.url is not None:
        yield from _url_problems(source.url, source)


def _url_problems(url: str, source: Source) -> Iterator[Problem]:
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
    elif source.format is None and format_of(_url_name(url)) is None:
        problem, advice = no_format(_url_name(url), " beside it")
        yield Problem(("url",), problem.replace("its suffix", "the address' suffix"), advice)
