"""Cuts at safe places change no token, whatever the tokenizer and the text."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from continuum.text.bpe import untrained_bpe
from continuum.text.chunks import TextChunker
from continuum.text.safe_places import SafePlaces, UncuttableError
from tests.text.made_tokenizers import (
    ADDED,
    ALPHABET,
    NORMALIZERS,
    PRE_TOKENIZERS,
    bpe,
    byte_level,
    in_turn,
    split,
    unigram,
)
from tests.text.samples import messy_text, prose


def cut(tokenizer: Tokenizer, text: str) -> list[str]:
    """At every safe place."""
    try:
        places = SafePlaces(tokenizer)
    except UncuttableError:
        return [text]
    return list(TextChunker(places, chunk_chars=1).cut((text,)))


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [token for encoding in encodings for token in encoding.ids]


def assert_cuts_change_nothing(tokenizer: Tokenizer, text: str) -> None:
    chunks = cut(tokenizer, text)
    assert "".join(chunks) == text
    assert ids_of(tokenizer, chunks) == ids_of(tokenizer, [text])


COMBINATIONS = [
    (normalizer, added)
    for normalizer in NORMALIZERS
    for added in ADDED
    # An added token that is stripped to nothing makes `tokenizers` panic.
    if (normalizer, added) != ("strip", "normalized")
]


def assert_cuts_change_nothing_at_random(pre_tokenizer: str, normalizer: str, added: str) -> None:
    draw = random.Random(f"{pre_tokenizer} {normalizer} {added}")
    signs = [*ALPHABET, *"Ġċ", "ab", "a ", "²,", "\n\n", "a\n", "。日", ", "]
    for _ in range(4):
        merges = [(draw.choice(signs), draw.choice(signs)) for _ in range(250)]
        tokenizer = bpe(
            merges,
            alphabet=ALPHABET if draw.random() < 0.5 else ALPHABET[::2],
            added=ADDED[added],
            normalizer=NORMALIZERS[normalizer](),
            pre_tokenizer=PRE_TOKENIZERS[pre_tokenizer](),
            fuse_unk=draw.random() < 0.5,
            ignore_merges=draw.random() < 0.2,
        )
        for _ in range(10):
            assert_cuts_change_nothing(tokenizer, "".join(draw.choices(ALPHABET, k=60)))


texts = st.text(alphabet=ALPHABET, min_size=2, max_size=40)
parts = st.text(alphabet=ALPHABET, min_size=1, max_size=3)
thorough = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@pytest.mark.parametrize("pre_tokenizer", PRE_TOKENIZERS)
def test_no_cut_changes_an_id_of_a_made_up_tokenizer(pre_tokenizer: str) -> None:
    draw = random.Random(pre_tokenizer)
    for normalizer, added in draw.sample(COMBINATIONS, 6):
        assert_cuts_change_nothing_at_random(pre_tokenizer, normalizer, added)


@pytest.mark.slow
@pytest.mark.parametrize("pre_tokenizer", PRE_TOKENIZERS)
def test_no_cut_changes_an_id_in_any_combination(pre_tokenizer: str) -> None:
    for normalizer, added in COMBINATIONS:
        assert_cuts_change_nothing_at_random(pre_tokenizer, normalizer, added)


@thorough
@given(
    text=texts,
    merges=st.lists(st.tuples(parts, parts), max_size=12),
    pre_tokenizer=st.sampled_from(sorted(PRE_TOKENIZERS)),
    normalizer=st.sampled_from(sorted(NORMALIZERS)),
    fuses=st.booleans(),
)
def test_no_cut_changes_an_id_whatever_the_text(
    text: str, merges: list[tuple[str, str]], pre_tokenizer: str, normalizer: str, fuses: bool
) -> None:
    words = map("".join, merges)
    chains = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    tokenizer = bpe(
        chains,
        normalizer=NORMALIZERS[normalizer](),
        pre_tokenizer=PRE_TOKENIZERS[pre_tokenizer](),
        fuse_unk=fuses,
    )
    assert_cuts_change_nothing(tokenizer, text + "ab " + text)


@thorough
@given(
    text=st.text(alphabet="ab 1,▁。日x\n", min_size=2, max_size=60),
    tokens=st.lists(
        st.tuples(st.text(alphabet="ab 1,▁。日", min_size=2, max_size=3), st.floats(-9, -1)),
        max_size=12,
    ),
    pre_tokenizer=st.sampled_from(sorted(PRE_TOKENIZERS)),
)
def test_no_cut_changes_an_id_of_a_unigram(
    text: str, tokens: list[tuple[str, float]], pre_tokenizer: str
) -> None:
    tokenizer = unigram(tokens, pre_tokenizer=PRE_TOKENIZERS[pre_tokenizer]())
    assert_cuts_change_nothing(tokenizer, text)


def test_a_token_across_a_superscript_and_a_comma_is_not_cut() -> None:
    tokenizer = bpe([("²", ","), ("a", " ")], alphabet="²,a bc")
    chunks = cut(tokenizer, "b²,c b²,a cb c" * 3)
    assert not any(chunk.endswith("²") for chunk in chunks)
    assert not any(chunk.endswith("a") for chunk in chunks[:-1])
    assert any(chunk.endswith("b") for chunk in chunks)


@pytest.mark.parametrize("added", ADDED)
def test_no_cut_changes_what_an_added_token_takes(added: str) -> None:
    draw = random.Random(added)
    tokenizer = bpe([("a", "b")], alphabet="ab1 <>,", added=ADDED[added])
    for _ in range(300):
        words = draw.choices(["ab", "a", "b", " ", "  ", "<", ">", "1", ","], k=12)
        assert_cuts_change_nothing(tokenizer, "".join(words))


def test_a_letter_that_composes_with_the_next_is_not_cut_from_it() -> None:
    normalized = bpe([], normalizer=NORMALIZERS["NFC"](), pre_tokenizer=byte_level())
    for text in ("1e\u0301 1e\u0301", "가\u11a8 \u1112\u1161\u11a8"):
        assert not any(chunk[0] in "\u0301\u11a8\u1161" for chunk in cut(normalized, text))


@pytest.mark.parametrize("kind", ["byte-level", "llama3", "o200k", "possessive", "digits"])
def test_usual_tokenizers_are_cut_often(kind: str) -> None:
    tokenizer = bpe([("t", "h")], alphabet="", pre_tokenizer=PRE_TOKENIZERS[kind]())
    for text in (prose()[:50_000], "日本語の文章。日本語の文章、" * 100):
        chunks = cut(tokenizer, text)
        assert len(chunks) > len(text) / 12


def test_a_bpe_without_pre_tokenizer_is_cut_where_no_token_is() -> None:
    merges = [("▁", "t"), ("o", "f")]
    tokenizer = bpe(merges, alphabet="▁" + prose(), normalizer=NORMALIZERS["sign"]())
    text = prose()[:20_000]
    assert len(cut(tokenizer, text)) > len(text) / 12
    assert_cuts_change_nothing(tokenizer, text)


def test_unigram_is_cut_only_where_its_pre_tokenizer_ends_a_word() -> None:
    tokens = [("▁a", -2.0), ("ab", -3.0)]
    assert len(cut(unigram(tokens), "ab ab, ab" * 9)) == 1
    chunks = cut(unigram(tokens, pre_tokenizer=PRE_TOKENIZERS["metaspace"]()), "ab ab, ab" * 9)
    assert len(chunks) > 9
    assert all(chunk.startswith(" ") for chunk in chunks[1:])


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (bpe([], normalizer=NORMALIZERS["prepend"]()), "Prepend"),
        (bpe([], normalizer=NORMALIZERS["expression"]()), "regular expression"),
        (bpe([], pre_tokenizer=PRE_TOKENIZERS["behind"]()), r"\(\?<="),
        (bpe([], pre_tokenizer=PRE_TOKENIZERS["bounds"]()), r"\\b"),
        (bpe([], pre_tokenizer=split("a*")), "empty"),
        (bpe([], pre_tokenizer=in_turn(byte_level(), split("Ġ"))), "byte-level text again"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_of_a_missing_proof_is_reported(tokenizer: Tokenizer, reason: str) -> None:
    with pytest.raises(UncuttableError, match=reason):
        SafePlaces(tokenizer)


def test_a_merge_that_only_a_whole_word_ignores_keeps_the_word_whole() -> None:
    tokenizer = bpe([("a", "b")], alphabet="ab1,", ignore_merges=True)
    assert cut(tokenizer, "ab1,ab1,") == ["ab1,ab1,"]


def test_messy_text_is_cut_right() -> None:
    for kind in ("llama3", "byte-level", "none"):
        tokenizer = bpe(
            [("a", "l"), ("Ġ", "w"), ("o", "."), ("\n", "\n"), (" ", " ")],
            alphabet="".join(sorted(set(messy_text(2000)))),
            normalizer=NORMALIZERS["NFC"](),
            pre_tokenizer=PRE_TOKENIZERS[kind](),
        )
        assert_cuts_change_nothing(tokenizer, messy_text(20_000, seed=5))


PLACES = SafePlaces(untrained_bpe())


def test_pieces_make_up_the_text() -> None:
    text = messy_text(20_000)
    chunks = list(TextChunker(PLACES, chunk_chars=100).cut((text,)))
    assert "".join(chunks) == text
    assert len(chunks) > 500


def test_pieces_do_not_depend_on_how_the_text_arrives() -> None:
    text = messy_text(20_000) + "#" * 5000 + prose()
    arrivals = ([text], [text[i : i + 7] for i in range(0, len(text), 7)])
    chunkers = [TextChunker(PLACES, 200, long_chunk_chars=1000) for _ in arrivals]
    first, second = (
        list(chunker.cut(text)) for chunker, text in zip(chunkers, arrivals, strict=True)
    )
    assert first == second
    assert chunkers[0].num_long == chunkers[1].num_long == 1


def test_pieces_end_soon_after_their_length() -> None:
    chunks = list(TextChunker(PLACES, chunk_chars=50).cut((prose(),)))
    assert all(len(chunk) >= 50 for chunk in chunks[:-1])
    assert sum(map(len, chunks)) / len(chunks) < 60


def test_scripts_without_spaces_are_cut_at_punctuation() -> None:
    chunks = list(TextChunker(PLACES, chunk_chars=10).cut(("日本語の文章。" * 100,)))
    assert max(map(len, chunks)) < 20


def test_text_without_a_safe_place_is_one_chunk_and_counted() -> None:
    chunker = TextChunker(PLACES, chunk_chars=10, long_chunk_chars=100)
    assert [len(chunk) for chunk in chunker.cut(("=" * 250,))] == [250]
    assert chunker.num_long == 1


def test_empty_text_has_no_chunks() -> None:
    assert list(TextChunker(PLACES).cut(("", ""))) == []
