"""Generators of inputs: damaged specs, texts of YAML's special signs, documents by the grammar."""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.spec.mutations.bases import MAIN, Base, every_field, shipped
from tests.spec.mutations.mutant import MAKERS
from tests.spec.mutations.typos import CHOICES, known_keys

BASES: tuple[Base, ...] = (*shipped(), every_field())
TEXTS = tuple(base.files[MAIN].encode() for base in BASES)
TOKENS = (
    b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3\x28", b"\xed\xa0\x80", b"- ", b": ", b"{", b"}",
    b"[", b"]", b"'", b'"', b"#", b",", b"&a ", b"*a", b"*", b"&", b"!!python/name:os.system ",
    b"!x ", b"!!int ", b"! ", b"<<: *a", b"---\n", b"...\n", b"%YAML 1.1\n", b"%", b"|", b">-",
    b"|2\n", b"? ", b"@step-1", b"@", b"`", b"${x}", b"${", b"$${", b"${vars}", b"null", b"~",
    b"true", b"no", b"1e999", b".nan", b"-.inf", b"-1", b"0x", b"0o9", b"010", b"1_0", b"1:30",
    b"2024-01-31", b"\xe2\x80\xa8", b"\xc2\x85", b"\xc2\xa0", b"\xe2\x80\x8b", b"\r", b"\r\n",
    b"<<<<<<< HEAD\n", b"=======\n", b"\\", b"\\x00", b"[[[[[[[[", b"{a: {b: {c: ",
    b"vars: {x: 1}\n", b"extends: .\n", b"extends: /dev/zero\n",
    b"extends: [/proc/self/environ, /dev/stdin]\n", b"extends: experiment.yaml\n", b"stages:\n",
    b"9" * 400, b"? " + b"9" * 5000 + b"\n: 1\n", b"a" * 5000,
    b"=", b"/", b"../", b"\x1b[31m", b"\xf0\x9f\x92\xa9", b"5%", b"300kk",
)  # fmt: skip
CHANGES = ("move", "double", "drop", "indent", "dedent", "join", "cut")
HOSTILE_PATHS = (
    "/dev/zero", "/dev/random", "/dev/stdin", "/dev/tty", "/proc/self/mem", "/proc/kmsg",
    "/proc/self/environ", "/proc/self/pagemap", "/proc/kcore", "/proc/self/fd/0", "/", ".", "..",
    "~", "~root", "x" * 5000, "a/" * 3000, "experiment.yaml", "./experiment.yaml", "pipe", "loop",
    "\u0000", "\n", "*", "base.yaml\u0000", "//", "C:\\x.yaml", "http://x.org/a.yaml", "",
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """What `load_experiment` is given."""

    raw: bytes
    overrides: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    """Beside the experiment."""


@st.composite
def flipped(draw: st.DrawFn) -> Input:
    """A right spec with a few bytes changed, left out or put in."""
    data = bytearray(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.sampled_from((0, 1, 1, 1, 2, 5, 40)))
        data[at : at + length] = draw(st.binary(max_size=2))
    return Input(bytes(data))


@st.composite
def spliced(draw: st.DrawFn) -> Input:
    """A right spec with signs of the language in places of their own choice."""
    data = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(TOKENS)) + data[at:]
    return Input(data)


@st.composite
def reordered(draw: st.DrawFn) -> Input:
    """A right spec whose lines are moved, doubled, lost, indented or joined."""
    lines = draw(st.sampled_from(TEXTS)).split(b"\n")
    for _ in range(draw(st.integers(1, 6))):
        at, to = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        change = draw(
            st.sampled_from(("move", "double", "drop", "indent", "dedent", "join", "cut"))
        )
        if change == "move":
            lines.insert(to, lines.pop(at))
        elif change == "double":
            lines.insert(to, lines[at])
        elif change == "drop" and len(lines) > 1:
            del lines[at]
        elif change == "indent":
            lines[at] = draw(st.sampled_from((b" ", b"  ", b"\t", b"    "))) + lines[at]
        elif change == "dedent":
            lines[at] = lines[at][draw(st.integers(1, 4)) :]
        elif change == "join":
            lines[at : at + 2] = [b" ".join(lines[at : at + 2])]
        else:
            lines[at] = lines[at][: draw(st.integers(0, 60))]
    return Input(b"\n".join(lines))


