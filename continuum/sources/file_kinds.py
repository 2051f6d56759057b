"""Recognizes files that are not text, by their first and last bytes.

A kind is only reported on evidence that text cannot contain: magic bytes that are not characters,
or a structure. A text that starts with "PK", "BM", "MZ" or "PAR1", or mentions `<html>`, is still
text.
"""

import codecs
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

LOOK_BYTES = 1 << 16
"""Bytes read from each end of a file."""
MARKUP_SUFFIXES = (".html", ".htm", ".xhtml")
"""Suffixes of intended web pages."""
MANY_STEPS = 100
"""So many valid pickle opcodes are not a coincidence."""
MAX_POINTER_BYTES = 1024
"""The maximum size of a Git-LFS pointer."""


@dataclass(frozen=True)
class Look:
    """The two ends of a file; they overlap in a small one."""

    head: bytes
    tail: bytes
    size_bytes: int | None
    """None if unknown, as during decompression; then there is no tail either."""
    encoding: str = "utf-8"
    """The stated encoding of its text."""

    @cached_property
    def is_binary(self) -> bool:
        """True if the beginning cannot be text in the stated encoding."""
        if self.has_wide_encoding:
            return False
        try:
            codecs.getincrementaldecoder(self.encoding)().decode(self.head)
        except UnicodeError:
            return True
        return b"\0" in self.head

    @property
    def has_wide_encoding(self) -> bool:
        """True if ordinary text has NUL bytes in the stated encoding."""
        return codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32"))


def look_at(path: Path, encoding: str = "utf-8") -> Look:
    """The two ends of a file on disk."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(LOOK_BYTES)
        file.seek(max(0, size - LOOK_BYTES))
        return Look(head, file.read(LOOK_BYTES), size, encoding)


def look_inside(look: Look) -> Look | None:
    """The decompressed start of gzip or zstd data; None if it is neither, or corrupt."""
    if look.head.startswith(b"\x1f\x8b"):
        try:
            inner = zlib.decompressobj(wbits=31).decompress(look.head, LOOK_BYTES)
        except zlib.error:
            return None
    elif look.head.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        try:
            inner = zstandard.ZstdDecompressor().decompressobj().decompress(look.head)[:LOOK_BYTES]
        except zstandard.ZstdError:
            return None
    else:
        return None
    return Look(inner, b"", None, look.encoding)


@dataclass(frozen=True)
class FileKind:
    """A kind of data, and how to get its text."""

    noun: str
    """With its article: `a Parquet file`."""
    advice: str
    suffixes: str = ""
    """Its suffixes, separated by spaces."""

    def __str__(self) -> str:
        return f"{self.noun}; {self.advice}"


def recognize(look: Look) -> FileKind | None:
    """The kind of data that is not text; None if no known kind matches."""
    size = len(look.head) if look.size_bytes is None else look.size_bytes
    found = _first_match(look, _POINTERS) if size <= MAX_POINTER_BYTES else None
    found = found or _first_match(look, _MAGIC)
    if found is ZIP:
        names = look.head + look.tail  # of its members, listed at the end of the archive
        found = next((kind for name, kind in _IN_ZIP if name in names), ZIP)
    # Text in wide encodings may start with the short magic bytes below.
    if found is not None or look.has_wide_encoding:
        return found
    found = _first_match(look, _STRUCTURES)
    return _first_match(look, _BINARY) if found is None and look.is_binary else found


def kind_of_suffix(name: str) -> FileKind | None:
    """The kind of data of a file's last suffix; None if unknown or text."""
    return _SUFFIXES.get(PurePosixPath(name).suffix.lower())


def is_web_page(head: bytes) -> bool:
    """True if a file starts like an HTML page; single tags, as in a README, are not enough."""
    return _PAGE.match(head) is not None


def is_refusal(head: bytes) -> bool:
    """True for the XML error of an object store."""
    return _REFUSAL.match(head) is not None


_COMMENTS = rb"(?:<!--(?:(?!-->).)*-->\s*)*"
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?" + _COMMENTS + rb"(?:<!doctype\s+html[^>]*>\s*"
    + _COMMENTS + rb"(?:<[a-z!/]|\Z)|<(?:html|head)(?:\s[^>]*)?>\s*" + _COMMENTS + rb"<[a-z!/])",
    re.IGNORECASE | re.DOTALL,
)  # fmt: skip
_REFUSAL = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<Error>\s*<Code>")

