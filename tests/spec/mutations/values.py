"""Values of the wrong type, form or size."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.spec.mutations.bases import Base
from tests.spec.mutations.document import Entry
from tests.spec.mutations.mutant import Mutant, in_span, in_value, mistake, mutate, pick
from tests.spec.mutations.typos import is_choice, is_reference

COUNTS = ("max_tokens", "max_steps", "sequence_length", "global_batch_size")
WHOLE = ("micro_batch_size", "log_every", "keep_last", "sequences", "devices", "vocab_size", "seed")
REALS = ("lr", "max_norm", "epochs", "fraction", "weight_decay", "momentum", "eps", "to", "peak")
AMOUNTS = ("every", "warmup", "decay", "keep_every")
NUMBERS = (*COUNTS, *WHOLE, *REALS)
OPTIONAL = ("max_tokens", "max_steps", "epochs", "max_norm", "to", "peak", "fraction", "eps")
"""Numbers that may be null, or whose absence is another mistake."""
BOOLEANS = ("deterministic", "final", "nesterov")
MINUS = ("1e\u22124", "3e\u20134", "1\u00b710^-4", "1e - 4", "10^-4")
Wanted = Callable[[Entry], bool]


def is_number(entry: Entry) -> bool:
    """Whether the value is a number of the format's own."""
    is_there = entry.form == "scalar" and entry.name in NUMBERS and "vars" not in entry.path
    return is_there and "model" not in entry.path and isinstance(entry.path[-1], str)


def _value(name: str, wanted: Wanted, *values: str) -> None:
    """Register a class of mistakes: one of these in place of a value."""

    @mistake(name)
    def make(base: Base, random: Random) -> Mutant | None:
        found = pick(base, random, wanted)
        if found is None:
            return None
        file, _, entry = found
        new = random.choice(values)
        made = in_value(base, file, entry, new)
        if new[0] not in "[{" and "," not in new:
            return made
        return replace(made, places=((file, made.places[0][1], None),))


def _named(*names: str) -> Wanted:
    def wanted(entry: Entry) -> bool:
        is_there = entry.form == "scalar" and entry.key is not None and entry.name in names
        return is_there and "vars" not in entry.path and "model" not in entry.path

    return wanted


def _is_mapping_in_flow(entry: Entry) -> bool:
    names = ("optimizer", "schedule", "runtime", "evaluate", "checkpoint")
    return entry.in_flow and entry.form == "mapping" and entry.name in names


def _is_text(entry: Entry) -> bool:
    return is_reference(entry) or is_choice(entry) or entry.path == ("name",)


