"""Mistakes of whole files: bytes, names, chains; and several mistakes at once."""

from dataclasses import replace
from random import Random

from tests.spec.mutations.bases import MAIN, Base
from tests.spec.mutations.document import Document
from tests.spec.mutations.mutant import MAKERS, Mutant, mistake, mutate
from tests.spec.mutations.structure import is_stage

INDEPENDENT = (
    "key of a stage: letter missing",
    "key further in: letters swapped",
    "choice misspelt",
    "text for a number",
    "negative number",
    "stage misspelt in a reference",
    "optimizer misspelt",
    "model misspelt",
    "argument of an optimizer misspelt",
    "list for a number",
    "YAML 1.1 boolean added",
    "two budgets",
    "dashes in a key",
)
"""Classes that change no indentation and no line but their own."""


def _letter(base: Base, random: Random) -> tuple[int, int]:
    """A place inside the word of some value: offset and line."""
    entries = [
        e for e in base.main.entries if e.form == "scalar" and len(e.word) > 3 and e.path[1:]
    ]
    entry = random.choice(entries)
    return entry.word_span.start + 2, base.main.position(entry.value.start)[0]


@mistake("bytes that are no UTF-8")
def _latin(base: Base, random: Random) -> Mutant | None:
    at, line = _letter(base, random)
    raw = random.choice((b"\xe9", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x80"))
    text = base.main.text
    return mutate(base, text[:at].encode() + raw + text[at:].encode(), line)


@mistake("control character")
def _control(base: Base, random: Random) -> Mutant | None:
    at, line = _letter(base, random)
    text = base.main.text
    return mutate(base, text[:at] + random.choice("\0\x07\x1b\x7f\x08") + text[at:], line)


@mistake("extends a file that is not there")
def _absent(base: Base, random: Random) -> Mutant | None:
    name = random.choice(("nowhere.yaml", "../base.yaml", "/no/such/file.yaml", "base"))
    return _with_extends(base, name)


@mistake("extends itself")
def _itself(base: Base, random: Random) -> Mutant | None:
    return _with_extends(base, random.choice(("experiment.yaml", "./experiment.yaml")))


@mistake("extends what is no file name")
def _no_name(base: Base, random: Random) -> Mutant | None:
    return _with_extends(base, random.choice(("5", "{file: a.yaml}", ".", "..", "''", "[true]")))


def _with_extends(base: Base, name: str) -> Mutant | None:
    if any(entry.path == ("extends",) for entry in base.main.entries):
        return None
    line = base.main.line_of(base.main.at(("name",)))
    return mutate(base, base.main.with_line_after(line, f"extends: {name}"), line + 1)


@mistake("files that extend each other")
def _circle(base: Base, random: Random) -> Mutant | None:
    made = _with_extends(base, "a.yaml")
    if made is None:
        return None
    folder = MAIN.rpartition("/")[0]
    extra = {f"{folder}/a.yaml": b"extends: b.yaml\n", f"{folder}/b.yaml": b"extends: a.yaml\n"}
    return replace(made, files={**made.files, **extra}, places=((f"{folder}/b.yaml", 1, 10),))


@mistake("mistake in a file that is extended")
def _in_base(base: Base, random: Random) -> Mutant | None:
    made = _with_extends(base, "part.yaml")
    if made is None:
        return None
    folder = MAIN.rpartition("/")[0]
    wrong, line, column = random.choice(
        [("sead: 3\n", 1, 1), ("# base\nseed: lucky\n", 2, 7), ("stages:\n\tx: 1\n", 2, 1),
         ("a: [1\n", 1, 4), ("\n\ndescription: 5\n", 3, 14)]
    )  # fmt: skip
    for key in ("seed", "description"):
        if wrong.strip().startswith(f"# base\n{key}") or wrong.strip().startswith(key):
            made = _without_key(made, key)
    extra = {f"{folder}/part.yaml": wrong.encode()}
    place = (f"{folder}/part.yaml", line, column)
    return replace(made, files={**made.files, **extra}, places=(place,))


def _without_key(made: Mutant, key: str) -> Mutant:
    text = made.files[MAIN].decode()
    kept = [line for line in text.split("\n") if not line.startswith(f"{key}:")]
    return replace(made, files={**made.files, MAIN: "\n".join(kept).encode()})


@mistake("several mistakes at once")
def _several(base: Base, random: Random) -> Mutant | None:
    """Two to five independent mistakes in different stages, all of which must be told."""
    made: list[Mutant] = []
    stages = [e for e in base.main.entries if is_stage(e)]
    bounds = [(base.main.line_of(e), base.main.last_line_of(e)) for e in stages]
    used: set[int] = set()
    text = base.main.text
    wanted = random.randint(2, 5)
    for _ in range(60):
        name = random.choice(INDEPENDENT)
        one = MAKERS[name](base, random)
        if one is None or len(one.files) != len(base.files) or one.places[0][0] != MAIN:
            continue
        line = one.places[0][1]
        stage = next((n for n, (a, b) in enumerate(bounds) if a <= line <= b), None)
        if stage is None or stage in used or not _keeps_lines(base, one):
            continue
        used.add(stage)
        made.append(one)
        text = _with_lines_of(base.main, text, one)
        if len(made) == wanted:
            break
    if len(made) < 2:
        return None
    places = tuple(place for one in made for place in one.places[:1])
    return replace(mutate(base, text, 1), places=places, tells_all=True)


def _keeps_lines(base: Base, one: Mutant) -> bool:
    others_same = all(
        one.files[name] == text.encode() for name, text in base.files.items() if name != MAIN
    )
    return others_same and one.files[MAIN].count(b"\n") == base.main.text.count("\n")


def _with_lines_of(document: Document, text: str, one: Mutant) -> str:
    """The text with the lines that a mutant changed."""
    lines = text.split("\n")
    changed = one.files[MAIN].decode().split("\n")
    for number, (old, new) in enumerate(zip(document.lines, changed, strict=True)):
        if old != new:
            lines[number] = new
    return "\n".join(lines)
