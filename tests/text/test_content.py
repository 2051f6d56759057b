"""What is no text is refused by its name; its neighbours, which are text, are taken."""

import bz2
import functools
import gzip
import io
import lzma
import pickle
import sqlite3
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from safetensors.torch import save as save_safetensors

from continuum.errors import PreflightError
from continuum.sources.source_files import no_format
from tests.text.samples import counted, reading, taken, texts

TEXT = b"Some lines of text.\n" * 40
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 886123\n".encode()
gz = functools.partial(gzip.compress, mtime=0)
zstd = zstandard.ZstdCompressor().compress


def tar(format_: int = tarfile.GNU_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format_) as archive:
        member = tarfile.TarInfo("book.txt")
        member.size = len(TEXT)
        archive.addfile(member, io.BytesIO(TEXT))
    return packed.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def saved_by_torch(*, as_zip: bool) -> bytes:
    packed = io.BytesIO()
    torch.save({"a": torch.ones(3)}, packed, _use_new_zipfile_serialization=as_zip)
    return packed.getvalue()


def numpy_file(*, many: bool) -> bytes:
    packed = io.BytesIO()
    if many:
        np.savez(packed, np.arange(9))
    else:
        np.save(packed, np.arange(9))
    return packed.getvalue()


def database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "made")
    connection.execute("create table texts (text)")
    connection.commit()
    connection.close()
    return (folder / "made").read_bytes()


NO_TEXTS: dict[str, tuple[bytes, str]] = {
    "tar": (tar(), r"a tar archive; unpack it.*tar -xf"),
    "tar-pax": (tar(tarfile.PAX_FORMAT), "a tar archive"),
    "tar-ustar": (tar(tarfile.USTAR_FORMAT), "a tar archive"),
    "zip": (zipped({"a.txt": TEXT}), "a zip archive; unpack"),
    "docx": (zipped({"[Content_Types].xml": b"", "word/document.xml": TEXT}), "Word document"),
    "xlsx": (zipped({"[Content_Types].xml": b"", "xl/workbook.xml": TEXT}), "spreadsheet"),
    "odt": (
        b"PK\3\4" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.text" + TEXT,
        "OpenDocument",
    ),
    "epub": (b"PK\3\4" + b"\0" * 26 + b"mimetypeapplication/epub+zip" + TEXT, "EPUB book"),
    "gzip": (gz(TEXT), r"gzip data; use the suffix \.gz"),
    "zstd": (zstd(TEXT), r"zstd data; use the suffix \.zst"),
    "xz": (lzma.compress(TEXT), "xz .*xz -d"),
    "lzma": (lzma.compress(TEXT, format=lzma.FORMAT_ALONE), "lzma data"),
    "bzip2": (bz2.compress(TEXT), "bzip2 data.*bzip2 -d"),
    "cpio": (b"070701" + b"0" * 104 + b"a.txt\0" + TEXT, "a cpio archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4" + TEXT, "7z archive"),
    "rar": (b"Rar!\x1a\7\1\0" + TEXT, "RAR archive"),
    "warc": (b"WARC/1.0\r\nWARC-Type: warcinfo\r\n\r\n" + TEXT, "WARC web archive"),
    "parquet": (b"PAR1\x15\x04\x15\x10" + TEXT + b"PAR1", "Parquet.*JSON lines.*read_parquet"),
    "parquet-cut": (b"PAR1\x15\0\x15\x10" + TEXT, "a Parquet file"),
    "arrow": (b"ARROW1\0\0" + TEXT, "an Arrow file"),
    "arrow-stream": (b"\xff\xff\xff\xff\x10\1\0\0" + TEXT, "an Arrow file"),
    "feather": (b"FEA1\0\0\0\0" + TEXT + b"FEA1", "a Feather file"),
    "orc": (b"ORC\x0a\x03" + TEXT + b"ORC\x17", "an ORC file"),
    "avro": (b"Obj\1\x04\x14avro.codec" + TEXT, "an Avro file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\0" + TEXT, "an HDF5 file"),
    "npy": (numpy_file(many=False), "a NumPy array"),
    "npz": (numpy_file(many=True), "NumPy arrays"),
    **{f"pickle-{n}": (pickle.dumps(["a text", {"a": 1}], n), "a pickle") for n in range(6)},
    "torch": (saved_by_torch(as_zip=True), r"a file of torch\.save"),
    "torch-early": (saved_by_torch(as_zip=False), r"a file of torch\.save"),
    "safetensors": (save_safetensors({"a": torch.ones(3)}), "a safetensors file"),
    "gguf": (b"GGUF\3\0\0\0" + TEXT, "a GGUF model"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "a PDF document.*pdftotext"),
    "rtf": (rb"{\rtf1\ansi Some text}", "rich-text"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "an image"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "an image"),
    "gif": (b"GIF89a\1\0\1\0\x80", "an image"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", "an image"),
    "elf": (Path(sys.executable).resolve().read_bytes()[:9000], "a compiled program"),
    "pe": (b"MZ\x90\0\3\0\0\0" + b"\0" * 60 + b"PE\0\0", "a compiled program"),
    "mach-o": (b"\xcf\xfa\xed\xfe\7\0\0\1", "a compiled program"),
    "lfs": (LFS, r"a Git-LFS pointer.*`git lfs pull`"),
    "annex": (b"/annex/objects/SHA256E-s12--0a.txt\n", "git-annex pointer.*git annex get"),
    "annex-link": (b"../.git/annex/objects/0a/Xz/SHA256E-s12--0a.txt", "git-annex pointer"),
    "html": (b"<!DOCTYPE html>\n<html><head><title>Log in", "an HTML page.*download the file"),
    "html-plain": (b"\n <html lang='en'>\n<body>404", "an HTML page"),
    "xhtml": (
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<!DOCTYPE html PUBLIC "x">\n<html>',
        "an HTML page",
    ),
    "s3": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code>', "server's error message"),
    "utf-16": ("Grüße\n".encode("utf-16"), r"mark of UTF-16.*set `encoding: utf-16`"),
    "utf-32": ("Grüße\n".encode("utf-32"), r"mark of UTF-32.*set `encoding: utf-32`"),
    "utf-16-le": ("Grüße\n".encode("utf-16-le"), "UTF-16-LE.*`encoding: utf-16-le`"),
    "utf-16-be": ("Grüße\n".encode("utf-16-be"), "UTF-16-BE.*`encoding: utf-16-be`"),
    "utf-16-le-zh": ("汉语文本。\n很好。\n".encode("utf-16-le"), "`encoding: utf-16-le`"),
    "utf-16-be-zh": ("汉语文本。\n很好。\n".encode("utf-16-be"), "`encoding: utf-16-be`"),
    "utf-32-be": ("Grüße\n".encode("utf-32-be"), "`encoding: utf-32-be`"),
    "nul": (b"text" * 300_000 + b"\0text", r"byte 1,200,000 is NUL"),
    "sparse": (b"\0" * 5000, "byte 0 is NUL"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["txt", "md", "py", "jsonl"])
@pytest.mark.parametrize("kind", NO_TEXTS)
def test_files_that_are_not_text_are_recognized(tmp_path: Path, kind: str, suffix: str) -> None:
    data, message = NO_TEXTS[kind]
    with pytest.raises(PreflightError, match=f"(?s)a\\.{suffix}\\): .*{message}") as error:
        taken(tmp_path, f"a.{suffix}", data)
    assert ("format: txt" in str(error.value)) is ("HTML" in message), "only to take it on purpose"


def test_an_sqlite_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="an SQLite database"):
        taken(tmp_path, "a.txt", database(tmp_path))


@pytest.mark.parametrize("pack", [gz, zstd], ids=["gz", "zst"])
@pytest.mark.parametrize("kind", ["tar", "zip", "warc", "parquet-cut", "html", "utf-16", "xz"])
def test_compressed_files_that_are_not_text_are_recognized(
    tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]
) -> None:
    data, message = NO_TEXTS[kind]
    name = "a.txt.gz" if pack is gz else "a.txt.zst"
    noun = message.partition(";")[0]
    with pytest.raises(PreflightError, match=noun):
        taken(tmp_path, name, pack(data))