_UNPACK = "unpack it first, and name its files"
_TO_LINES = "convert it to JSON lines first, for example with"
_PANDAS = "to_json('data.jsonl', orient='records', lines=True)`"
_EXPORT = "export it as plain text first"
_NO_TEXT = "it contains no text; remove it from the sources"
_REPACK = "unpack it first (`{} -d FILE`), or pack it as .gz or .zst"

GZIP = FileKind("gzip data", "use the suffix .gz (as in book.txt.gz) to decompress it")
ZSTD = FileKind("zstd data", "use the suffix .zst (as in book.txt.zst) to decompress it")
ZIP = FileKind("a zip archive", _UNPACK, ".zip")
TAR = FileKind("a tar archive", f"{_UNPACK} (`tar -xf FILE`)", ".tar .tgz .txz .tbz2 .tzst")
TORCH = FileKind(
    "a file of torch.save",
    "import weights with `kind: import`, `as: weights`",
    ".pt .pth .ckpt",
)
SAFETENSORS = FileKind("a safetensors file", "weights are not text", ".safetensors")
PARQUET = FileKind(
    "a Parquet file", f"{_TO_LINES} `pandas.read_parquet('data.parquet').{_PANDAS}", ".parquet .pq"
)
ARROW = FileKind(
    "an Arrow file", f"{_TO_LINES} `datasets` or pyarrow (`Dataset.to_json`)", ".arrow .arrows .ipc"
)
FEATHER = FileKind(
    "a Feather file", f"{_TO_LINES} `pandas.read_feather('data.feather').{_PANDAS}", ".feather"
)
ORC = FileKind("an ORC file", f"{_TO_LINES} `pandas.read_orc('data.orc').{_PANDAS}", ".orc")
AVRO = FileKind("an Avro file", f"{_TO_LINES} `avro-tools tojson`", ".avro")
HDF5 = FileKind("an HDF5 file", "write its texts as JSON lines first", ".h5 .hdf5")
NPY = FileKind("a NumPy array", "arrays are not text; use the original text", ".npy")
PICKLE = FileKind(
    "a pickle", "write its texts as JSON lines from Python first", ".pkl .pickle .joblib"
)
SQLITE = FileKind(
    "an SQLite database", f"{_TO_LINES} `sqlite3 -json` and `jq -c '.[]'`", ".db .sqlite .sqlite3"
)
PDF = FileKind("a PDF document", "extract its text first, for example with `pdftotext`", ".pdf")
RTF = FileKind("a rich-text (RTF) document", _EXPORT, ".rtf")
WARC = FileKind(
    "a WARC web archive", "extract the texts first, for example as JSON lines", ".warc .wet"
)
IMAGE = FileKind("an image", _NO_TEXT, ".png .jpg .jpeg .gif .webp .bmp .tif .tiff .ico")
SOUND = FileKind("sound or video", _NO_TEXT, ".mp3 .wav .flac .ogg .m4a .mp4 .mkv .avi .mov .webm")
FONT = FileKind("a font", _NO_TEXT, ".ttf .otf .woff .woff2")
PROGRAM = FileKind("a compiled program", _NO_TEXT, ".exe .dll .so .dylib .o .pyc .class .wasm")
XZ = FileKind("xz or lzma data", _REPACK.format("xz"), ".xz .lzma")
BZIP2 = FileKind("bzip2 data", _REPACK.format("bzip2"), ".bz2")
LZ4 = FileKind("lz4 data", _REPACK.format("lz4"), ".lz4")
LZIP = FileKind("lzip data", _REPACK.format("lzip"), ".lz")
COMPRESS = FileKind("data compressed by compress", "unpack it first (`gzip -d FILE`)", ".z")
SEVEN_ZIP = FileKind("a 7z archive", f"{_UNPACK} (`7z x FILE`)", ".7z")
RAR = FileKind("a RAR archive", f"{_UNPACK} (`unrar x FILE`)", ".rar")
PACKAGE = FileKind("an ar archive (.deb or .a)", _UNPACK, ".deb .a")
CPIO = FileKind("a cpio archive", f"{_UNPACK} (`cpio -i < FILE`)", ".cpio")
GGUF = FileKind("a GGUF model", "weights are not text", ".gguf")
OFFICE = FileKind("an office document (OLE: .doc, .xls, .ppt)", _EXPORT, ".doc .xls .ppt")
TOKENS = FileKind("a file of token ids", "use the original text")
LFS = FileKind("a Git-LFS pointer, not the file itself", "run `git lfs pull` in its repository")
ANNEX = FileKind(
    "a git-annex pointer, not the file itself", "run `git annex get` in its repository"
)
XET = FileKind(
    "a Xet pointer, not the file itself", "download the file with `git xet` or `hf download`"
)
DVC = FileKind(
    "a DVC pointer, not the file itself", "run `dvc pull`, and name the file itself", ".dvc"
)
DOCX = FileKind("a Word document (DOCX)", f"{_EXPORT} (`pandoc -t plain FILE`)", ".docx")
SHEET = FileKind("a spreadsheet (XLSX)", "export it as JSON lines first", ".xlsx")
SLIDES = FileKind("a presentation (PPTX)", _EXPORT, ".pptx")
EPUB = FileKind("an EPUB book", f"{_EXPORT} (`pandoc -t plain FILE`)", ".epub")
ODT = FileKind("an OpenDocument file (ODT, ODS, ODP)", _EXPORT, ".odt .ods .odp")
NPZ = FileKind("an archive of NumPy arrays (.npz)", NPY.advice, ".npz")
JAR = FileKind("a Java archive", _UNPACK, ".jar")
WHEEL = FileKind(
    "a Python package (wheel)", "install it, and use `python:` to name its files", ".whl"
)
JSON = FileKind(
    "a JSON document",
    "if each line is one object, set `format: jsonl`; if it is an array of objects, "
    "write one per line first (`jq -c '.[]' data.json > data.jsonl`)",
    ".json",
)
POINTERS = (LFS, ANNEX, XET)
"""Placeholders for files stored elsewhere."""
WITHOUT_TEXT = (IMAGE, SOUND, FONT, PROGRAM, PACKAGE, JAR, WHEEL)
"""Files found beside texts that never contain any."""
TEXT_KINDS = (JSON, DVC)
"""Kinds that are plain text themselves."""


