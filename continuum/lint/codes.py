"""What the codes of warnings mean, in words for the one who meets them."""

from continuum.spec.codes import Code

LINT_CODES = {
    "W001": Code(
        "A model sees its data more than once.",
        "A second pass teaches less than new text, and after about four passes nearly nothing "
        "(Muennighoff et al. 2023, Scaling Data-Constrained Language Models). Passes are counted "
        "through `resume` and `retrain`, and are a lower bound until the dataset exists. A "
        "`retrain` that restarts, or has another data seed or sequence length than its model had, "
        "reads text again before it has read all. Add text, lower the budget, or allow it where it "
        "is meant.",
        "tokens: {kind: tokenize, corpus: one_book, …}   # about 200k tokens\n"
        "pretrain: {kind: pretrain, data: tokens, max_tokens: 1M, …}",
        "tokens: {kind: tokenize, corpus: one_book, …}\n"
        "pretrain: {kind: pretrain, data: tokens, max_tokens: 200k, …}",
    ),
    "W002": Code(
        "The warm-up takes more than a tenth of the run.",
        "A fixed number of warm-up steps that suits a long run eats a short one: the model is "
        "hardly ever trained at the rate that was chosen. Write the warm-up as a share.",
        "max_steps: 500\nschedule: {kind: cosine, warmup: 200}",
        "max_steps: 500\nschedule: {kind: cosine, warmup: 5%}",
    ),
    "W003": Code(
        "What is fetched is not pinned.",
        "A branch moves and a file behind a URL is replaced, so the same spec makes something "
        "else next month. Write the commit or the hash into the spec, or commit the continuum.lock "
        "that a run writes: it pins what the sources were.",
        "tokenizer: {kind: download, repo: EleutherAI/pythia-160m, revision: main, …}\n"
        "books: {kind: fetch, sources: [{url: https://example.org/book.txt}]}",
        "tokenizer:\n"
        "  kind: download\n"
        "  repo: EleutherAI/pythia-160m\n"
        "  revision: 50f5173d932e8e61f858120bcb800b97af589f46\n"
        "books:\n"
        "  kind: fetch\n"
        "  sources: [{url: https://example.org/book.txt, sha256: 9f86d08…}]",
    ),
    "W004": Code(
        "A secret stands in the spec.",
        "Whoever reads the file, its Git history, or the records of a run has it. Take it out, "
        "make it invalid where it was issued, and give the new one in the environment: the Hub's "
        "as HF_TOKEN, a proxy's in HTTPS_PROXY. The message does not repeat it.",
        "sources: [{url: https://user:secret@example.org/book.txt}]",
        "sources: [{url: https://example.org/book.txt}]",
    ),
    "W005": Code(
        "The learning rate is above the peak the model was trained with.",
        "A rate above the former peak tears a trained model out of where it settled; continued "
        "pretraining usually warms up to the former peak at most (Ibrahim et al. 2024, Simple and "
        "Scalable Strategies to Continually Pre-train Large Language Models).",
        "pretrain: {kind: pretrain, optimizer: {lr: 6e-4}, …}\n"
        "retrain: {kind: retrain, from: pretrain, optimizer: {lr: 1e-3}, …}",
        "pretrain: {kind: pretrain, optimizer: {lr: 6e-4}, …}\n"
        "retrain: {kind: retrain, from: pretrain, optimizer: {lr: 1.5e-4}, …}",
    ),
    "W006": Code(
        "A model is evaluated on text that it was trained on.",
        "The validation text of a dataset is training text of another that the model, or one it "
        "descends from, has seen. The loss on it falls by learning it by heart. Compared are the "
        "files of the corpora, by their SHA-256 where it is known, and how `validation` divides "
        "them; and once datasets are made, their documents, by SHA-256. What was found when a "
        "stage began is in its `stage.json`.",
        "old: {kind: tokenize, corpus: books, validation: {fraction: 0.05}, …}\n"
        "new: {kind: tokenize, corpus: books, validation: {fraction: 0.1}, …}\n"
        "pretrain: {kind: pretrain, data: old, …}\n"
        "retrain: {kind: retrain, from: pretrain, data: new, …}",
        "old: {kind: tokenize, corpus: books, validation: {fraction: 0.1}, …}\n"
        "new: {kind: tokenize, corpus: books, validation: {fraction: 0.1}, …}\n"
        "pretrain: {kind: pretrain, data: old, …}\n"
        "retrain: {kind: retrain, from: pretrain, data: new, …}",
    ),
    "W007": Code(
        "The checkpoints will not fit on the disk.",
        "A training checkpoint has the weights and the optimizer's state, three times the weights "
        "alone with Adam. Counted is what retention keeps, the one being written, and what the "
        "stages before have kept, against what is free now.",
        "runtime: {checkpoint: {every: 100, keep_every: 100}}",
        "runtime: {checkpoint: {every: 100, keep_last: 2}}",
    ),
    "W008": Code(
        "Retention leaves nothing to go on from, or keeps nothing.",
        "Without a checkpoint before its end, a long run that is interrupted starts over. "
        "`keep_every` keeps only steps at which a checkpoint was due, and `keep_best` only those "
        "that were evaluated.",
        "max_steps: 800\nruntime: {checkpoint: {every: 1000}}",
        "max_steps: 800\nruntime: {checkpoint: {every: 100}}",
    ),
    "W009": Code(
        "A `resume` that changes nothing.",
        "The budget of a `resume` is a total that counts the parent's steps too. One that is no "
        "larger than the parent's trains nothing, and its schedule never acts.",
        "pretrain: {kind: pretrain, max_tokens: 1M, …}\n"
        "longer: {kind: resume, from: pretrain, max_tokens: 1M, …}",
        "pretrain: {kind: pretrain, max_tokens: 1M, …}\n"
        "longer: {kind: resume, from: pretrain, max_tokens: 2M, …}",
    ),
    "W010": Code(
        "Evaluation without validation text.",
        "Training evaluates unless it says `evaluate: null`, and this dataset was made with "
        "`validation: none`. The run is refused once the tokens exist: after the time they took.",
        "tokens: {kind: tokenize, validation: none, …}\n"
        "pretrain: {kind: pretrain, data: tokens, …}",
        "tokens: {kind: tokenize, validation: {fraction: 0.05}, …}\n"
        "pretrain: {kind: pretrain, data: tokens, …}",
    ),
    "W011": Code(
        "A result that no stage uses.",
        "Texts, tokenizers and datasets are made for other stages. One that nobody uses costs "
        "time, and often stands for a reference that was forgotten.",
        "new_tokens: {kind: tokenize, …}\nretrain: {kind: retrain, data: tokens, …}",
        "new_tokens: {kind: tokenize, …}\nretrain: {kind: retrain, data: new_tokens, …}",
    ),
    "W012": Code(
        "Two stages make exactly the same thing.",
        "All that decides about the result is equal: fields, inputs, seed. Both would be carried "
        "out. Most often one was copied and what should differ was not changed.",
        "low: {kind: pretrain, optimizer: {lr: 1e-4}, …}\n"
        "high: {kind: pretrain, optimizer: {lr: 1e-4}, …}",
        "low: {kind: pretrain, optimizer: {lr: 1e-4}, …}\n"
        "high: {kind: pretrain, optimizer: {lr: 1e-3}, …}",
    ),
    "W013": Code(
        "A variable that nothing uses.",
        "A leftover, or a `${name}` that was written out or misspelt. Variables of a base are not "
        "meant: they may serve another experiment.",
        "vars: {books: https://example.org}\n"
        "stages: {books: {kind: fetch, sources: [{url: https://example.net/1.txt}]}}",
        "vars: {books: https://example.org}\n"
        'stages: {books: {kind: fetch, sources: [{url: "${books}/1.txt"}]}}',
    ),
    "W014": Code(
        "An allowance that silences nothing.",
        "`# continuum: allow W002` silences that rule on its line, or on the next line if the "
        "comment stands alone. One that is no longer needed would hide the next mistake.",
        "max_steps: 500\nschedule: {warmup: 5%}  # continuum: allow W002",
        "max_steps: 500\nschedule: {warmup: 5%}",
    ),
}
"""What makes a spec unwise; `validate --strict` refuses it."""
