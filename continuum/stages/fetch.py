"""kind: fetch - collect texts from URLs, local files or Python packages into a corpus."""

import shutil
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from continuum.errors import PreflightError, Problem
from continuum.experiment.fields import LocalPath, Spec
from continuum.experiment.forecast import Forecast, Text
from continuum.experiment.stage import PlanInput, Stage, StageContext
from continuum.experiment.url import Url
from continuum.runs.artifacts import Artifact, Corpus, CorpusItem
from continuum.runs.events import ByteProgress
from continuum.runs.files import link_or_copy, sha256_file
from continuum.runs.folder import ExperimentFolder
from continuum.runs.records import StageRecord
from continuum.runs.redaction import ENVIRONMENT_VARIABLE, REDACTED
from continuum.sources.globs import FoundFiles
from continuum.sources.local_files import (
    copy_file,
    find_files,
    find_python_files,
    naming_originals,
)
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
"""In the run folder, beside `output/`: received files, so that a killed fetch resumes."""


class Source(Spec):
    """The source of one or more texts: exactly one of `url`, `path` and `python`."""

    url: Url | None = Field(
        None, examples=["https://www.gutenberg.org/cache/epub/24440/pg24440.txt"]
    )
    """The http or https URL of one file. `${env.NAME}` in it is the value of an environment
    variable, read when the file is requested and never recorded."""
    path: LocalPath | None = Field(None, examples=["books/*.txt", "data/**/*.jsonl.zst"])
    """A local file or a glob (`*`, `?`, `[…]`, `**`); only the content matters, not the
    location."""
    python: str | None = Field(None, examples=["pydoc_data/topics.py", "json/*.py"])
    """A file or glob in the standard library or an installed package: `pydoc_data/topics.py`."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Checksum of the file at `url`, in lower-case hexadecimal; a mismatch is an error."""
    format: Literal["txt", "md", "py", "jsonl"] | None = None
    """`txt`, `md`, `py`: one document per file; `jsonl`: one per line. Default: by the suffix."""
    encoding: str = Field("utf-8", examples=["utf-8", "latin-1", "cp1252"])
    """Text encoding, as named in Python. Never guessed: invalid bytes are an error."""
    text_field: str | None = Field(None, examples=["text", "content"])
    """For `jsonl`: the key of the text, or a path of keys: `message.content`. Default: `text`."""
    missing: Literal["error", "skip"] = "error"
    """For `jsonl`, how to treat a line whose text is null or missing: `skip` skips and counts
    it."""
    newlines: Literal["unix", "keep"] = "unix"
    """`unix` converts CRLF and lone CR to newlines, as Python and LitGPT do; `keep` keeps them in
    the text. The stored file is not changed."""

    @classmethod
    def meant_by(cls, value: Any) -> dict[str, Any] | None:
        """A URL, a file or glob, or a folder of text files."""
        if not isinstance(value, str):
            return None
        if "://" in value:
            return {"url": value}
        is_folder = not PurePosixPath(value).suffix and "*" not in value
        return {"path": f"{value.rstrip('/')}/*.txt" if is_folder else value}

    @property
    def place(self) -> str:
        """The field that is set: `url`, `path` or `python`."""
        return "url" if self.url is not None else "path" if self.path is not None else "python"

    @property
    def reading(self) -> Reading:
        return Reading(self.format, self.encoding, self.text_field, self.missing, self.newlines)

    def texts(self, experiment_folder: Path) -> TextFiles:
        """The files of a `path` or `python` source, sorted by name; none for a `url`.

        Raises:
            PreflightError: there are none, or the format of one is unknown.
        """
        found = FoundFiles()
        if self.path is not None:
            runs = ExperimentFolder(experiment_folder).runs_dir
            found = find_files(str(self.path), experiment_folder, excluded=runs)
        elif self.python is not None:
            found = find_python_files(self.python)
        return TextFiles(found, self.reading, str(self.path or self.python)).checked()

    def named_files(self, experiment_folder: Path) -> list[tuple[str, Path | None]]:
        """Names with suffixes, and paths; the path of a url is None."""
        if self.url is not None:
            return [(_url_name(self.url), None)]
        return [(file.name, file.path) for file in self.texts(experiment_folder).found.files]

    def problems(self) -> Iterator[Problem]:
        """Conflicts between fields."""
        stated = [name for name in PLACES if getattr(self, name) is not None]
        if len(stated) != 1:
            found = " and ".join(stated) if stated else "none"
            yield Problem((), f"exactly one of url, path and python is required; found {found}")
        if self.sha256 is not None and self.url is None:
            message = "`sha256` only applies to a url; local files are hashed anyway"
            yield Problem(("sha256",), message)
        if self.text_field is not None and self.format not in {None, "jsonl"}:
            yield Problem(
                ("text_field",), f"`text_field` only applies to jsonl, not to {self.format}"
            )
        yield from self.reading.problems()
        if self.url is not None:
            yield from _url_problems(self.url, self.format)