_value("text for a number", is_number, "many", "fast", "a few", "1e", "auto")
_value("list for a number", is_number, "[1, 2]", "[]", "[5]")
_value("mapping for a number", is_number, "{value: 1}", "{}")
_value("true for a number", is_number, "true", "false")
_value("list for a text", _is_text, "[a, b]", "[]")
_value("mapping for a text", _is_text, "{name: x}")
_value("number for a reference", is_reference, "5", "1.5", "true")
_value("half a unit", _named(*COUNTS), "300kk", "5 million", "1,000", "1M tokens", "10q", "3kM")
_value("fraction of a count", _named(*COUNTS), "1.5", "0.3", "1.0001k")
_value("comma for a decimal point", _named(*REALS), '"0,5"', "1,5e-3")
_value("negative number", is_number, "-1", "-5", "-0.1")
_value("zero", _named(*COUNTS, "devices", "sequences", "log_every", "lr", "fraction"), "0")
_value("huge number", _named(*COUNTS, *WHOLE[-2:]), "1e30", "9" * 40, "99999999999999999999")
_value("number beyond all", is_number, "1e999", ".inf", ".nan", "-.inf", "9" * 5000)
_value("percentage above 100", _named("warmup", "min_lr", "decay"), "101%", "500%", "100.5 %")
_value("unknown form of an amount", _named(*AMOUNTS), "5 percent", "1.5", "5%%", "%5", "10s")
_value("leading zero", _named(*COUNTS, *WHOLE), "010", "0128", "007")
_value("sexagesimal number", _named(*COUNTS, *WHOLE), "1:30", "12:30:45", "190:20")
_value("date for a number", _named("seed", *COUNTS), "2024-01-31", "2024-01-31T10:00:00Z")
_value("YAML 1.1 boolean", _named(*BOOLEANS), "yes", "no", "on", "off", "Yes", "NO", "y")
_value("quoted boolean", _named(*BOOLEANS), '"true"', "'false'")
_value("nothing for a number", lambda e: is_number(e) and e.name not in OPTIONAL, "null", "~")
_value("nothing for a reference", is_reference, "null", "~", "''")
_value("text for a mapping", _is_mapping_in_flow, "AdamW", "5", "yes")
_value("list for a mapping", lambda e: e.path[2:] == ("runtime",) and e.form == "mapping", "[cpu]")
_value("text for a list", lambda e: e.ends("sources") and e.in_flow, "argparse.py", "5", "{url: x}")
_value("betas that are none", lambda e: e.ends("betas"), "0.9", "[0.9]", "[1, 2]")
_value("version of the format", lambda e: e.ends("continuum"), "2", '"1"', "v1", "1.1")
_value("bad name", lambda e: e.path == ("name",), "my experiment", "a/b", "-x", '""', "ümlaut")
_value("bad repository", _named("repo"), "pythia-70m", "https://huggingface.co/a/b", "a/b/c", "a/")
_value("address that is none", _named("url"), "example.org/a.txt", "ftp://x.org/a", "file:///a.txt")
_value("number for a model", lambda e: e.ends("model"), "160", "[pythia-160m]", "{n_layer: 3}")


@mistake("YAML 1.1 boolean added")
def _added_boolean(base: Base, random: Random) -> Mutant | None:
    """`deterministic: yes` in a runtime."""
    found = pick(base, random, lambda e: e.ends("runtime") and e.form == "mapping")
    if found is None:
        return None
    file, document, entry = found
    first = document.below(entry.path)[0]
    if first.key is None or any(e.name == "deterministic" for e in document.below(entry.path)):
        return None
    text = random.choice(("yes", "on", "no", "off"))
    right = "true" if text in ("yes", "on") else "false"
    gap = ", " if first.in_flow else "\n" + " " * (document.position(first.key.start)[1] - 1)
    at = first.key.start
    new = document.text[:at] + f"deterministic: {text}{gap}" + document.text[at:]
    line, column = document.position(at)
    place = (line, column + len("deterministic: "))
    return mutate(base, new, place, file=file, word=right)


@mistake("number in quotes")
def _quoted(base: Base, random: Random) -> Mutant | None:
    may_be_quoted = (*COUNTS, "sequences")
    found = pick(base, random, lambda e: is_number(e) and e.name not in may_be_quoted)
    if found is None or not found[2].text[0].isdigit():
        return None
    file, _, entry = found
    quote = random.choice(("'", '"'))
    return in_value(base, file, entry, f"{quote}{entry.text}{quote}")


@mistake("bad sha256")
def _sha256(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, _named("url"))
    if found is None:
        return None
    file, document, entry = found
    assert entry.key is not None
    line, column = document.position(entry.key.start)
    digest = random.choice(("ABC" + "0" * 61, "0123", "g" * 64, "0" * 63, "sha256:" + "1" * 64))
    if any(e.name == "sha256" for e in document.below(entry.path[:-1])):
        return None
    text = document.with_line_after(line, f"{' ' * (column - 1)}sha256: {digest}")
    return mutate(base, text, (line + 1, column + len("sha256: ")), file=file)


@mistake("typographic quotes")
def _curly(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_choice(e) and e.word.isalpha())
    if found is None:
        return None
    file, _, entry = found
    return in_span(base, file, entry.value, f"“{entry.word}”", word=entry.word)


@mistake("number of another sign for minus")
def _minus(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.ends("lr"))
    if found is None:
        return None
    file, _, entry = found
    return in_value(base, file, entry, random.choice(MINUS))
