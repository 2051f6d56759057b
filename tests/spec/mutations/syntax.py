"""Text that is no YAML, or YAML of another meaning than the writer's."""

from random import Random

from tests.spec.mutations.bases import Base
from tests.spec.mutations.document import Document, Entry, Span
from tests.spec.mutations.mutant import Mutant, at_any_of, in_span, in_value, mistake, mutate, pick
from tests.spec.mutations.structure import is_stage


def _is_plain_line(document: Document, entry: Entry) -> bool:
    """Whether `key: value` has its line to itself."""
    if entry.key is None or entry.in_flow or entry.form != "scalar" or not entry.text:
        return False
    line = document.lines[document.line_of(entry) - 1].lstrip()
    is_whole = line.startswith(entry.name + ":") and entry.text in line
    return is_whole and "vars" not in entry.path


def plain_line(base: Base, random: Random) -> tuple[str, Document, Entry] | None:
    """A `key: value` inside a stage, on a line of its own."""
    found = [
        (name, document, entry)
        for name, document in base.documents.items()
        for entry in document.entries
        if len(entry.path) > 2 and _is_plain_line(document, entry)
    ]
    return random.choice(found) if found else None


def _line_of(found: tuple[str, Document, Entry]) -> tuple[str, Document, int, str]:
    file, document, entry = found
    number = document.line_of(entry)
    return file, document, number, document.lines[number - 1]


