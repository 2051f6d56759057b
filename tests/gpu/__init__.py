"""What only a GPU can show, in parts that a machine with one plays in a few minutes each.

    python -m tests.gpu [PART …] [--state FOLDER] [--limit-s 540] [--device cpu] [--list]

`.ci/gpu` calls it. On a CPU the same code runs with a toy model, so that the first GPU meets none
of it for the first time; the figures then say nothing.
"""
