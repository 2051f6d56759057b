"""The mutants: a file, its text and what replaces it, and the tests that kill it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One change that a test must notice."""

    name: str
    """What is broken, as one would say it."""
    file: str
    old: str
    """Occurs exactly once in the file."""
    new: str
    tests: tuple[str, ...]
    """pytest's arguments."""


LEAVING = "tests/processes/test_leaving.py"
SAFE_PATH = "tests/flow/test_safe_path.py"
LOOP = "tests/training/test_loop.py"
GUARDS = "tests/training/test_divergence.py"
CHECKPOINT = "tests/training/test_checkpoint.py"
DRAWING = "tests/text/test_splits.py"

MUTANTS = (
    # Those that an audit found alive.
    Mutant(
        "the worker's lock is ignored",
        "continuum/execution/run_stage.py",
        "with run.worker_lock() if rank == 0 else nullcontext():",
        "with nullcontext():",
        (LEAVING, "-k", "waits_for_the_one"),
    ),
    Mutant(
        "the plan does not notice inputs with other bytes",
        "continuum/planning/changes.py",
        'return [*changes(before, after, ("digest",))]',
        "return []",
        ("tests", "-k", "same_size_and_other_bytes or other_bytes_of_the_best"),
    ),
    Mutant(
        "the worker accepts a replaced input",
        "continuum/execution/run_stage.py",
        "if selected.digest != item.digest or is_resealed:",
        "if not selected.digest:",
        ("tests", "-k", "replaced"),
    ),
    Mutant(
        "a worker that dies while leaving undoes its result",
        "continuum/execution/launchers/local.py",
        "        if outcome is not None:\n            is_late",
        "        if outcome is not None and exit_code == 0:\n            is_late",
        (LEAVING, "-k", "dies_while_leaving and worker"),
    ),
    Mutant(
        "skipped steps in a row are never counted anew",
        "continuum/training/loop.py",
        "    state.skipped_in_a_row = 0\n",
        "",
        (GUARDS, "-k", "add_up or skipped"),
    ),
    Mutant(
        "an id equal to the vocabulary's size is written",
        "continuum/text/encoding.py",
        "int(encoded.ids.max()) >= num_ids",
        "int(encoded.ids.max()) > num_ids",
        ("tests/text/test_encoding.py", "-k", "beyond"),
    ),
    Mutant(
        "an id equal to the vocabulary's size is trained on",
        "continuum/training/data.py",
        "if least < 0 or most >= self._num_ids:",
        "if least < 0 or most > self._num_ids:",
        ("tests/training/test_data.py",),
    ),
    Mutant(
        "a checkpoint's manifest is written before its files are on disk",
        "continuum/training/checkpoint.py",
        "    fsync_tree(folder)\n",
        "",
        ("tests/recovery/test_durability.py",),
    ),
    Mutant(
        "an artifact is published before its files are on disk",
        "continuum/runs/folder.py",
        "        files.fsync_tree(artifact.path)\n",
        "",
        ("tests/recovery/test_durability.py",),
    ),
    Mutant(
        "a silent rank's exit code is not told",
        "continuum/execution/launchers/torchrun.py",
        " or end.rank not in has_reported]",
        "]",
        (LEAVING, "-k", "without_a_word", "-m", "slow"),
    ),
    # The loop.
    Mutant(
        "gradients are summed over micro-batches, not averaged",
        "continuum/training/loop.py",
        "fabric.backward(loss / data.num_micro_batches)",
        "fabric.backward(loss)",
        (LOOP, "tests/training/test_parity.py"),
    ),
    Mutant(
        "a stop after the last step loses the result",
        "continuum/training/loop.py",
        "(due.stop and state.step < task.num_steps)",
        "due.stop",
        (LOOP, "-k", "too_late"),
    ),
    Mutant(
        "a stop ends the run without saving its step",
        "continuum/training/loop.py",
        "or due.save or is_best or stop:",
        "or due.save or is_best:",
        (LOOP, "-k", "stop"),
    ),
    Mutant(
        "an infinite loss passes for a number",
        "continuum/training/divergence.py",
        "if not math.isfinite(number):",
        "if math.isnan(number):",
        ("tests/training/test_divergence.py",),
    ),
    Mutant(
        "NaN among the weights passes",
        "continuum/training/divergence.py",
        "isfinite().logical_not().sum()",
        "isinf().sum()",
        (GUARDS, "-k", "weights"),
    ),
    Mutant(
        "too many skipped steps in a row are not the end",
        "continuum/training/divergence.py",
        "state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW",
        "state.skipped_in_a_row > 2 * MAX_SKIPPED_IN_A_ROW",
        (GUARDS, "-k", "for_ever"),
    ),
    # Checkpoints and records.
    Mutant(
        "the first checkpoints are kept, not the last",
        "continuum/runs/retention.py",
        "set(steps[-self.keep_last :])",
        "set(steps[: self.keep_last])",
        (CHECKPOINT, GUARDS, "-k", "kept"),
    ),
    Mutant(
        "a recovery looks at the sizes of a checkpoint's files alone",
        "continuum/training/recovery.py",
        "return find_damage(folder, files, read=True)",
        "return find_damage(folder, files, read=False)",
        (CHECKPOINT, "-k", "damaged"),
    ),
    Mutant(
        "a changed manifest is believed",
        "continuum/runs/records.py",
        "if must_be_sealed and not is_sealed(document):",
        "if not document:",
        (CHECKPOINT, "-k", "believed"),
    ),
    Mutant(
        "a later equal loss takes the place of the best",
        "continuum/runs/artifacts.py",
        "value >= metrics.get(",
        "value > metrics.get(",
        ("tests/training/test_noting_best.py",),
    ),
    Mutant(
        "of a damaged file only its size counts",
        "continuum/runs/files.py",
        "elif sha256 != file.sha256:",
        "elif not sha256:",
        ("tests/test_files.py", "-k", "damage"),
    ),
    Mutant(
        "two runs write one folder",
        "continuum/runs/folder.py",
        "RUN_LOCK_TIMEOUT_S, is_needed=not unsafe) as is_ours:\n            if not is_ours:",
        "RUN_LOCK_TIMEOUT_S, is_needed=not unsafe) as is_ours:\n            if False:",
        ("tests/planning/test_folders.py", "-k", "one_writer"),
    ),
    # Plans and fingerprints.
    Mutant(
        "a recovery is planned from the oldest checkpoint",
        "continuum/planning/planner.py",
        "step = it.existing.saved_steps[-1]",
        "step = it.existing.saved_steps[0]",
        ("tests/planning/test_reasons.py", "-k", "interrupted"),
    ),
    Mutant(
        "a stage below one that runs again is reused unseen",
        "continuum/planning/planner.py",
        "return it.does(Action.CHECK, *again)",
        "return it.does(Action.REUSE, *again)",
        ("tests/planning/test_reasons.py", "-k", "says_why"),
    ),
    Mutant(
        "NaN has a fingerprint",
        "continuum/runs/fingerprint.py",
        "if not math.isfinite(value):",
        "if math.isinf(value):",
        ("tests/planning/test_spelling.py",),
    ),
    Mutant(
        "every epoch has the same order",
        "continuum/training/order.py",
        "(epochs.astype(np.uint64) + np.uint64(1)) * _STEP",
        "(epochs.astype(np.uint64) * np.uint64(0) + np.uint64(1)) * _STEP",
        ("tests/training/test_order.py", "-k", "epochs"),
    ),
    # Processes.
    Mutant(
        "`python -m continuum` imports from the current folder",
        "continuum/execution/safe_path.py",
        "        del sys.path[0]\n",
        "        pass\n",
        (SAFE_PATH, "-k", "python_m and server", "-m", "slow"),
    ),
    Mutant(
        "workers import from the current folder",
        "continuum/execution/safe_path.py",
        'safe = {**environment, SAFE_PATH: "1"}',
        "safe = dict(environment)",
        (SAFE_PATH, "-k", "experiments_folder and server"),
    ),
    Mutant(
        "a package that is not the installed one is not told of",
        "continuum/runs/installed.py",
        "if home.resolve() not in Path(file).resolve().parents:",
        "if not file:",
        (SAFE_PATH, "-k", "not_the_installed_one"),
    ),
    # What a fraction gives to validation.
    Mutant(
        "the split seed draws nothing",
        "continuum/text/splits.py",
        'hashlib.sha256(f"{seed}\\n".encode())',
        "hashlib.sha256()",
        (DRAWING, "-k", "a_seed_draws"),
    ),
    Mutant(
        "equal documents are drawn one by one",
        "continuum/text/splits.py",
        "(high[1:] != high[:-1]) | (low[1:] != low[:-1])",
        "True",
        (DRAWING, "-k", "equal_documents"),
    ),
    Mutant(
        "a share may be off by a third",
        "continuum/text/splits.py",
        "TOLERANCE = 0.25",
        "TOLERANCE = 1 / 3",
        (DRAWING, "-k", "bound_is_a_quarter"),
    ),
    Mutant(
        "a share that borders spoil is kept",
        "continuum/stages/tokenize.py",
        "            if problem:\n                raise PreflightError(problem)\n",
        "",
        ("tests/text/test_tokenize_fraction.py", "-k", "borders_spoil"),
    ),
    Mutant(
        "a text is divided within its line end",
        "continuum/text/borders.py",
        'return text[place - 1] != "\\r" or text[place] != "\\n"',
        "return True",
        ("tests/text/test_borders.py", "-k", "never_divided"),
    ),
)
