"""kind: fetch, on real files and a real server."""

import gzip
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from continuum.errors import ContinuumError, IntegrityError, PreflightError, StageFailedError
from continuum.experiment.forecast import Forecast
from continuum.runs.artifacts import Corpus
from continuum.runs.events import Event, Progressed
from continuum.runs.text_records import TextCounts
from continuum.stages.fetch import Fetch
from tests.servers.texts import TextServer, serve_texts
from tests.support import make_stage, run_stage

BOOK = "Call me Ishmael.\nSome years ago, naïve and free …\n".encode()


@pytest.fixture
def texts() -> Iterator[TextServer]:
    with serve_texts({"/book.txt": BOOK, "/raw": BOOK}) as server:
        yield server


def stage_of(folder: Path, *sources: dict[str, Any]) -> Fetch:
    stage = make_stage(Fetch, folder, sources=sources)
    assert isinstance(stage, Fetch)
    return stage


def fetch(folder: Path, *sources: dict[str, Any], **kwargs: Any) -> Corpus:
    corpus = run_stage(stage_of(folder, *sources), folder, **kwargs)
    assert isinstance(corpus, Corpus)
    return corpus


def bodies(corpus: Corpus) -> list[bytes]:
    return [(corpus.path / item.file).read_bytes() for item in corpus.items]


def forecast(folder: Path, *sources: dict[str, Any]) -> Forecast:
    return stage_of(folder, *sources).forecast({}, folder)


def write(folder: Path, **files: bytes) -> None:
    for name, body in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def test_a_url_becomes_an_item_with_its_hash(texts: TextServer, tmp_path: Path) -> None:
    corpus = fetch(tmp_path, {"url": f"{texts.url}/book.txt"})
    (item,) = corpus.items
    assert (corpus.path / item.file).read_bytes() == BOOK
    assert (item.source, item.format) == (f"{texts.url}/book.txt", "txt")
    assert [file.sha256 for file in corpus.files] == [item.sha256]
    assert not (corpus.path.parent / "partial").exists()


@pytest.mark.parametrize("is_pinned", [False, True])
def test_a_wrong_hash_says_who_states_it(
    *, is_pinned: bool, texts: TextServer, tmp_path: Path
) -> None:
    url = f"{texts.url}/book.txt"
    stage = stage_of(tmp_path, {"url": url} if is_pinned else {"url": url, "sha256": "0" * 64})
    source = r"continuum\.lock\); .*`continuum lock --upgrade`" if is_pinned else "the spec"
    with pytest.raises(
        IntegrityError,
        match=rf"SHA-256 mismatch: .* expected 0{{64}} \(from "
        rf"{source}",
    ):
        run_stage(stage, tmp_path, pins={url: "0" * 64})


def test_the_next_attempt_takes_what_the_failed_one_brought(
    texts: TextServer, tmp_path: Path
) -> None:
    stage = stage_of(tmp_path, {"url": f"{texts.url}/book.txt"}, {"url": f"{texts.url}/absent.txt"})
    with pytest.raises(StageFailedError, match=r"absent\.txt: HTTP status 404"):
        run_stage(stage, tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "partial" / "00000").read_bytes() == BOOK


def test_a_glob_gives_its_files_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path, data__b_dot_txt=b"b", data__sub__a_dot_md=b"a", data__c_dot_txt=b"c")
    corpus = fetch(tmp_path, {"path": "data/**/*.*"})
    assert [item.source for item in corpus.items] == ["b.txt", "c.txt", "sub/a.md"]
    assert bodies(corpus) == [b"b", b"c", b"a"]


def test_a_file_with_wildcards_in_its_name_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_bytes(b"a")
    assert fetch(tmp_path, {"path": "a[1].txt"}).items[0].source == "a[1].txt"


def test_equal_names_of_two_sources_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path, x__a_dot_txt=b"x", y__a_dot_txt=b"y")
    stage = stage_of(tmp_path, {"path": "x/a.txt"}, {"path": "y/*.txt"})
    assert sorted(stage.local_inputs(tmp_path)) == ["0/a.txt", "1/a.txt"]
    corpus = fetch(tmp_path, {"path": "x/a.txt"}, {"path": "y/*.txt"})
    assert bodies(corpus) == [b"x", b"y"]


def test_a_path_is_not_identity_but_its_bytes_are(tmp_path: Path) -> None:
    write(tmp_path, x__a_dot_txt=b"x", y__a_dot_txt=b"x")
    one, two = (stage_of(tmp_path, {"path": f"{place}/a.txt"}) for place in "xy")
    assert one.identity() == two.identity()
    assert list(one.local_inputs(tmp_path)) == list(two.local_inputs(tmp_path))


def test_two_runs_make_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path, a_dot_txt=b"a", b_dot_txt=b"b")
    assert len({fetch(tmp_path, {"path": "*.txt"}).digest for _ in range(2)}) == 1