_Test = bytes | Callable[[Look], bool]
"""A regular expression for the start of a file, or a function."""


def _first_match(look: Look, tests: tuple[tuple[_Test, FileKind], ...]) -> FileKind | None:
    for test, kind in tests:
        # `re` compiles and caches the expressions on first use.
        if test(look) if callable(test) else re.match(test, look.head, re.DOTALL):
            return kind
    return None


def _is_parquet(look: Look) -> bool:
    is_marked = look.head.startswith((b"PAR1", b"PARE"))
    is_whole = len(look.tail) >= 12 and look.tail.endswith((b"PAR1", b"PARE"))
    is_thrift = look.head[4:5] == b"\x15"
    return is_marked and (is_whole or is_thrift or look.is_binary)


def _is_orc(look: Look) -> bool:
    return look.head.startswith(b"ORC") and (look.is_binary or look.tail[-4:-1] == b"ORC")


def _is_tar(look: Look) -> bool:
    """True if the first 512 bytes are a header with a valid checksum."""
    header = look.head[:512]
    try:
        stated = int(header[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return len(header) == 512 and stated == sum(header[:148] + b" " * 8 + header[156:])


def _is_pdf(look: Look) -> bool:
    is_whole = look.head.startswith(b"%PDF-") and (look.is_binary or b"%%EOF" in look.tail)
    return is_whole or re.match(rb"%PDF-\d\.\d\s*(?:[\r\n]|\Z)", look.head) is not None


def _is_early_pickle(look: Look) -> bool:
    """True if the start is a pickle program: protocols 0 and 1 have no magic bytes."""
    if re.match(_EARLY_PICKLE, look.head) is None:
        return False
    import pickletools

    num_steps = 0
    try:
        for step, _, _ in pickletools.genops(look.head):
            num_steps += 1
            if step.name == "STOP":
                return True
    except ValueError:  # an unknown opcode, or a truncated one
        pass
    return num_steps >= MANY_STEPS


_EARLY_PICKLE = rb"\((?:lp|dp|ip)\d+\n|c[\w.]+\n[\w.]+\n|[\])}]q\0|\(c[\w.]+\n"
_IN_ZIP = (
    (b"mimetypeapplication/epub+zip", EPUB),
    (b"mimetypeapplication/vnd.oasis.opendocument", ODT),
    (b"word/document", DOCX),
    (b"xl/workbook", SHEET),
    (b"ppt/presentation", SLIDES),
    (b"/data.pkl", TORCH),
    (b".npy", NPZ),
    (b"META-INF/MANIFEST.MF", JAR),
    (b".dist-info/", WHEEL),
)
_POINTERS: tuple[tuple[_Test, FileKind], ...] = (
    (rb"version https?://(?:git-lfs|hawser)\.github\.com/spec/v\d[^\n]*\n[^\0]*\boid ", LFS),
    (rb"(?:(?:\.\./)*\.git)?/annex/objects/\S+\s*\Z", ANNEX),
    (rb"# xet version \d", XET),
)
_MAGIC: tuple[tuple[_Test, FileKind], ...] = (
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", ZIP),
    (rb"\x1f\x8b\x08", GZIP),
    (rb"\x28\xb5\x2f\xfd", ZSTD),
    (rb"\xfd7zXZ\0|\x5d\0\0", XZ),
    (rb"\x04\x22\x4d\x18", LZ4),
    (rb"LZIP\x01", LZIP),
    (rb"7z\xbc\xaf\x27\x1c", SEVEN_ZIP),
    (rb"Rar!\x1a\x07", RAR),
    (rb"ARROW1\0", ARROW),
    (rb"Obj\x01", AVRO),
    (rb"\x89HDF\r\n\x1a\n", HDF5),
    (rb"\x93NUMPY[\1-\3]\0", NPY),
    (rb"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", TORCH),
    (rb"SQLite format 3\0", SQLITE),
    (rb"\x89PNG\r\n\x1a\n|II\*\0|MM\0\*", IMAGE),
    (rb"fLaC\0|OggS\0|\x1aE\xdf\xa3", SOUND),
    (rb"\x7fELF|\0asm|\xca\xfe\xba\xbe\0", PROGRAM),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OFFICE),
    (rb"MMIDIDX\0", TOKENS),
    (_is_tar, TAR),
)
"""Starts that are not text in any common encoding."""
_STRUCTURES: tuple[tuple[_Test, FileKind], ...] = (
    (rb"WARC/\d\.\d+\r?\n[\w-]+:", WARC),
    (_is_parquet, PARQUET),
    (_is_orc, ORC),
    (rb"\xff\xff\xff\xff..\0\0", ARROW),
    (rb"\x1f\x9d[\x80-\xff]", COMPRESS),
    (rb"(?![\0\1]\0\0\0)....\0\0\0\0\{", SAFETENSORS),
    (rb"\x80[\x02-\x05]", PICKLE),
    (_is_early_pickle, PICKLE),
    (rb"..\r\n[\0-\x03]\0\0\0", PROGRAM),
    (rb"BZh[1-9](?:1AY&SY.{0,12}[\0-\x08\x80-\xff]|\x17\x72\x45\x38\x50\x90)", BZIP2),
    (rb"!<arch>\n.{58}`\n", PACKAGE),
    (_is_pdf, PDF),
    (rb"\{\\rtf\d?[\\\s{}]", RTF),
    (rb"RIFF....WEBP", IMAGE),
    (rb"BM....\0\0\0\0", IMAGE),
)
_BINARY: tuple[tuple[_Test, FileKind], ...] = (
    (rb"ARROW1", ARROW),
    (rb"FEA1", FEATHER),
    (rb"GGUF|ggml|ggjt|lmgg|tjgg", GGUF),
    (rb"07070[127]", CPIO),
    (rb"GIF8[79]a|\xff\xd8\xff", IMAGE),
    (rb"RIFF|ID3|....ftyp", SOUND),
    (rb"MZ|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe", PROGRAM),
)
"""Letters that may also start a text, so the rest must be binary."""
_SUFFIXES = {
    suffix: kind
    for kind in tuple(globals().values())
    if isinstance(kind, FileKind)
    for suffix in kind.suffixes.split()
}
