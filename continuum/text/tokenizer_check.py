"""Whether a tokenizer works, before there is a corpus for it."""

from pathlib import Path

from continuum.artifacts import TokenizerFiles
from continuum.errors import PreflightError
from continuum.events import Report, Warned
from continuum.text.round_trip import load_round_trip
from continuum.text.text_loss import Excerpt, compare
from continuum.text.tokenizing import called, inspect_tokenizer

PROBE = (
    "The quick brown fox, 3.14 x 10^8 (really?) said: don't!\n\n"
    "\tdef f(x):\n\t\treturn x  # two  spaces\r\n"
    "Zażółć gęślą jaźń, naïve café, Straße, ελληνικά, кириллица\n"
    "日本語の文章 한국어 中文\n"
    "😀 👩\u200d👩\u200d👧 ∑ → end"
)
"""Text that a tokenizer fit for free text gives back: scripts, symbols, whitespace."""


def accept_tokenizer(
    folder: Path, name: str, report: Report, **origin: str | None
) -> TokenizerFiles:
    """Check a tokenizer from elsewhere and describe it; report what is worth a warning.

    Args:
        name: What the user calls it.
        origin: `repo` and `commit`, or `source`: see `inspect_tokenizer`.

    Raises:
        PreflightError: it does not work.
    """
    with called(name, folder):
        remarks = check_tokenizer(folder)
        found = inspect_tokenizer(folder, **origin)
    for warning in found.warn_of((*found.remarks, *remarks)):
        report(Warned(warning))
    return found


def check_tokenizer(folder: Path) -> tuple[str, ...]:
    """Encode a text of many scripts and decode it again.

    A tokenizer that does not give this text back may suit a corpus of its own alphabet, such as
    DNA; `tokenize` compares with the corpus at hand.

    Returns:
        What is worth a warning, in sentences that go on after the tokenizer's name.

    Raises:
        PreflightError: the tokenizer cannot be loaded, or encodes nothing.
    """
    round_trip = load_round_trip(folder)
    try:
        rows = round_trip.encode([PROBE])
    except PreflightError:
        if not round_trip.encodes_its_tokens():
            raise
        return ("it cannot encode text with words that it does not know, and has no id for them",)
    if not rows[0] and not round_trip.encodes_its_tokens():
        raise PreflightError(f"{folder}: the tokenizer makes no token of any text")
    (decoded,) = round_trip.decode(rows)
    lost = compare(Excerpt(PROBE, "", 1, 0), decoded, round_trip.unknown_text).lost
    if not lost:
        return ()
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in lost.items())
    return (
        f"it does not give every text back: of {len(PROBE):,} characters in many scripts it lost "
        f"{kinds}; what it loses of a corpus, `tokenize` finds",
    )