def test_a_file_of_the_standard_library_is_found_without_importing_it(tmp_path: Path) -> None:
    corpus = fetch(tmp_path, {"python": "pydoc_data/topics.py"})
    original = Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py"
    assert (corpus.path / corpus.items[0].file).read_bytes() == original.read_bytes()
    assert corpus.items[0].source == "pydoc_data/topics.py"
    assert corpus.items[0].format == "py"


@pytest.mark.parametrize("pattern", ["json/*.py", "yaml/**/*.py", "textwrap.py"])
def test_python_sources_may_be_globs_packages_and_modules(pattern: str, tmp_path: Path) -> None:
    inputs = stage_of(tmp_path, {"python": pattern}).local_inputs(tmp_path)
    assert inputs
    assert all(path.suffix == ".py" for path in inputs.values())


@pytest.mark.parametrize(
    "pattern",
    ["../secret.py", "json/../../x.py", "/etc/passwd", "*/x.py", "site-packages/x.py", "~/x.py"],
)
def test_a_python_source_cannot_leave_its_package(pattern: str, tmp_path: Path) -> None:
    (problem,) = forecast(tmp_path, {"python": pattern}).problems
    assert problem.path == ("sources", 0, "python")
    with pytest.raises(PreflightError, match="must start with the name of a package"):
        fetch(tmp_path, {"python": pattern})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "none/*.txt"}, "no file matches"),
        ({"path": "none.txt"}, "file not found"),
        ({"path": "folder"}, r"is a folder; name its files, for example folder/\*\*/\*\.txt"),
        ({"path": "foldr/*.txt"}, r"/foldr does not exist; did you mean 'folder/\*\.txt'\?"),
        ({"path": "folder/y.txt"}, r"did you mean 'folder/x\.txt'\?"),
        ({"path": "a/b/c/*.txt"}, "relative paths start at the folder of the spec"),
        ({"path": "folder\\*.txt"}, r"write paths with `/`, not `\\`"),
        ({"path": "$HOME/*.txt"}, r"\$HOME is not expanded in paths: write it out, or `~`"),
        ({"path": "folder/*.TXT"}, r"no file matches \(searched .*/folder\); found 1 \.txt"),
        ({"path": "book.pdf/*"}, r"/book\.pdf is not a folder$"),
        ({"path": "book.pdf"}, "its suffix has no known format; set `format"),
        ({"python": "no_such_package/x.py"}, "not found in the standard library"),
        ({"python": "json/none.py"}, "not found in the standard library"),
    ],
)
def test_what_is_not_there_is_known_to_the_plan(
    source: dict[str, str], message: str, tmp_path: Path
) -> None:
    write(tmp_path, book_dot_pdf=b"x", folder__x_dot_txt=b"x")
    (problem,) = map(str, forecast(tmp_path, source).problems)
    with pytest.raises(PreflightError, match=message) as error:
        fetch(tmp_path, source)
    assert problem.endswith(str(error.value))


def test_line_ends_are_read_as_newlines_unless_they_are_kept(tmp_path: Path) -> None:
    write(tmp_path, a_dot_txt=b"a\r\nb\rc\n")
    (item,) = fetch(tmp_path, {"path": "a.txt"}).items
    (kept,) = fetch(tmp_path, {"path": "a.txt", "newlines": "keep"}).items
    assert (item.newlines, kept.newlines) == ("unix", "keep")
    assert item.sha256 == kept.sha256, "files keep their bytes"
    assert item.counts is not None
    assert kept.counts is not None
    assert (item.counts.num_crlf, item.counts.num_cr, item.counts.num_chars) == (1, 1, 6)
    assert kept.counts.num_chars == 7


def test_how_text_is_read_is_identity(tmp_path: Path) -> None:
    plain = stage_of(tmp_path, {"path": "a.jsonl"}).identity()
    for field, value in (("newlines", "keep"), ("missing", "skip")):
        assert stage_of(tmp_path, {"path": "a.jsonl", field: value}).identity() != plain


def test_a_corpus_says_what_it_holds(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_dot_txt="Größe\r\n".encode(),
        b_dot_jsonl=b'{"text": ""}\n{"text": null}\n{"text": "x"}\n',
    )
    corpus = fetch(tmp_path, {"path": "*.txt"}, {"path": "*.jsonl", "missing": "skip"})
    assert corpus.counts == TextCounts(
        num_documents=3, num_empty=1, num_skipped=1, num_chars=7, size_bytes=9, num_crlf=1
    )
    assert corpus.summary().endswith("3 documents, 1 empty, 1 skipped, 7 characters, 1 CRLF")


@pytest.mark.parametrize(
    "name", ["data.parquet", "data.tar.gz", "data.bin", "data", "pointer.txt", "page.md"]
)
def test_what_is_no_text_is_never_to_be_called_txt(name: str, tmp_path: Path) -> None:
    bodies = {
        "data.parquet": b"PAR1\x15\0\x15\0PAR1",
        "data.tar.gz": gzip.compress(b"\0" * 600),
        "data.bin": b"\1\2\0\0",
        "data": b"\x80\4\x95.",
        "pointer.txt": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "page.md": b"<!DOCTYPE html><html><body>404</body></html>",
    }
    (tmp_path / name).write_bytes(bodies[name])
    with pytest.raises(PreflightError) as error:
        fetch(tmp_path, {"path": name})
    assert "set `format: txt`" not in str(error.value).partition("To train on HTML")[0]
    with pytest.raises(ContinuumError):
        fetch(tmp_path, {"path": name, "format": "txt"})


