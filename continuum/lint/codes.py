"""The codes of plans and rules, for `continuum explain`."""

import inspect
import textwrap

from continuum.loading.codes import Code

PLAN_CODES = {
    "E402": Code(
        "An input of a stage is missing or incompatible.",
        "The spec is valid, but does not match the experiment's folder: a local file is missing, "
        "the data is too small, imported weights support shorter sequences only, or a checkpoint "
        "was not kept. `run` refuses to start; `validate` only warns, since it checks the spec.",
        "books: {kind: fetch, sources: [{path: bokos/*.txt}]}",
        "books: {kind: fetch, sources: [{path: books/*.txt}]}",
    ),
    "E403": Code(
        "This machine cannot run the stage.",
        "Its disk space, memory or software is insufficient; another machine may be able to run "
        "it. `plan` warns, `run` refuses to start (exit 4), and `validate` and `diff` do not "
        "report it, since they check the spec.",
        "runtime: {checkpoint: {every: 100, keep_every: 100}}   # more than is free",
        "runtime: {checkpoint: {every: 100, keep_last: 2}}",
    ),
    "W014": Code(
        "Unused allowance.",
        "`# continuum: allow W002` suppresses a warning on its line, or on the next line if the "
        "comment is alone on its line. Delete it when it is no longer needed: it would hide the "
        "next warning.",
        "max_steps: 500\nschedule: {warmup: 5%}  # continuum: allow W002",
        "max_steps: 500\nschedule: {warmup: 5%}",
    ),
    "W015": Code(
        "Setting without effect.",
        "Another setting makes it meaningless, so the intended effect does not happen. Change the "
        "other setting, or remove this one.",
        "runtime: {devices: 4, strategy: ddp, accumulate_unsharded: true}",
        "runtime: {devices: 4, strategy: fsdp, accumulate_unsharded: true}",
    ),
    "W016": Code(
        "A stage will probably fail or produce an unintended result.",
        "What is known before the run suggests it, without being certain: a tokenizer that may "
        "have more ids than the model has embeddings, or files whose names suggest another format. "
        "The message says what to change.",
        "tokenizer: {kind: train_tokenizer, vocab_size: 2048, …}\n"
        "pretrain: {kind: pretrain, model: {name: pythia-14m, padded_vocab_size: 1024}, …}",
        "tokenizer: {kind: train_tokenizer, vocab_size: 1024, …}\n"
        "pretrain: {kind: pretrain, model: {name: pythia-14m, padded_vocab_size: 1024}, …}",
    ),
}
"""Codes that no rule has: problems of the plan, and unused allowances."""


def code_of_docstring(text: str) -> Code:
    """Return a rule's docstring as a code: a sentence, a paragraph, and an example."""
    summary, _, rest = inspect.cleandoc(text).partition("\n\n")
    advice, _, examples = rest.partition("\n\nWrong:\n")
    wrong, _, right = examples.partition("\nRight:\n")
    return Code(summary, " ".join(advice.split()), *map(textwrap.dedent, (wrong, right)))