@mistake("tab in the indentation")
def _tab(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, line = _line_of(found)
    indent = document.indent_of(number)
    new = random.choice(
        ("\t" * (indent // 2), " " * (indent - 2) + "\t", "\t" + " " * (indent - 1))
    )
    return mutate(base, document.with_line(number, new + line.lstrip()), number, file=file)


@mistake("space too many in the indentation")
def _deeper(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None or _is_first(found):
        return None
    file, document, number, line = _line_of(found)
    new = " " * random.choice((1, 1, 2, 3)) + line
    return mutate(base, document.with_line(number, new), number, file=file)


@mistake("space too few in the indentation")
def _shallower(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None or _is_first(found):
        return None
    file, document, number, line = _line_of(found)
    return mutate(base, document.with_line(number, line[1:]), number, file=file)


@mistake("key dedented to the level above")
def _dedented(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None or _is_first(found):
        return None
    file, document, number, line = _line_of(found)
    return mutate(base, document.with_line(number, line[2:]), number, file=file)


def _is_first(found: tuple[str, Document, Entry]) -> bool:
    """Whether it begins its mapping: its indentation then sets that of the others."""
    _, document, entry = found
    return document.below(entry.path[:-1])[0].path == entry.path


@mistake("colon missing")
def _no_colon(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, line = _line_of(found)
    return mutate(base, document.with_line(number, line.replace(": ", " ", 1)), number, file=file)


@mistake("colon missing after the name of a stage")
def _no_colon_stage(base: Base, random: Random) -> Mutant | None:
    stages = [e for e in base.main.entries if is_stage(e) and not e.text.startswith("{")]
    if not stages:
        return None
    number = base.main.line_of(random.choice(stages))
    new = base.main.lines[number - 1].replace(":", "", 1)
    return mutate(base, base.main.with_line(number, new), number)


@mistake("space missing after a colon")
def _no_space(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, line = _line_of(found)
    return mutate(base, document.with_line(number, line.replace(": ", ":", 1)), number, file=file)


@mistake("space missing after a colon between brackets")
def _no_space_in_flow(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.in_flow and e.key is not None and e.form == "scalar")
    if found is None or found[2].is_quoted:
        return None
    file, document, entry = found
    assert entry.key is not None
    span = Span(entry.key.end, entry.value.start)
    made = in_span(base, file, span, ":")
    return Mutant(made.files, ((file, document.line_of(entry), None),))


@mistake("equals sign for a colon")
def _equals(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, line = _line_of(found)
    new = line.replace(": ", random.choice((" = ", "=", " := ")), 1)
    return mutate(base, document.with_line(number, new), number, file=file)


@mistake("Git conflict marker")
def _conflict(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, line = _line_of(found)
    ours = f"<<<<<<< HEAD\n{line}\n=======\n{line}\n>>>>>>> branch"
    markers = (ours, f"<<<<<<< HEAD\n{line}", f"=======\n{line}", f">>>>>>> other\n{line}")
    return mutate(base, document.with_line(number, random.choice(markers)), number, file=file)


@mistake("something after a quoted text")
def _after_quotes(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, entry = found
    new = f'"{entry.word}" {random.choice(("x", "and more", "steps"))}'
    return mutate(base, document.replace(entry.value, new), document.line_of(entry), file=file)


@mistake("second document")
def _documents(base: Base, random: Random) -> Mutant | None:
    stages = [entry for entry in base.main.entries if is_stage(entry)][1:]
    number = base.main.line_of(random.choice(stages))
    return mutate(base, base.main.with_line_after(number - 1, "---"), number)


@mistake("garbage at the end")
def _trailing(base: Base, random: Random) -> Mutant | None:
    text = base.main.text.rstrip("\n") + "\n"
    garbage = random.choice(("EOF", "}", "]", "```", "asdf", ":wq", "...\nmore: 1"))
    number = text.count("\n") + 1 + garbage.startswith("...")
    return mutate(base, text + garbage + "\n", number)


@mistake("merge key")
def _merge(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, _ = _line_of(found)
    indent = document.indent_of(number)
    text = document.with_line_after(number, f"{' ' * indent}<<: {{a: 1}}")
    return mutate(base, text, (number + 1, indent + 1), file=file)


@mistake("tag")
def _tag(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None or found[2].is_quoted:
        return None
    file, _, entry = found
    tags = ("!env", "!!python/name:os.system", "!!int", "!include", "!!timestamp", "!ref")
    return in_value(base, file, entry, f"{random.choice(tags)} {entry.text}")


@mistake("alias without an anchor")
def _alias(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, _, entry = found
    return in_value(base, file, entry, random.choice(("*defaults", "*x", "*base_config")))


@mistake("text that begins with a sign")
def _sign(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, _, entry = found
    return in_value(base, file, entry, random.choice("@`%") + entry.word)


@mistake("colon inside a text")
def _colon(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None or found[2].is_quoted:
        return None
    file, document, entry = found
    new = f"{entry.text}: {random.choice(('really', 'see below', '2'))}"
    return mutate(base, document.replace(entry.value, new), document.line_of(entry), file=file)


@mistake("dash missing")
def _no_dash(base: Base, random: Random) -> Mutant | None:
    items = [
        (name, document, entry)
        for name, document in base.documents.items()
        for entry in document.entries
        if entry.key is None and entry.path[-1] and document.lines[document.line_of(entry) - 1]
        .lstrip().startswith("- ")
    ]  # fmt: skip
    if not items:
        return None
    file, document, number, line = _line_of(random.choice(items))
    new = line.replace("- ", random.choice(("  ", "")), 1)
    made = mutate(base, document.with_line(number, new), number, file=file)
    return at_any_of(made, [number - 1, number]) if ":" in line else made


@mistake("space missing after a dash")
def _dash(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.key is None and not e.in_flow)
    if found is None:
        return None
    file, document, number, line = _line_of(found)
    if not line.lstrip().startswith("- "):
        return None
    return mutate(base, document.with_line(number, line.replace("- ", "-", 1)), number, file=file)


@mistake("comment of another language")
def _comment(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, _ = _line_of(found)
    indent = " " * document.indent_of(number)
    new = indent + random.choice(("// as in the paper", "-- as in the paper", "; see the paper"))
    return mutate(base, document.with_line_after(number, new), number + 1, file=file)


@mistake("no-break space in the indentation")
def _no_break(base: Base, random: Random) -> Mutant | None:
    found = plain_line(base, random)
    if found is None:
        return None
    file, document, number, line = _line_of(found)
    indent = document.indent_of(number)
    new = random.choice(("\u00a0" * indent, " " * (indent - 1) + "\u00a0")) + line.lstrip()
    return mutate(base, document.with_line(number, new), number, file=file)
