"""Memory while tokenizing, measured in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.text.samples import messy_text, prose, write_corpus

MEASURE = """
import re, sys
from pathlib import Path
from continuum.artifacts import Corpus
from continuum.text.dataset import write_splits
from continuum.text.encoding import choose_method
from continuum.text.marks import Marks
from continuum.text.sampling import sample_texts
from continuum.text.splits import draw, survey
from continuum.text.reading import read_documents
from continuum.text.splits import by_draw
folder, tokenizer = Path(sys.argv[1]), Path(sys.argv[2])
corpus = Corpus.model_validate_json((folder / "corpus.json").read_bytes())
splits = write_splits(
    by_draw(corpus, draw(survey(read_documents(corpus), 1), 0.1)),
    {name: folder / name for name in ("train", "validation")},
    method=choose_method(tokenizer, sample_texts(corpus)),
    marks=Marks(0, None),
    num_ids=3000,
    chunk_bytes=1 << 20,  # a chunk is held in memory: let both sizes fill many
)
peak_kb = re.search("VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]
print(splits["train"].num_tokens, int(peak_kb) // 1024)
"""


# Not `getrusage`: its peak begins with that of the process that started this one.


def measure(folder: Path, tokenizer: Path, copies: int) -> tuple[int, int]:
    """Tokens made and peak memory in MB of a fresh process."""
    corpus = write_corpus(folder, {"a.txt": (prose() + messy_text(5000)) * copies})
    (folder / "corpus.json").write_text(corpus.model_dump_json(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(tokenizer)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    num_tokens, peak_mb = map(int, done.stdout.split())
    return num_tokens, peak_mb


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(trained_tokenizer: Path, tmp_path: Path) -> None:
    small_tokens, small_mb = measure(tmp_path / "small", trained_tokenizer, copies=12)
    large_tokens, large_mb = measure(tmp_path / "large", trained_tokenizer, copies=60)
    assert large_tokens > 4 * small_tokens
    assert large_mb < small_mb + 40