class Fetch(Stage):
    """Collect texts: copy each file into the run folder, check it and hash it."""

    kind: Literal["fetch"] = "fetch"
    sources: tuple[Source, ...] = Field(min_length=1, examples=[[{"path": "texts/*.txt"}]])
    """The files of the corpus, in this order; a file named twice is included twice."""

    produces: ClassVar[type[Artifact]] = Corpus
    aliases: ClassVar[tuple[str, ...]] = (
        "text", "texts", "textfiles", "text_files", "corpus", "source", "sources", "files", "url",
        "read", "collect", "raw", "documents",
    )  # fmt: skip
    refused: ClassVar[Mapping[str, str]] = {
        **{
            name: f"it belongs in an item of `sources`: `sources: [{{{name}: …}}]`"
            for name in Source.model_fields
        },
        "repo": "use `kind: download` for a model of the Hub, and a URL for its texts",
    }
    version: ClassVar[int] = 2
    news: ClassVar[Mapping[int, tuple[str, ...]]] = {
        2: (UNIX_NEWLINES, "a `*` skips generated files, such as __pycache__")
    }
    checks_local_inputs: ClassVar[bool] = True

    def problems(self, stages: Mapping[str, Stage]) -> Iterator[Problem]:
        first: dict[str, Url] = {}
        for index, source in enumerate(self.sources):
            for problem in source.problems():
                yield problem.below("sources", index)
            if source.url is not None and first.setdefault(source.url, source.url).written != (
                source.url.written
            ):
                message = "two URLs that differ only in a credential look the same in records"
                advice = "pass each in a variable of its own: `${env.NAME}`"
                yield Problem(("sources", index, "url"), message, advice)

    def local_inputs(self, experiment_folder: Path) -> dict[str, Path]:
        inputs: dict[str, Path] = {}
        for index, source in enumerate(self.sources):
            with suppress(PreflightError):  # reported by the forecast
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
            for name in source.url.unset_variables if source.url is not None else ():
                problem = f"environment variable {name} is not set; this URL needs its value"
                advice = f"export {name}=… before the run"
                place = ("sources", index, "url")
                problems.append(Problem(place, problem, advice, needs="machine"))
        num_urls = sum(source.url is not None for source in self.sources)
        is_bounded = not problems and num_urls == 0
        found = texts.values()
        return Forecast(
            facts={"files": num_urls + sum(len(it.found.files) for it in found)},
            problems=tuple(problems),
            warnings=tuple(w.below("sources", i) for i, it in texts.items() for w in it.warnings),
            # A single named file needs no note.
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
                    "the content of this URL may change",
                    "add its `sha256`, or commit the continuum.lock that a run writes",
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
                download(url.address(), arrived, on_progress=lambda *_: None)
                pins[str(url)] = sha256_file(arrived)
                arrived.unlink()
        return pins

    def _urls_that_may_change(self) -> list[Url]:
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
                    _download(source, arrived, progress.update, ctx.record)
                    link_or_copy(arrived, kept)
                item = source.reading.item(kept, source=source.url or name, name=name)
                if path is not None:
                    copied[_input_name(index, name)] = item.sha256
                progress.next_file()
                yield item

        originals = {
            f"{ctx.output_dir / kept_name(number, name)} ({source.url or name})": (
                str(path or source.url)
            )
            for number, (_, source, name, path) in enumerate(origins)
        }
        with naming_originals(originals):
            corpus = checked_corpus(ctx.output_dir, bring())
        ctx.check_files(copied)
        progress.finish()
        shutil.rmtree(partial_dir, ignore_errors=True)
        return corpus


def _input_name(index: int, name: str) -> str:
    return f"{index}/{name}"


def _download(
    source: Source, arrived: Path, on_progress: "OnProgress", record: StageRecord
) -> None:
    """Download a url and verify the SHA-256 of the spec or else of the lock."""
    assert source.url is not None, "it has no path"
    from continuum.sources.transfer import download

    stated = source.sha256
    advice = (
        " (from the spec); if the file was replaced intentionally, correct `sha256`"
        if stated is not None
        else " (from continuum.lock); to accept the new file, run `continuum lock --upgrade`"
    )
    sha256 = stated or record.pins.get(source.url)
    address = source.url.address(record.fingerprint)
    download(address, arrived, on_progress=on_progress, sha256=sha256, advice=advice)


def _url_name(url: str) -> str:
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    return PurePosixPath(path).name or "download"


def _url_problems(url: Url, format_: str | None) -> Iterator[Problem]:
    written = url.written
    try:
        parts = urllib.parse.urlsplit(written)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_usable = False
    if not is_usable or not written.isascii() or any(char <= " " for char in written):
        message = "must be an http or https URL (write non-ASCII characters as %XX)"
        yield Problem(("url",), message)
    elif "@" in parts.netloc and not _has_password_of_environment(parts.netloc):
        message = "a URL with a password would be recorded; write the password as `${env.NAME}`"
        yield Problem(("url",), message)
    elif REDACTED in written:
        message = "the credential of this URL was not recorded; write it as `${env.NAME}`"
        yield Problem(("url",), message)
    elif format_ is None and format_of(_url_name(url)) is None:
        problem, advice = no_format(_url_name(url), " beside it")
        yield Problem(("url",), problem.replace("its suffix", "the suffix of the URL"), advice)


def _has_password_of_environment(netloc: str) -> bool:
    """True if the password before the host, or the token instead of one, is `${env.NAME}`."""
    name, colon, password = netloc.rpartition("@")[0].partition(":")
    return ENVIRONMENT_VARIABLE.fullmatch(password if colon else name) is not None