def test_a_stated_encoding_is_recorded_and_not_converted(tmp_path: Path) -> None:
    write(tmp_path, a_dot_txt="café".encode("latin-1"))
    corpus = fetch(tmp_path, {"path": "a.txt", "encoding": "latin-1"})
    assert corpus.items[0].encoding == "latin-1"
    assert (corpus.path / corpus.items[0].file).read_bytes() == b"caf\xe9"


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)]
)
def test_compressed_files_are_kept_as_they_are(suffix: str, pack: Any, tmp_path: Path) -> None:
    (tmp_path / f"a.md.{suffix}").write_bytes(pack(BOOK))
    (item,) = fetch(tmp_path, {"path": f"a.md.{suffix}"}).items
    assert (item.format, item.compression) == ("md", suffix)
    assert forecast(tmp_path, {"path": f"a.md.{suffix}"}).max_text_bytes is None


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_damaged_compressed_file_is_an_error(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a.txt.{suffix}").write_bytes(b"not compressed at all")
    with pytest.raises(ContinuumError, match=rf"a\.txt\.{suffix}: .*near byte .*corrupt"):
        fetch(tmp_path, {"path": f"a.txt.{suffix}"})


def test_an_empty_corpus_is_refused_but_an_empty_file_is_not(tmp_path: Path) -> None:
    write(tmp_path, a_dot_txt=b"", b_dot_txt=b"b")
    assert len(fetch(tmp_path, {"path": "*.txt"}).items) == 2
    with pytest.raises(PreflightError, match=r"the corpus is empty: no bytes in .*a\.txt"):
        fetch(tmp_path, {"path": "a.txt"})
    write(tmp_path, a_dot_jsonl=b'{"text": ""}\n', b_dot_txt=b"\xef\xbb\xbf")
    with pytest.raises(PreflightError, match=r"the corpus is empty.*2 document.*2 empty"):
        fetch(tmp_path, {"path": "a.jsonl"}, {"path": "b.txt"})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"path": "a.txt"}, 4),
        ({"path": "a.txt", "encoding": "cp1252"}, 12),
        ({"url": "http://127.0.0.1:1/a.txt"}, None),
    ],
)
def test_the_text_is_bounded_before_it_is_fetched(
    source: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    write(tmp_path, a_dot_txt=b"abcd")
    assert forecast(tmp_path, source).max_text_bytes == expected


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        ({}, ("sources", 0), "found none"),
        ({"url": "http://h/a.txt", "path": "a.txt"}, ("sources", 0), "url and path"),
        ({"path": "a.txt", "sha256": "0" * 64}, ("sources", 0, "sha256"), "only applies to a url"),
        ({"path": "a", "format": "txt", "text_field": "t"}, ("sources", 0, "text_field"), "jsonl"),
        ({"path": "a", "format": "txt", "missing": "skip"}, ("sources", 0, "missing"), "jsonl"),
        ({"url": "https://host/a.parquet"}, ("sources", 0, "url"), "a Parquet file"),
        (
            {"path": "a.txt", "encoding": "utf8x"},
            ("sources", 0, "encoding"),
            "unknown text encoding",
        ),
        (
            {"path": "a.txt", "encoding": "rot13"},
            ("sources", 0, "encoding"),
            "unknown text encoding",
        ),
        ({"url": "ftp://host/a.txt"}, ("sources", 0, "url"), "must be an http"),
        ({"url": "http://h:x/a.txt"}, ("sources", 0, "url"), "must be an http"),
        ({"url": "http://h/ä.txt"}, ("sources", 0, "url"), "%XX"),
        ({"url": "https://me:pw@host/a.txt"}, ("sources", 0, "url"), "password"),
        ({"url": "https://host/ebooks/1342"}, ("sources", 0, "url"), "no known format"),
    ],
)
def test_fields_that_do_not_go_together_are_problems(
    source: dict[str, str], path: tuple[str | int, ...], message: str, tmp_path: Path
) -> None:
    (problem,) = stage_of(tmp_path, source).problems({})
    assert problem.path == path
    assert message in problem.message


def test_a_sound_spec_has_no_problems(tmp_path: Path) -> None:
    stage = stage_of(
        tmp_path,
        {"url": "https://host/ebooks/1342", "format": "txt", "sha256": "0" * 64},
        {"path": "a.jsonl", "text_field": "body"},
        {"python": "json/*.py"},
    )
    assert list(stage.problems({})) == []


def test_progress_is_reported_in_bytes(texts: TextServer, tmp_path: Path) -> None:
    events: list[Event] = []
    fetch(tmp_path, {"url": f"{texts.url}/book.txt"}, events=events)
    assert events[-1] == Progressed(len(BOOK), len(BOOK))