@st.composite
def mutated(draw: st.DrawFn) -> Input:
    """A mistake of the corpus, and perhaps a few signs more."""
    maker = MAKERS[draw(st.sampled_from(sorted(MAKERS)))]
    made = maker(draw(st.sampled_from(BASES)), Random(draw(st.integers(0, 2**32))))
    if made is None:
        return Input(draw(st.sampled_from(TEXTS)))
    data = made.files[MAIN]
    for token in draw(st.lists(st.sampled_from(TOKENS), max_size=2)):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + token + data[at:]
    return Input(data, made.overrides)


WORDS = st.one_of(
    st.sampled_from(sorted(known_keys())),
    st.sampled_from([str(word) for words in CHOICES.values() for word in words]),
    st.sampled_from(("tokens", "pretrain", "books", "weights", "pretrain@step-5", "AdamW", "SGD")),
    st.sampled_from(("pythia-14m", "300k", "5%", "1e-3", "${x}", "none", "val_loss", "yes", "")),
    st.sampled_from(HOSTILE_PATHS),
    st.text(max_size=12),
)
NUMBERS = st.one_of(
    st.integers(-5, 5000), st.integers(), st.floats(), st.sampled_from((10**400, -(10**30)))
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(WORDS, NUMBERS, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=5)),
    max_leaves=20,
)
KINDS = st.sampled_from(
    ("fetch", "download", "import", "train_tokenizer", "tokenize", "pretrain", "resume", "retrain")
)


@st.composite
def by_grammar(draw: st.DrawFn) -> Input:
    """A document of the format's own keys with values that fit or do not, as JSON or as blocks."""
    stages = {}
    for name in draw(st.lists(WORDS, min_size=1, max_size=4, unique=True)):
        fields = draw(st.dictionaries(st.sampled_from(sorted(known_keys())), VALUES, max_size=8))
        stages[name] = {"kind": draw(KINDS), **fields} if draw(st.booleans()) else draw(VALUES)
    head = draw(st.dictionaries(st.sampled_from(("seed", "vars", "description")), VALUES))
    document = {"continuum": 1, "name": "x", **head, "stages": stages}
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        text = "\n".join(_blocks(document, 0))
    return Input(text.encode("utf-8", "surrogatepass"))


def _blocks(value: dict[str, Any], indent: int) -> list[str]:
    """Mappings in block style, without care for what has to be quoted."""
    lines = []
    for key, below in value.items():
        if isinstance(below, dict) and below:
            lines += [f"{' ' * indent}{key}:", *_blocks(below, indent + 2)]
        else:
            lines.append(f"{' ' * indent}{key}: {below}")
    return lines


@st.composite
def extending(draw: st.DrawFn) -> Input:
    """An experiment that extends strange places, or damaged bases."""
    names = draw(st.lists(st.sampled_from((*HOSTILE_PATHS, "base.yaml", "bas.yaml")), max_size=3))
    head = f"extends: {json.dumps(names)}\n".encode()
    base = draw(st.one_of(flipped(), spliced(), reordered())).raw
    return Input(head + draw(st.sampled_from(TEXTS)), files={"base.yaml": base})


@st.composite
def overridden(draw: st.DrawFn) -> Input:
    """A right spec with strange overrides."""
    parts = st.one_of(WORDS, st.sampled_from(("stages", "optimizer", "0", "-1", "sources", "vars")))
    overrides = [
        ".".join(draw(st.lists(parts, max_size=5)))
        + draw(st.sampled_from(("=", "", ":=")))
        + draw(st.one_of(WORDS, st.sampled_from([t.decode("latin-1") for t in TOKENS]), st.text()))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return Input(draw(st.sampled_from(TEXTS)), tuple(overrides))


INPUTS: st.SearchStrategy[Input] = st.one_of(
    flipped(),
    spliced(),
    reordered(),
    mutated(),
    by_grammar(),
    extending(),
    overridden(),
    st.lists(st.sampled_from(TOKENS), max_size=30).map(lambda tokens: Input(b"".join(tokens))),
    st.binary(max_size=200).map(Input),
    st.text(max_size=200).map(lambda text: Input(text.encode("utf-8", "surrogatepass"))),
)
