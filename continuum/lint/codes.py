"""What `continuum explain` says of the codes of a plan, and of the rules."""

import inspect
import textwrap

from continuum.loading.codes import Code

PLAN_CODES = {
    "E402": Code(
        "Something a stage needs is not there, or does not fit it.",
        "The fields fit together, but not with what lies in the experiment's folder: a local file "
        "that is missing, data that is too small, weights that attend to shorter sequences, a "
        "checkpoint that was not kept. A run is refused before anything starts; "
        "`validate`, which asks about the spec, warns.",
        "books: {kind: fetch, sources: [{path: bokos/*.txt}]}",
        "books: {kind: fetch, sources: [{path: books/*.txt}]}",
    ),
    "E403": Code(
        "This machine cannot carry it out.",
        "Its disk, its memory or what is installed on it does not suffice; another machine may do. "
        "`plan` warns of it, `run` refuses to start (exit 4), and `validate` and `diff`, which ask "
        "about the spec, are silent.",
        "runtime: {checkpoint: {every: 100, keep_every: 100}}   # more than is free",
        "runtime: {checkpoint: {every: 100, keep_last: 2}}",
    ),
    "W014": Code(
        "An allowance that silences nothing.",
        "`# continuum: allow W002` silences that rule on its line, or on the next line if the "
        "comment stands alone. One that is no longer needed would hide the next mistake.",
        "max_steps: 500\nschedule: {warmup: 5%}  # continuum: allow W002",
        "max_steps: 500\nschedule: {warmup: 5%}",
    ),
    "W015": Code(
        "A setting that has no effect.",
        "Another setting makes it meaningless, so what it was meant for does not happen. Change "
        "the other one, or leave it out.",
        "runtime: {devices: 4, strategy: ddp, accumulate_unsharded: true}",
        "runtime: {devices: 4, strategy: fsdp, accumulate_unsharded: true}",
    ),
    "W016": Code(
        "The plan expects trouble.",
        "What is known before the run suggests that a stage fails or makes something else than was "
        "meant, without being sure: a tokenizer that may have more ids than the model has "
        "embeddings, files that are read otherwise than their names say."
        " The message says what to change.",
        "tokenizer: {kind: train_tokenizer, vocab_size: 2048, …}\n"
        "pretrain: {kind: pretrain, model: {name: pythia-14m, padded_vocab_size: 1024}, …}",
        "tokenizer: {kind: train_tokenizer, vocab_size: 1024, …}\n"
        "pretrain: {kind: pretrain, model: {name: pythia-14m, padded_vocab_size: 1024}, …}",
    ),
}
"""Codes that no rule of `lint` has: of what the plan knows, and of allowances."""


def code_of_docstring(text: str) -> Code:
    """A rule's docstring as a code: a sentence, a paragraph, and an example, wrong and right."""
    summary, _, rest = inspect.cleandoc(text).partition("\n\n")
    advice, _, examples = rest.partition("\n\nWrong:\n")
    wrong, _, right = examples.partition("\nRight:\n")
    return Code(summary, " ".join(advice.split()), *map(textwrap.dedent, (wrong, right)))
