"""What befalls an experiment folder between two runs: edits, losses, moves."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from continuum.planning.plan import PlannedStage
from tests.planning.carrying_out import Interruption
from tests.planning.worlds import CORPORA, FIELDS, NUM_TEXTS, RUNTIMES, Turn, World

MAX_EVENT = 14
"""An interruption comes before this event of its stage."""


def change_field(world: World, turn: Turn) -> str:
    name = world.rng.choice(list(world.stages))
    path, values = world.rng.choice(list(FIELDS[world.stages[name]["kind"]].items()))
    value = world.rng.choice(values)
    world.stages[name][path] = copy.deepcopy(value)
    _touch(turn, set() if path == "description" else {name})
    return f"{name}.{path} = {value}"


def change_seed(world: World, turn: Turn) -> str:
    world.document["seed"] = world.rng.choice((1, 2))
    seeded = ("pretrain", "resume")
    _touch(turn, {name for name, stage in world.stages.items() if stage["kind"] in seeded})
    return f"seed = {world.document['seed']}"


def change_runtime(world: World, turn: Turn) -> str:
    if "pretrain" not in world.stages:
        return reorder(world, turn)
    world.stages["pretrain"]["runtime"] = world.rng.choice(RUNTIMES)
    return f"pretrain.runtime = {world.stages['pretrain']['runtime']}"


def change_corpus(world: World, turn: Turn) -> str:
    file, version = world.rng.choice(CORPORA), world.rng.randrange(NUM_TEXTS)
    world.write_corpus(file, version)
    fetched = (name for name, stage in world.stages.items() if stage["kind"] == "fetch")
    _touch(turn, {name for name in fetched if file in str(world.stages[name])})
    return f"{file} has text {version}"


def change_web(world: World, turn: Turn) -> str:
    """Another text at the URL, and it is asked for: neither lock nor artifact stands for the old.

    What was made from the old text is made again by and by, as its stages are come back to.
    """
    (world.folder / "continuum.lock").unlink(missing_ok=True)
    world.change_web_text()
    turn.rerun |= {"web"} & world.stages.keys()
    turn.touched = None
    return "the web has another text, and web is to be made again"


def go_back(world: World, turn: Turn) -> str:
    """The spec of an earlier turn."""
    number = world.rng.randrange(len(world.past))
    world.document = copy.deepcopy(world.past[number])
    turn.touched = None
    return f"the spec is that of turn {number}"


def reorder(world: World, turn: Turn) -> str:
    """Stages, their fields and a mixture's datasets in another order."""
    world.document["stages"] = {
        name: _shuffled(world, stage) for name, stage in _shuffled(world, world.stages).items()
    }
    return f"the stages are {', '.join(world.stages)}"


def add_stage(world: World, turn: Turn) -> str:
    corpus = world.rng.choice(("book", "web"))
    extra: dict[str, Any] = {
        "extra": {"kind": "train_tokenizer", "corpus": corpus, "vocab_size": 280},
        "extra_tokens": {
            "kind": "tokenize",
            "corpus": corpus,
            "tokenizer": "tokenizer",
            "validation": {"fraction": 0.3},
        },
    }
    if "pretrain" in world.stages:
        step = world.rng.choice((3, 4, 6, 99))
        extra["picked"] = {"kind": "convert", "from": f"pretrain@step-{step}"}
    name = world.rng.choice(list(extra))
    world.stages[name] = extra[name]
    _touch(turn, {name})
    return f"{name} is {extra[name]}"


def remove_stage(world: World, turn: Turn) -> str:
    used = {ref.stage for planned in world.plan() for ref in planned.refs}
    unused = [name for name in world.stages if name not in used | {"web"}]
    if not unused or len(world.stages) < 4:
        return reorder(world, turn)
    name = world.rng.choice(unused)
    del world.stages[name]
    return f"{name} is gone from the spec"


def lose_artifact(world: World, turn: Turn) -> str:
    return _harm(world, turn, "artifact.json is gone", lambda run: (run / "artifact.json").unlink())


def lose_run(world: World, turn: Turn) -> str:
    return _harm(world, turn, "its run folder is gone", shutil.rmtree)


def cut_record(world: World, turn: Turn) -> str:
    file = world.rng.choice(("artifact.json", "stage.json"))
    return _harm(world, turn, f"{file} is cut", lambda run: _truncate(run / file))


def lose_output(world: World, turn: Turn) -> str:
    def harm(run: Path) -> None:
        world.rng.choice(_output_files(run)).unlink()

    return _harm(world, turn, "an output file is gone", harm)


def cut_output(world: World, turn: Turn) -> str:
    def harm(run: Path) -> None:
        _truncate(world.rng.choice(_output_files(run)))

    return _harm(world, turn, "an output file is cut", harm)


def lose_archive(world: World, turn: Turn) -> str:
    """The oldest of what was put aside is cleared away."""
    archived = sorted((world.folder / "runs" / ".archive").glob("*"))
    if archived:
        shutil.rmtree(archived[0])
    return f"{archived[0].name if archived else 'nothing'} is gone from the archive"


def move(world: World, turn: Turn) -> str:
    """Copied elsewhere, with the files' times or without, and the first place removed."""
    target = world.folder.with_name(f"moved-{len(world.log)}")
    keeps_times = world.rng.random() < 0.5
    copy_file: Any = shutil.copy2 if keeps_times else shutil.copy
    shutil.copytree(world.folder, target, copy_function=copy_file)
    shutil.rmtree(world.folder)
    world.folder = target
    return f"moved to {target.name}, {keeps_times=}"


def rerun(world: World, turn: Turn) -> str:
    name = world.rng.choice(list(world.stages))
    turn.rerun.add(name)
    _touch(turn, {name})
    return f"--rerun {name}"


def interrupt(world: World, turn: Turn) -> str:
    how, stage = world.rng.choice(("stop", "crash")), world.rng.choice(list(world.stages))
    turn.interruption = Interruption(how, stage, world.rng.randrange(1, MAX_EVENT))
    return str(turn.interruption)


EDITS = (
    change_field, change_field, change_field, change_seed, change_corpus, change_corpus,
    change_web, go_back, go_back, add_stage, remove_stage, lose_artifact, lose_run, cut_record,
    lose_output, cut_output, rerun, change_runtime, reorder, move, lose_archive,
)  # fmt: skip
"""Some more often than others."""


def _touch(turn: Turn, names: set[str]) -> None:
    turn.touched = None if turn.touched is None else turn.touched | names


def _shuffled(world: World, mapping: dict[str, Any]) -> dict[str, Any]:
    """The same mapping, and those in it whose keys are free, in another order."""
    keys = list(mapping)
    world.rng.shuffle(keys)
    inner = {key for key in ("data", "optimizer") if isinstance(mapping.get(key), dict)}
    return {key: _shuffled(world, mapping[key]) if key in inner else mapping[key] for key in keys}


def _harm(world: World, turn: Turn, what: str, harm: Callable[[Path], Any]) -> str:
    complete: list[PlannedStage] = [p for p in world.begun() if p.run.is_complete]
    if not complete:
        return "nothing is there yet"
    planned = world.rng.choice(complete)
    if not _output_files(planned.run.path):
        return f"{planned.name} has no output any more"
    harm(planned.run.path)
    _touch(turn, {planned.name})
    return f"{planned.run.name}: {what}"


def _output_files(run: Path) -> list[Path]:
    """Those of the artifact; in a fetch of one file, it alone."""
    return sorted(path for path in (run / "output").rglob("*") if path.is_file())


def _truncate(path: Path) -> None:
    """Half of it; what is linked to it, as a checkpoint's file is, loses that half too."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
