"""Describes and checks the tokenizer in a folder, before there is a corpus for it.

Whatever would make LitGPT's `Tokenizer` fail later is an error or a warning here.
"""

from pathlib import Path

from continuum.errors import PreflightError
from continuum.runs.artifacts import TokenizerFiles
from continuum.runs.events import Report, Warned
from continuum.runs.files import sha256_file
from continuum.text.chunks import TextChunk
from continuum.text.text_loss import compare
from continuum.text.tokenizer import load_tokenizer, vocabulary_file

PROBE = (
    "The quick brown fox, 3.14 x 10^8 (really?) said: don't!\n\n"
    "\tdef f(x):\n\t\treturn x  # two  spaces\r\n"
    "Zażółć gęślą jaźń, naïve café, Straße, ελληνικά, кириллица\n"
    "日本語の文章 한국어 中文\n"
    "😀 👩\u200d👩\u200d👧 ∑ → end"
)
"""Text that a general tokenizer decodes exactly: scripts, symbols, whitespace."""


def inspect_tokenizer(
    folder: Path,
    *,
    repo: str | None = None,
    commit: str | None = None,
    source: str | None = None,
) -> TokenizerFiles:
    """Describe the tokenizer in `folder`; `repo`, `commit` and `source` are passed through.

    Raises:
        PreflightError: files are missing, unreadable, or contradict each other.
    """
    tokenizer = load_tokenizer(folder)
    num_ids, special = tokenizer.num_ids, tokenizer.special_tokens()
    vocabulary = vocabulary_file(folder)
    if num_ids == 0:
        raise PreflightError(f"{vocabulary}: the vocabulary is empty; download the file again")
    for name, token_id in (("BOS", special.bos_id), ("EOS", special.eos_id)):
        if token_id is not None and not 0 <= token_id < num_ids:
            raise PreflightError(
                f"{folder}: the {name} token's id {token_id} is outside the vocabulary "
                f"(ids 0 to {num_ids - 1}); the files come from different tokenizers"
            )
    return TokenizerFiles(
        path=folder,
        num_ids=num_ids,
        vocabulary_digest=sha256_file(vocabulary),
        bos_id=special.bos_id,
        eos_id=special.eos_id,
        repo=repo,
        commit=commit,
        source=source,
        bos_token=tokenizer.piece(special.bos_id) if special.bos_id is not None else None,
        eos_token=tokenizer.piece(special.eos_id) if special.eos_id is not None else None,
        adds_bos=special.adds_bos,
        remarks=tuple(r.replace(str(folder), repo or source or "FOLDER") for r in special.remarks),
    )


def accept_tokenizer(folder: Path, report: Report, **origin: str | None) -> TokenizerFiles:
    """Check and describe an imported or downloaded tokenizer, and report its warnings.

    Args:
        origin: `repo` and `commit`, or `source`: see `inspect_tokenizer`.

    Raises:
        PreflightError: it does not work.
    """
    remarks = check_tokenizer(folder)
    found = inspect_tokenizer(folder, **origin)
    for warning in found.warn_of((*found.remarks, *remarks)):
        report(Warned(warning))
    return found


def check_tokenizer(folder: Path) -> tuple[str, ...]:
    """Encode a text of many scripts and decode it again.

    A tokenizer that does not reproduce this text may still suit a corpus of its own alphabet, such
    as DNA; `tokenize` compares with the actual corpus.

    Returns:
        Warnings, as sentences to append to the tokenizer's name.

    Raises:
        PreflightError: the tokenizer cannot be loaded, or encodes nothing.
    """
    tokenizer = load_tokenizer(folder)
    try:
        rows = tokenizer.encode([PROBE])
    except PreflightError:
        if not tokenizer.encodes_its_tokens():
            raise
        return ("it fails on words outside its vocabulary and has no id for unknown words",)
    if not rows[0] and not tokenizer.encodes_its_tokens():
        raise PreflightError(f"{folder}: the tokenizer produces no tokens for any text")
    lost = compare(TextChunk(PROBE), tokenizer.decode(rows)[0], tokenizer.unknown_text).lost
    if not lost:
        return ()
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in lost.items())
    return (
        f"it is lossy: of {len(PROBE):,} test characters in many scripts it lost {kinds}; "
        "`tokenize` measures the loss on the corpus",
    )
