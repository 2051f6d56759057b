"""Single slips of the hand in keys and in words with a fixed meaning; the right word is known."""

import string
from collections.abc import Callable, Collection
from functools import cache
from random import Random

from continuum.experiment.architecture import config_fields, model_names
from continuum.experiment.experiment import Experiment
from continuum.experiment.fields import Spec
from continuum.experiment.optimizers import OPTIMIZER_ARGUMENTS
from continuum.loading.keys import fields
from continuum.stages import stage_kinds
from tests.spec.mutations.bases import Base
from tests.spec.mutations.document import Entry, Span
from tests.spec.mutations.mutant import Mutant, in_span, mistake, pick

LETTERS = string.ascii_lowercase
FREE_KEYS = ("stages", "vars", "data", "model")
"""Mappings whose keys are not the format's own."""
CHOICES = {
    ("schedule", "kind"): ("cosine", "linear", "constant", "wsd", "inverse_sqrt"),
    ("files",): ("tokenizer", "weights", "all"),
    ("as",): ("tokenizer", "weights", "dataset", "corpus"),
    ("format",): ("txt", "md", "py", "jsonl", "litgpt", "full", "sharded"),
    ("document",): ("bos", "eos", "both", "none"),
    ("precision",): ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed"),
    ("accelerator",): ("auto", "cpu", "cuda"),
    ("strategy",): ("auto", "ddp", "fsdp"),
    ("compile",): ("auto", "on", "off"),
    ("on_nonfinite",): ("stop", "skip"),
    ("no_weight_decay", 0): ("norms", "biases", "embeddings"),
    ("loggers", 0): ("csv", "tensorboard"),
}
Slip = Callable[[str, Random], str]


def drop_a_letter(word: str, random: Random) -> str:
    at = random.randrange(len(word))
    return word[:at] + word[at + 1 :]


def add_a_letter(word: str, random: Random) -> str:
    at = random.randrange(len(word) + 1)
    return word[:at] + random.choice(LETTERS) + word[at:]


