"""The error codes of a spec: what each means and how to fix it, for `continuum explain`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """The explanation of a code."""

    summary: str
    """A sentence: what is wrong."""
    advice: str = ""
    """Why it matters and how to fix it."""
    wrong: str = ""
    """A few lines of YAML with the problem, for rules that the message alone does not show."""
    right: str = ""
    """The same lines without it."""


CODES = {
    "E001": Code(
        "The file cannot be read as UTF-8 text.",
        "The encoding is never guessed, so a spec reads the same on every machine. Save the file "
        "as UTF-8 without control characters. If it is not a text file, check the path.",
    ),
    "E002": Code(
        "Invalid YAML syntax.",
        "The caret shows where the parser stopped; the cause is often there or one line above: an "
        "unclosed bracket or quote, a missing comma, a missing space after `:`, or wrong "
        "indentation. Quote text that contains `: ` or ` #` or starts with a special character: "
        '`description: "a: b"`.',
    ),
    "E003": Code(
        "Duplicate key in a mapping.",
        "Most YAML readers silently keep the last one, so the value you review may not be the one "
        "that runs. Delete one of the two.",
    ),
    "E004": Code(
        "Git conflict marker in the file.",
        "A merge was not finished, so the file contains two versions of the experiment. Keep the "
        "lines you want and delete the others and the markers (`<<<<<<<`, `=======`, `>>>>>>>`).",
    ),
    "E005": Code(
        "Tab in the indentation.",
        "YAML only allows spaces in the indentation. Replace the tab with spaces.",
    ),
    "E006": Code(
        "YAML tag or merge key.",
        "Tags (`!name`, `!!python/…`) can construct arbitrary objects, and merge keys (`<<`) are "
        "not in YAML 1.2. A spec is plain data: quote text that starts with `!`, and share values "
        "with `extends`, `vars` or anchors.",
    ),
    "E007": Code(
        "Nesting too deep, or document too large.",
        "Aliases and variables can make a small file expand enormously, so its depth, number of "
        "values and length of texts are limited. Look for an extra bracket, or for variables "
        "that multiply each other.",
    ),
    "E008": Code(
        "A mapping was expected.",
        "The experiment, `stages` and every stage are mappings of keys to values. Put the stage's "
        "`kind` and its fields below its name, or in braces: "
        "`books: {kind: fetch, sources: [{path: a.txt}]}`.",
    ),
    "E009": Code(
        "Invalid key.",
        "A key must be plain text: not a list, a mapping, empty, or a control character. Use one "
        "key for each name, and quote it if it is meant as text.",
    ),
    "E101": Code(
        "Unknown key.",
        "An unknown key is never ignored: if it is misspelled, a default would apply that nobody "
        "chose. Follow the suggestion: it may be misspelled, or belong to another level (`lr` is "
        "`optimizer.lr`). `continuum explain KIND` lists the keys of a kind of stage.",
    ),
    "E102": Code(
        "Missing required key.",
        "The key has no default because no value suits every experiment. Add it; `continuum "
        "explain KIND` lists the required keys of a kind.",
    ),
    "E103": Code(
        "Wrong type.",
        'Values are never converted: `"1"` and `yes` are strings, not a number and not true '
        "(YAML 1.2). Remove the quotes around numbers, quote strings that look like numbers, "
        "and write `true` or `false`. `continuum explain FIELD` shows what a field accepts.",
    ),
    "E104": Code(
        "Invalid value.",
        "The type is right, but the value is out of bounds, not one of the choices, or malformed. "
        "`continuum explain FIELD` shows what a field accepts.",
    ),
    "E105": Code(
        "Unknown kind of stage.",
        "The kind determines what a stage does and which keys it has. `continuum explain` lists "
        "all kinds.",
    ),
    "E106": Code(
        "Invalid stage name.",
        "The name becomes a folder, and other stages refer to it. It must match [a-z][a-z0-9_-]* "
        "and have at most 64 characters.",
    ),
    "E201": Code(
        "Reference to a stage that does not exist.",
        "Fields such as `corpus`, `tokenizer`, `data` and `from` name another stage of this "
        "experiment, not a file. Correct the name, or add the stage; to use something that is "
        "already on this machine, add a stage of kind `import`.",
    ),
    "E202": Code(
        "Reference to a stage with the wrong output.",
        "Each reference needs a certain artifact: a corpus, a tokenizer, a tokenized dataset, or a "
        "checkpoint. `resume` needs a training checkpoint with its optimizer; weights alone only "
        "work with `retrain`. A checkpoint can only be selected (`@step-500`) from a stage that "
        "trains.",
    ),
    "E203": Code(
        "Circular reference between stages.",
        "A stage runs after the stages it refers to, so none of these could ever start. Change one "
        "of the references.",
    ),
    "E301": Code(
        "Undefined variable.",
        "`${name}` is replaced by a value of `vars`, in this file or a base. Define the variable, "
        "correct its name, close its brace, or write `$${` for a literal `${`. `${env.NAME}` is an "
        "environment variable, and may only stand in a URL: its value is a secret that is read "
        "when the file is requested and never recorded.",
    ),
    "E302": Code(
        "Invalid file in `extends`.",
        "A path in `extends` is relative to the file that contains it, not to the working folder. "
        "It must name a file, with its suffix: `extends: ../base.yaml`.",
    ),
    "E303": Code(
        "Circular `extends`.",
        "A base is read before the files that extend it, so a file cannot be its own base, "
        "directly or through others. Remove one `extends`, and move shared keys into a third file.",
    ),
    "E304": Code(
        "Invalid override (`--set`).",
        "An override is `PATH=VALUE`, such as `--set stages.pretrain.optimizer.lr=1e-4`. The path "
        "consists of existing keys and list indices (from 0); the value is read as YAML. Quote it "
        "for the shell if it contains spaces, brackets or `*`.",
    ),
    "E401": Code(
        "Incompatible fields.",
        "Each value is valid, but not together with the others: two budgets, a `sha256` without a "
        "`url`, an argument that the optimizer does not have, or a width that the number of heads "
        "does not divide. Remove or change one of the fields that the message names.",
    ),
}
"""Errors in the spec alone; `lint` adds those of plans and rules."""
