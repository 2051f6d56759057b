"""References that lead nowhere, in a circle, or to something else."""

from random import Random

from tests.spec.mutations.bases import MAIN, Base
from tests.spec.mutations.document import Entry
from tests.spec.mutations.mutant import Mutant, at_any_of, in_span, in_value, mistake, pick
from tests.spec.mutations.typos import is_reference, slip

MAKES = {
    "fetch": "corpus",
    "train_tokenizer": "tokenizer",
    "tokenize": "dataset",
    "pretrain": "checkpoint",
    "resume": "checkpoint",
    "convert": "weights",
}


@mistake("selector of a checkpoint misspelt")
def _selector(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_reference(e) and e.name == "from")
    if found is None:
        return None
    file, document, entry = found
    stage = entry.word.partition("@")[0]
    wrong, right = random.choice(
        [("fnal", "final"), ("finale", "final"), ("stp-5", "step-5"), ("step_5", "step-5"),
         ("stpe-5", "step-5"), ("Step-5", "step-5"), ("step5", "step-5"), ("5", "step-5")]
    )  # fmt: skip
    made = in_span(base, file, entry.word_span, f"{stage}@{wrong}", word=f"{stage}@{right}")
    return Mutant(made.files, ((file, *document.position(entry.value.start)),), made.word)


@mistake("stage renamed, references left")
def _renamed(base: Base, random: Random) -> Mutant | None:
    uses = {str(n): [e for e in base.main.entries if _refers(e, n)] for n in base.kinds}
    names = [n for n, entries in uses.items() if entries and ("stages", n) in _paths(base)]
    if not names:
        return None
    name = random.choice(names)
    entry = base.main.at(("stages", name))
    assert entry.key is not None
    made = in_span(base, MAIN, entry.key, slip(name, random, base.kinds))
    lines = [base.main.line_of(entry) for entry in uses[name]]
    return at_any_of(made, lines, tells_all=True)


def _refers(entry: Entry, name: str) -> bool:
    in_mixture = entry.path[2:3] == ("data",) and len(entry.path) == 4 and entry.name == name
    return in_mixture or (is_reference(entry) and entry.word.partition("@")[0] == name)


def _paths(base: Base) -> set[tuple[str | int, ...]]:
    return {entry.path for entry in base.main.entries}


@mistake("reference in a circle")
def _circle(base: Base, random: Random) -> Mutant | None:
    """A stage made to wait for one that waits for it."""
    chains = [("resume", "from", "resume"), ("retrain", "from", "convert"), ("resume", "from", "")]
    found = pick(base, random, lambda e: e.ends("from") and len(e.path) == 3)
    if found is None:
        return None
    entry = found[2]
    name = str(entry.path[1])
    users = [
        e for e in base.main.entries
        if e.ends("from") and e.word.partition("@")[0] == name and base.kinds[name] != "convert"
    ]  # fmt: skip
    target = entry
    if users and base.kinds[str(users[0].path[1])] == "resume":
        return _closed(base, target, str(users[0].path[1]))
    if base.kinds[name] in {kind for kind, _, _ in chains[:1]}:
        return _closed(base, target, name)
    return None


def _closed(base: Base, entry: Entry, to: str) -> Mutant:
    """With the circle closed at this reference, the only one that leads forward."""
    made = in_value(base, MAIN, entry, to)
    lines = [base.main.line_of(entry)]
    if to == entry.path[1]:
        lines.append(base.main.line_of(base.main.at(("stages", to))))
    return at_any_of(made, lines)


@mistake("reference to the wrong artifact")
def _wrong_artifact(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: is_reference(e) and len(e.path) == 3)
    if found is None:
        return None
    file, _, entry = found
    wanted = {"corpus": "corpus", "tokenizer": "tokenizer", "data": "dataset"}
    if base.kinds.get(str(entry.path[1])) == "import":
        return None
    others = [
        stage
        for stage, kind in base.kinds.items()
        if kind in MAKES
        and stage != entry.path[1]
        and MAKES[kind] != wanted.get(entry.name)
        and not (entry.name == "from" and MAKES[kind] in ("checkpoint", "weights"))
        and not _leads_to(base, stage, str(entry.path[1]))
    ]
    return in_value(base, file, entry, random.choice(others)) if others else None


def _leads_to(base: Base, start: str, goal: str) -> bool:
    """Whether a stage refers, by others or itself, to another."""
    waiting, seen = [start], set()
    while waiting:
        name = waiting.pop()
        if name == goal:
            return True
        if name in seen:
            continue
        seen.add(name)
        for entry in base.main.entries:
            if entry.path[:2] == ("stages", name):
                waiting += [n for n in base.kinds if n == entry.word.partition("@")[0]]
                waiting += [n for n in base.kinds if len(entry.path) == 4 and n == entry.name]
    return False


@mistake("reference to a stage that is not there")
def _nowhere(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, is_reference)
    if found is None:
        return None
    file, _, entry = found
    return in_value(base, file, entry, random.choice(("corpus2024", "zzz", "the_other_one")))
