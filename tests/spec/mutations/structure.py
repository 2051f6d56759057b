"""Mistakes in what the mappings hold: too much, too little, twice, or at the wrong level."""

from itertools import pairwise
from random import Random

from tests.spec.mutations.bases import MAIN, Base
from tests.spec.mutations.document import Document, Entry, Span
from tests.spec.mutations.mutant import (
    Mutant,
    at_any_of,
    in_span,
    in_value,
    mistake,
    mutate,
    pick,
)
from tests.spec.mutations.typos import is_own_key, is_reference

REQUIRED = {
    "fetch": ("kind", "sources"),
    "download": ("kind", "repo", "files"),
    "import": ("kind", "path", "as"),
    "train_tokenizer": ("kind", "corpus", "vocab_size"),
    "tokenize": ("kind", "corpus", "tokenizer", "validation"),
    "convert": ("kind", "from"),
    "resume": ("kind", "from", "schedule"),
    "pretrain": ("kind", "data"),
    "retrain": ("kind", "from", "data"),
}
BUDGETS = ("max_tokens", "max_steps", "epochs")


def without(document: Document, entry: Entry) -> str:
    """The text without an entry, whatever it spans."""
    assert entry.key is not None
    start, end = entry.key.start, entry.value.end
    if entry.in_flow:
        rest = document.text[end:]
        if rest.startswith(", "):
            return document.replace(Span(start, end + 2), "")
        before = document.text[:start]
        return document.replace(Span(len(before.removesuffix(", ")), end), "")
    first, last = document.line_of(entry), document.last_line_of(entry)
    return "\n".join([*document.lines[: first - 1], *document.lines[last:]])


def is_stage(entry: Entry) -> bool:
    """Whether the entry is a stage."""
    return len(entry.path) == 2 and entry.path[0] == "stages"


@mistake("required key missing")
def _missing(base: Base, random: Random) -> Mutant | None:
    def wanted(entry: Entry) -> bool:
        if len(entry.path) != 3 or entry.path[0] != "stages":
            return False
        return entry.name in REQUIRED.get(base.kinds.get(str(entry.path[1]), ""), ())

    found = pick(base, random, wanted)
    if found is None or found[0] != MAIN:
        return None
    _, document, entry = found
    if entry.name == "schedule" and entry.path[1] not in base.kinds:
        return None
    return mutate(base, without(document, entry), document.line_of(document.at(entry.path[:2])))


@mistake("required key missing further in")
def _missing_inside(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.ends("optimizer", "lr"))
    if found is None or len(found[1].below(found[2].path[:-1])) < 2:
        return None
    file, document, entry = found
    owner = document.at(entry.path[:-1])
    return mutate(base, without(document, entry), document.line_of(owner), file=file)


@mistake("head missing")
def _headless(base: Base, random: Random) -> Mutant | None:
    entry = base.main.at((random.choice(("continuum", "name")),))
    lines = base.main.lines
    first = next(n for n, line in enumerate(lines, 1) if line and not line.startswith("#"))
    number = base.main.line_of(entry)
    return mutate(base, base.main.with_line(number, None), first)


@mistake("two budgets")
def _two_budgets(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.name in BUDGETS and len(e.path) == 3)
    if found is None:
        return None
    file, document, entry = found
    other = random.choice([name for name in BUDGETS if name != entry.name])
    line = document.line_of(entry)
    indent = " " * document.indent_of(line)
    made = mutate(base, document.with_line_after(line, f"{indent}{other}: 3"), line, file=file)
    return at_any_of(made, [line, line + 1])


@mistake("no budget")
def _no_budget(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.name in BUDGETS and len(e.path) == 3)
    if found is None:
        return None
    _, document, entry = found
    return mutate(base, without(document, entry), document.line_of(document.at(entry.path[:2])))


@mistake("key twice")
def _twice(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_own_key(e) and e.form == "scalar" and not e.in_flow)
    if found is None:
        return None
    file, document, entry = found
    assert entry.key is not None
    line, column = document.position(entry.key.start)
    if document.lines[line - 1][: column - 1].strip():
        return None  # behind a dash
    text = document.with_line_after(line, document.lines[line - 1])
    return mutate(base, text, (line + 1, column), file=file)


@mistake("stage twice")
def _stage_twice(base: Base, random: Random) -> Mutant | None:
    stages = [entry for entry in base.main.entries if is_stage(entry)]
    entry, after = random.choice(stages), random.choice(stages)
    first, last = base.main.line_of(entry), base.main.last_line_of(entry)
    end = base.main.last_line_of(after)
    block = base.main.lines[first - 1 : last]
    text = "\n".join([*base.main.lines[:end], *block, *base.main.lines[end:]])
    second = first + len(block) if end < first else end + 1
    return mutate(base, text, second)


@mistake("stage indented into the one before")
def _inwards(base: Base, random: Random) -> Mutant | None:
    stages = [entry for entry in base.main.entries if is_stage(entry)]
    later = [
        e for before, e in pairwise(stages)
        if not before.text.startswith("{") and not e.text.startswith("{")
    ]  # fmt: skip
    if not later:
        return None
    return _shifted(base, random.choice(later), 2)


@mistake("stage moved to the top level")
def _outwards(base: Base, random: Random) -> Mutant | None:
    last = [entry for entry in base.main.entries if is_stage(entry)][-1]
    return _shifted(base, last, -2)


def _shifted(base: Base, entry: Entry, by: int) -> Mutant:
    first, last = base.main.line_of(entry), base.main.last_line_of(entry)
    lines = list(base.main.lines)
    for number in range(first - 1, last):
        lines[number] = " " * by + lines[number] if by > 0 else lines[number][-by:]
    place = (first, base.main.indent_of(first) + by + 1)
    return mutate(base, "\n".join(lines), place)


@mistake("name of a stage that cannot be")
def _bad_name(base: Base, random: Random) -> Mutant | None:
    stages = [entry for entry in base.main.entries if is_stage(entry)]
    used = {e.word.partition("@")[0] for e in base.main.entries if is_reference(e)}
    used |= {e.name for e in base.main.entries if len(e.path) == 4 and e.path[2] == "data"}
    free = [entry for entry in stages if entry.name not in used]
    if not free:
        return None
    entry = random.choice(free)
    assert entry.key is not None
    name = random.choice(("My Stage", "../x", "1st", "Weights", "a.b", "x" * 80, "überlauf", "-x"))
    return in_span(base, MAIN, entry.key, name)


@mistake("variable that is not there")
def _no_variable(base: Base, random: Random) -> Mutant | None:
    found = pick(
        base, random, lambda e: e.name in ("url", "python", "model") and e.form == "scalar"
    )
    if found is None:
        return None
    file, _, entry = found
    return in_value(base, file, entry, '"${nowhere_to_be_found}/a.py"')


@mistake("circle of variables")
def _variable_circle(base: Base, random: Random) -> Mutant | None:
    line = base.main.line_of(base.main.at(("name",)))
    if any(e.path == ("vars",) for e in base.main.entries):
        return None
    text = base.main.with_line_after(line, 'vars: {one: "${two}", two: "${one}"}')
    return mutate(base, text, line + 1)