def swap_two_letters(word: str, random: Random) -> str:
    at = random.randrange(len(word) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def change_a_letter(word: str, random: Random) -> str:
    at = random.randrange(len(word))
    return word[:at] + random.choice(LETTERS) + word[at + 1 :]


SLIPS: dict[str, Slip] = {
    "letter missing": drop_a_letter,
    "letter too many": add_a_letter,
    "letters swapped": swap_two_letters,
    "letter wrong": change_a_letter,
}


def slip(word: str, random: Random, right: Collection[str], wanted: Slip | None = None) -> str:
    """The word misspelt by one edit, into none that is right too, nor one YAML reads otherwise."""
    while True:
        new = (wanted or random.choice(list(SLIPS.values())))(word, random)
        is_plain = new[:1].isalnum() and new not in ("", "y", "n", "on", "no", "off")
        if new not in right and is_plain and not new[-1:].isspace():
            return new


@cache
def known_keys() -> frozenset[str]:
    """Every key that stands anywhere in the format."""
    models: list[type[Spec]] = [Experiment, *stage_kinds().values()]
    return frozenset({"extends", *(path[-1] for model in models for path in fields(model))})


def is_own_key(entry: Entry) -> bool:
    """Whether the key is the format's own, not a name that the user chose."""
    if entry.key is None or entry.path[:1] == ("vars",):
        return False
    if len(entry.path) == 2 or any(part in FREE_KEYS[2:] for part in entry.path[2:-1]):
        return False
    return entry.name in known_keys()


LEVELS: dict[str, Callable[[Entry], bool]] = {
    "of the experiment": lambda e: len(e.path) == 1 and is_own_key(e),
    "of a stage": lambda e: len(e.path) == 3 and is_own_key(e),
    "further in": lambda e: len(e.path) > 3 and is_own_key(e),
}


def _key_typo(wanted: Slip, level: Callable[[Entry], bool]) -> Callable[..., Mutant | None]:
    def make(base: Base, random: Random) -> Mutant | None:
        found = pick(base, random, level)
        if found is None:
            return None
        file, _, entry = found
        assert entry.key is not None
        if len(entry.name) < 2:
            return None
        new = slip(entry.name, random, known_keys(), wanted)
        return in_span(base, file, entry.key, new, word=entry.name)

    return make


for _slip_name, _slip in SLIPS.items():
    for _level_name, _level in LEVELS.items():
        mistake(f"key {_level_name}: {_slip_name}")(_key_typo(_slip, _level))


def _word_typo(
    base: Base, random: Random, wanted: Callable[[Entry], bool], right: Collection[str]
) -> Mutant | None:
    """A misspelt scalar."""
    found = pick(base, random, lambda e: e.form == "scalar" and len(e.word) > 1 and wanted(e))
    if found is None:
        return None
    file, document, entry = found
    word, _, selector = entry.word.partition("@")
    new = slip(word, random, right) + (f"@{selector}" if selector else "")
    made = in_span(base, file, entry.word_span, new, word=word)
    line, column = document.position(entry.value.start)
    return Mutant(made.files, ((file, line, column),), made.word)


def is_choice(entry: Entry) -> bool:
    """Whether the value is one of a few fixed words."""
    in_choices = any(entry.ends(*names) for names in CHOICES)
    return in_choices and "validation" not in entry.path and "null" not in entry.text


@mistake("choice misspelt")
def _choice(base: Base, random: Random) -> Mutant | None:
    right = {word for words in CHOICES.values() for word in words}
    return _word_typo(base, random, lambda e: is_choice(e) and e.word.isalpha(), right)


@mistake("kind of a stage misspelt")
def _kind(base: Base, random: Random) -> Mutant | None:
    return _word_typo(base, random, lambda e: len(e.path) == 3 and e.ends("kind"), stage_kinds())


def is_reference(entry: Entry) -> bool:
    """Whether the value names another stage."""
    names = ("corpus", "tokenizer", "from", "data")
    return entry.form == "scalar" and entry.name in names and entry.path[:1] == ("stages",)


@mistake("stage misspelt in a reference")
def _reference(base: Base, random: Random) -> Mutant | None:
    return _word_typo(base, random, is_reference, base.kinds)


@mistake("dataset misspelt in a mixture")
def _mixture(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.path[2:3] == ("data",) and len(e.path) == 4)
    if found is None:
        return None
    file, _, entry = found
    assert entry.key is not None
    return in_span(base, file, entry.key, slip(entry.name, random, base.kinds), word=entry.name)


@mistake("model misspelt")
def _model(base: Base, random: Random) -> Mutant | None:
    return _word_typo(base, random, is_model_name, model_names())


def is_model_name(entry: Entry) -> bool:
    """Whether the value is the name of a LitGPT config."""
    return entry.form == "scalar" and (entry.ends("model") or entry.ends("model", "name"))


@mistake("field of a model misspelt")
def _model_field(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: len(e.path) == 4 and e.path[2] == "model")
    if found is None or found[2].name == "name":
        return None
    file, _, entry = found
    assert entry.key is not None
    new = slip(entry.name, random, tuple(config_fields()))
    return in_span(base, file, entry.key, new, word=entry.name)


@mistake("optimizer misspelt")
def _optimizer(base: Base, random: Random) -> Mutant | None:
    return _word_typo(base, random, lambda e: e.ends("optimizer", "name"), OPTIMIZER_ARGUMENTS)


@mistake("argument of an optimizer misspelt")
def _argument(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.path[-2:-1] == ("optimizer",))
    if found is None or found[2].name in known_keys():
        return None
    file, _, entry = found
    assert entry.key is not None
    right = {name for names in OPTIMIZER_ARGUMENTS.values() for name in names}
    new = slip(entry.name, random, right | known_keys())
    return in_span(base, file, entry.key, new, word=entry.name)


@mistake("metric misspelt")
def _metric(base: Base, random: Random) -> Mutant | None:
    return _with_inserted_policy(base, random, slip("val_loss", random, ("loss", "val_loss")))


def _with_inserted_policy(base: Base, random: Random, metric: str) -> Mutant | None:
    found = pick(base, random, lambda e: e.ends("checkpoint", "every"))
    if found is None or any(e.name == "keep_best" for e in found[1].below(found[2].path[:-1])):
        return None
    file, document, entry = found
    if entry.in_flow:
        inserted = document.replace(
            Span(entry.value.end, entry.value.end), f", keep_best: {metric}"
        )
        made = in_span(base, file, Span(entry.value.end, entry.value.end), "", word="val_loss")
        line, column = document.position(entry.value.end)
        column += len(", keep_best: ")
        files = {**made.files, file: inserted.encode()}
        return Mutant(files, ((file, line, column),), ("val_loss",))
    line = document.line_of(entry)
    indent = " " * document.indent_of(line)
    text = document.with_line_after(line, f"{indent}keep_best: {metric}")
    return Mutant(
        {**{n: t.encode() for n, t in base.files.items()}, file: text.encode()},
        ((file, line + 1, len(indent) + len("keep_best: ") + 1),),
        ("val_loss",),
    )


@mistake("variable misspelt where it is used")
def _variable(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.form == "scalar" and "${" in e.text)
    if found is None:
        return None
    file, document, entry = found
    at = document.text.index("${", entry.value.start) + 2
    span = Span(at, document.text.index("}", at))
    name = document.slice(span)
    declared = {str(e.path[1]) for e in base.main.entries if e.path[:1] == ("vars",) and e.path[1:]}
    made = in_span(base, file, span, slip(name, random, declared), word=name)
    line, column = document.position(entry.value.start)
    return Mutant(made.files, ((file, line, column),), made.word)


@mistake("file misspelt in extends")
def _extends(base: Base, random: Random) -> Mutant | None:
    found = pick(base, random, lambda e: e.path[:1] == ("extends",) and e.form == "scalar")
    if found is None:
        return None
    file, document, entry = found
    folder, _, name = entry.word.rpartition("/")
    new = f"{folder}/{slip(name.removesuffix('.yaml'), random, ('cpu', 'gpu'))}.yaml"
    place = document.position(entry.value.start)
    made = in_span(base, file, entry.word_span, new, word=entry.word)
    return Mutant(made.files, ((file, *place),), made.word)