def test_a_compressed_archive_without_the_suffix_is_recognized(tmp_path: Path) -> None:
    for pack in (gz, zstd):
        with pytest.raises(PreflightError, match=r"a tar archive in .* data; unpack it"):
            taken(tmp_path, "a.txt", pack(tar()))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt.gz", TEXT, "not gzip data; remove that suffix if it is text"),
        ("a.txt.gz", zstd(TEXT), "not gzip data but zstd data"),
        ("a.txt.zst", gz(TEXT), "not zstd data but gzip data"),
        ("a.txt.gz", LFS, "not gzip data but a Git-LFS pointer.*git lfs pull"),
        ("a.txt.gz", gz(gz(TEXT)), "compressed twice"),
        ("a.txt.gz", gz(TEXT + b"\0"), "decompressed byte 800 is NUL"),
    ],
)
def test_a_compressed_file_is_what_its_name_says(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        taken(tmp_path, name, data)


NEIGHBOURS = {
    "pk": b"PK was his name.\n",
    "bm": b"BM is short for benchmark.\n",
    "mz": b"MZ\nis Mozambique.\n",
    "par1": b"PAR1 is a bus route.\n",
    "orc": b"ORC armies marched.\n",
    "gif": b"GIF89a is a format; RIFF and GGUF are others.\n",
    "riff": b"RIFF raff.\n",
    "id3": b"ID3 tags name songs.\n",
    "gguf": b"GGUF is a format.\n",
    "pdf": b"%PDF-1.7 is how one begins.\n",
    "bzip2": b"BZh91AY&SY is how one begins, always.\n",
    "digits": b"070701" + b"0123456789" * 40,
    "warc": b"WARC/1.0 is a format of the web's archives.\n",
    "ustar": b"x" * 257 + b"ustar is a word in this text.\n" * 20,
    "pickle": b"cos\nsin\n(these are functions).",
    "rtf": b"{\\rtfm is an answer}\n",
    "lfs": b"version https://git-lfs.github.com/spec/v1 begins a pointer.\n",
    "annex": b"annex/objects/ is where git-annex keeps them. ../.git/annex/objects/ too.\n",
    "controls": b"page one\x0cpage two\n\x1b[1mbold\x1b[0m \x07\x08\x01\x04\x7f\n",
    "comment": b"<!-- a README begins so -->\n" * 3000 + b"# Title\n",
    "div": b'<div align="center">\n<h1 align="center">Title</h1>\n</div>\n',
    "mentions": b"The <html> element is the root; <!DOCTYPE html> stands before it.\n",
    "names-html": b"<html> is the root element.\n",
    "names-doctype": b"<!DOCTYPE html> is what a page begins with.\n",
    "xml": b'<?xml version="1.0"?>\n<play><title>Hamlet</title></play>\n',
    "one": b"x",
    "empty": b"",
    "mark": b"\xef\xbb\xbfmarked\n",
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_text_that_only_begins_alike_is_taken(tmp_path: Path, name: str) -> None:
    data = NEIGHBOURS[name]
    corpus = taken(tmp_path, "a.md", data)
    assert texts(corpus) == [data.decode().removeprefix("\ufeff")]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "MZ, Île-de-France, ÿþ\n"),
        ("cp1252", "“NUMPY” and €\x02\n"),
        ("cp1251", "яШя яяяя\n"),
        ("utf-16-be", "考える PAR1\n"),
        ("utf-16-le", "ʂ (lp0\n"),
        ("utf-16", "PAR1 ORC GIF89a\n"),
        ("utf-32", "MZ\n"),
        ("gb18030", "汉语文本\n"),
    ],
)
def test_letters_of_other_encodings_are_no_magic(tmp_path: Path, encoding: str, text: str) -> None:
    corpus = taken(tmp_path, "a.txt", text.encode(encoding), encoding=encoding)
    assert texts(corpus) == [text]


