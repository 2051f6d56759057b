"""What the codes of diagnostics mean, in words for the one who meets them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """One kind of mistake."""

    summary: str
    """A sentence: what is wrong."""
    advice: str = ""
    """Why it matters and what to do, for `continuum explain`."""
    wrong: str = ""
    """A few lines of YAML that have the mistake, and no other.

    `continuum: 1`, `name` and a stage `books` are left out where they do not matter; a `base.yaml`
    lies beside the file; `# --set PATH=VALUE` stands for an override on the command line.
    """
    right: str = ""
    """The same lines without it."""


_BOOKS = "stages:\n  books: {kind: fetch, sources: [{python: argparse.py}]}\n"

CODES = {
    "E001": Code(
        "The file cannot be read as UTF-8 text.",
        "A spec is read the same on every machine, so its encoding is never guessed. Save the file "
        "as UTF-8, without control characters; if it is not text at all, name another file.",
        "description: caf\x01\n",
        "description: café\n",
    ),
    "E002": Code(
        "The text is not YAML.",
        "Where the structure is unclear, any reading would be a guess. The caret shows where the "
        "parser stopped; what is wrong often begins there or one line above: an open bracket or "
        "quote, a missing comma or space after `:`, an indentation that fits no level. Text that "
        "holds `: `, ` #` or begins with a special character belongs in quotes.",
        "stages:\n  books: {kind: fetch, sources: [{python: argparse.py}}\n",
        _BOOKS,
    ),
    "E003": Code(
        "A key stands twice in one mapping.",
        "Most YAML readers silently keep the last one, so the reviewed value may not be the one "
        "that runs. Delete one of the two.",
        "seed: 1\nseed: 2\n",
        "seed: 2\n",
    ),
    "E004": Code(
        "A Git conflict marker was left in the file.",
        "A merge was not finished: two versions of the experiment stand in one file. Keep the "
        "lines that are meant and delete the others with the markers.",
        "<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> branch\n",
        "seed: 2\n",
    ),
    "E005": Code(
        "A tab in the indentation.",
        "YAML indents with spaces alone; how wide a tab is depends on the editor. Replace it by "
        "spaces.",
        "stages:\n  books:\n\tkind: fetch\n\tsources: [{python: argparse.py}]\n",
        "stages:\n  books:\n    kind: fetch\n    sources: [{python: argparse.py}]\n",
    ),
    "E006": Code(
        "A YAML tag or merge key, which specs do not use.",
        "Tags (`!name`, `!!python/…`) can construct anything, and merge keys (`<<`) are YAML 1.1. "
        "A spec is plain data: quote text that begins with `!`, and share values with `extends`, "
        "`vars` or anchors.",
        "description: !important read this\n",
        'description: "!important read this"\n',
    ),
    "E007": Code(
        "Nested too deep, or too large once aliases are followed.",
        "Aliases and variables can make a small file enormous, so depth, the number of values and "
        "the length of a text are bounded. No experiment comes near the bounds: look for a bracket "
        "too many, or for variables that multiply each other.",
        f"description: {'[' * 65}{']' * 65}\n",
        "description: a sentence\n",
    ),
    "E008": Code(
        "A mapping was expected.",
        "The experiment, `stages` and every stage are mappings of keys to values. Write the "
        "stage's `kind` and its fields below its name, or in braces.",
        "stages:\n  books: fetch\n",
        _BOOKS,
    ),
    "E009": Code(
        "A key that is not plain text.",
        "Keys are names: lists, mappings, nothing and control characters cannot be one. Write one "
        "key for each name, and quote it if it is meant as text.",
        "vars:\n  [lr, min_lr]: 1e-3\n",
        "vars:\n  lr: 1e-3\n  min_lr: 1e-3\n",
    ),
    "E101": Code(
        "A key that is not known at this place.",
        "An unknown key is never dropped: a misspelt one would leave a default in force that "
        "nobody chose. Follow the suggestion: it may be spelt otherwise, or belong to another "
        "level (`lr` is `optimizer.lr`). `continuum explain KIND` lists the keys of a kind.",
        "sead: 7\n",
        "seed: 7\n",
    ),
    "E102": Code(
        "A required key is missing.",
        "It has no default because no value is right for every experiment. Add it; "
        "`continuum explain KIND` lists what a kind requires.",
        "stages:\n  books: {kind: fetch}\n",
        _BOOKS,
    ),
    "E103": Code(
        "A value of the wrong type.",
        'Nothing is converted: `"1"` is text, not a number, and `yes` is text, not true (YAML '
        "1.2). Take quotes off numbers, put them around text that looks like one, and write "
        "`true` or `false`. `continuum explain FIELD` says what a field takes.",
        "seed: forty-two\n",
        "seed: 42\n",
    ),
    "E104": Code(
        "A value that is not allowed.",
        "The type is right but the value is outside its bounds, not among the choices, or not of "
        "the right form. The message says what is allowed; `continuum explain FIELD` says why.",
        f"{_BOOKS}  tokenizer: {{kind: train_tokenizer, corpus: books, vocab_size: 100}}\n",
        f"{_BOOKS}  tokenizer: {{kind: train_tokenizer, corpus: books, vocab_size: 2048}}\n",
    ),
    "E105": Code(
        "A kind of stage that does not exist.",
        "The kind decides what a stage does and which keys it has. `continuum explain` lists all "
        "kinds.",
        "stages:\n  books: {kind: fetsh, sources: [{python: argparse.py}]}\n",
        _BOOKS,
    ),
    "E106": Code(
        "A stage name that cannot be used.",
        "The name becomes a folder and is what other stages refer to: it begins with a-z; a-z, "
        "0-9, _ and - follow, 64 letters at most.",
        "stages:\n  My Books: {kind: fetch, sources: [{python: argparse.py}]}\n",
        "stages:\n  my_books: {kind: fetch, sources: [{python: argparse.py}]}\n",
    ),
    "E201": Code(
        "A reference to a stage that does not exist.",
        "Fields such as `corpus`, `tokenizer`, `data` and `from` name another stage of this "
        "experiment, not a file. Correct the name, or add the stage; what already lies on this "
        "machine is taken in by a stage of kind `import`.",
        f"{_BOOKS}  tokenizer: {{kind: train_tokenizer, corpus: boks, vocab_size: 2048}}\n",
        f"{_BOOKS}  tokenizer: {{kind: train_tokenizer, corpus: books, vocab_size: 2048}}\n",
    ),
    "E202": Code(
        "A reference to a stage that makes something else.",
        "Each reference needs a certain thing: a corpus, a tokenizer, a tokenized dataset, a "
        "checkpoint. `resume` needs a training checkpoint with its optimizer; weights alone can "
        "only be retrained. A checkpoint is selected (`@step-500`) only of a stage that trains.",
        f"{_BOOKS}"
        "  tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 2048}\n"
        "  tokens: {kind: tokenize, corpus: books, tokenizer: books, validation: none}\n",
        f"{_BOOKS}"
        "  tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 2048}\n"
        "  tokens: {kind: tokenize, corpus: books, tokenizer: tokenizer, validation: none}\n",
    ),
    "E203": Code(
        "Stages that wait for each other.",
        "A stage runs after those it refers to, so none of these could ever start. One of the "
        "references has to lead elsewhere.",
        "stages:\n"
        "  longer: {kind: resume, from: longer, max_tokens: 2M, schedule: {kind: constant}}\n",
        "stages:\n"
        "  first:\n"
        "    kind: pretrain\n"
        "    model: pythia-14m\n"
        "    data: tokens\n"
        "    max_tokens: 1M\n"
        "    sequence_length: 128\n"
        "    global_batch_size: 16\n"
        "    optimizer: {lr: 1e-3}\n"
        "  longer: {kind: resume, from: first, max_tokens: 2M, schedule: {kind: constant}}\n"
        "  books: {kind: fetch, sources: [{python: argparse.py}]}\n"
        "  tokenizer: {kind: train_tokenizer, corpus: books, vocab_size: 2048}\n"
        "  tokens: {kind: tokenize, corpus: books, tokenizer: tokenizer, validation: none}\n",
    ),
    "E301": Code(
        "A variable that is not defined.",
        "`${name}` is filled in from `vars`, here or in a base; environment variables are not "
        "read, since they are in no review. Define it, correct its name, close its brace, or write "
        "`$${` where the two letters are meant.",
        "description: the books of ${author}\n",
        "vars: {author: Goethe}\ndescription: the books of ${author}\n",
    ),
    "E302": Code(
        "A file in `extends` that cannot be used.",
        "A path in `extends` is relative to the file that says it, not to where the command is "
        "run. It names a file, not a folder, and needs its suffix.",
        "extends: bases/nowhere.yaml\n",
        "extends: base.yaml\n",
    ),
    "E303": Code(
        "Files that extend each other in a circle.",
        "A base is read before what extends it, so a file cannot be its own base, directly or "
        "through others. Take one `extends` out, and move what both need into a third file.",
        "extends: experiment.yaml\n",
        "extends: base.yaml\n",
    ),
    "E304": Code(
        "An override (`--set`) that cannot be applied.",
        "An override is `PATH=VALUE`; the path leads through keys and list indices (from 0) that "
        "exist, and the value is read as YAML. Quote it for the shell where it holds spaces, "
        "brackets or `*`.",
        f"# --set stages.boks.description=old\n{_BOOKS}",
        f"# --set stages.books.description=old\n{_BOOKS}",
    ),
    "E401": Code(
        "Fields that do not fit together.",
        "Each value is allowed, but not beside the others: two budgets, a `sha256` without a "
        "`url`, an optimizer's argument that it does not have, a model width that its heads do not "
        "divide. The message names the fields; take one out or change it.",
        "stages:\n"
        '  books: {kind: fetch, sources: [{url: "https://example.org/a.txt", path: a.txt}]}\n',
        'stages:\n  books: {kind: fetch, sources: [{url: "https://example.org/a.txt"}]}\n',
    ),
}
"""Mistakes that make a spec unusable."""