@pytest.mark.parametrize(
    ("encoding", "data", "message"),
    [
        ("latin-1", "\ufeffé".encode(), "mark of UTF-8, but the stated encoding is latin-1"),
        ("utf-8", "é".encode("utf-16"), "mark of UTF-16-"),
        ("utf-16-le", b"\xfe\xff\0e", "mark of UTF-16-BE.*set `encoding: utf-16`"),
        ("utf-16", "Grüße\n".encode("utf-16-be"), "needs a byte order mark.*`encoding: utf-16-be`"),
        ("utf-32", "Grüße\n".encode("utf-32-le"), "needs a byte order mark.*`encoding: utf-32-le`"),
        ("utf-16", "a\0b".encode("utf-16"), "byte 4 is NUL"),
    ],
)
def test_an_encoding_must_agree_with_the_byte_order_mark(
    tmp_path: Path, encoding: str, data: bytes, message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        taken(tmp_path, "a.txt", data, encoding=encoding)


def test_html_is_taken_where_the_name_and_the_format_say_so(tmp_path: Path) -> None:
    page = b"<!DOCTYPE html>\n<html><body>Text</body></html>\n"
    assert counted(tmp_path, "a.html", page, format="txt").num_documents == 1
    packed = gz(page)
    assert counted(tmp_path, "a.htm.gz", packed, format="txt").num_chars == len(page)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.parquet", "a Parquet file"),
        ("a.tar.gz", "a tar archive"),
        ("a.tgz", "a tar archive"),
        ("a.PDF", "a PDF document"),
        ("a.txt.xz", "xz or lzma data"),
        ("a.json", "a JSON document"),
    ],
)
def test_a_suffix_of_no_text_is_not_to_be_called_txt(name: str, said: str) -> None:
    problem, advice = no_format(name)
    assert said in problem
    assert "format: txt" not in advice


@pytest.mark.parametrize("kind", ["tar", "parquet", "elf", "lfs", "zip", "utf-16-le"])
@pytest.mark.parametrize("name", ["a", "a.dat", "a.dat.gz"])
def test_the_content_says_what_a_file_without_a_known_suffix_is(
    tmp_path: Path, kind: str, name: str
) -> None:
    data = NO_TEXTS[kind][0]
    (tmp_path / name).write_bytes(gz(data) if name.endswith(".gz") else data)
    with pytest.raises(PreflightError) as error:
        reading().format_of(name, tmp_path / name)
    assert "format: txt" not in str(error.value)


@pytest.mark.parametrize("name", ["a", "a.dat", "a.pdf", "a.dat.gz", "a.html"])
def test_a_text_without_a_known_suffix_may_be_called_txt(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gz(TEXT) if name.endswith(".gz") else TEXT)
    with pytest.raises(PreflightError, match="set `format: txt`"):
        reading().format_of(name, tmp_path / name)
