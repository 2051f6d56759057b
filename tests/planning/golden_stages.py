"""The fingerprints that a release must not change unnoticed, and the specs they are of.

`golden.json` holds them for `golden/experiment.yaml`, which has every kind with every field, and
for the shipped experiments; one that was edited is kept as it was in `golden/experiments`. A
changed fingerprint means that finished runs of that stage, everywhere, are not found any more.
If that is meant, `python -m tests.planning.golden_stages` writes `golden.json`.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from continuum.experiment.fields import Spec
from continuum.experiment.model_fields import ModelFields
from continuum.loading.load import load_experiment
from continuum.planning.plan import Plan, PlannedStage
from continuum.runs.fingerprint import fingerprint
from continuum.stages.fetch import Fetch
from tests.in_process import plan_experiment
from tests.shipped import copy_shipped

HERE = Path(__file__).parent
SPEC = HERE / "golden" / "experiment.yaml"
EARLIER = HERE / "golden" / "experiments"
GOLDEN = HERE / "golden.json"
BOOK = "A fixed text.\n"
INDEX = {
    "config": {"data_format": ["no_header_tensor:16"], "item_loader": "TokensLoader"},
    "chunks": [{"filename": "chunk-0-0.bin", "chunk_size": 1, "dim": 4}],
}


def prepare(folder: Path) -> Path:
    """The golden experiment with the local files it names; its spec."""
    files = {
        "data/book.txt": BOOK,
        "data/notes.md": "# Fixed\n",
        "tokenizer/tokenizer.json": "{}",
        "weights/lit_model.pth": "not read by a plan",
        "weights/model_config.yaml": "name: pythia-14m\n",
        "dataset/train/index.json": json.dumps(INDEX),
        "dataset/train/chunk-0-0.bin": "not read by a plan",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(SPEC, folder)
    return folder / SPEC.name


def plan_with(spec: Path, *overrides: str) -> Plan:
    """The plan of a spec; it may have problems, the fingerprints are there all the same."""
    return plan_experiment(load_experiment(spec, overrides), spec.parent)


def current_fingerprints() -> dict[str, dict[str, str]]:
    """What this release makes of the golden experiment and of the shipped ones."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"golden": _fingerprints(plan_with(prepare(Path(folder) / "golden")))}
        shipped = copy_shipped(Path(folder))
        shutil.copytree(EARLIER, shipped / "experiments", dirs_exist_ok=True)
        for spec in sorted(shipped.glob("experiments/*/experiment.yaml")):
            found[spec.parent.name] = _fingerprints(plan_with(spec, *_without_local_texts(spec)))
    return found


def field_paths(cls: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every field of a kind, and of the parts it may have; items of lists are `*`."""
    for name, info in cls.model_fields.items():
        below = f"{path}.{info.alias or name}" if path else info.alias or name
        parts = [*_parts_of(info.annotation)]
        if not parts or any(part.is_scalar for part in parts):
            yield below
        for part in parts:
            if not part.is_scalar:
                in_list = "tuple" in str(info.annotation)
                yield from field_paths(part, f"{below}.*" if in_list else below)


def _parts_of(annotation: Any) -> Iterator[type[Spec]]:
    if annotation is ModelFields:
        return  # its fields are LitGPT's
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts_of(argument)


def _fingerprints(plan: Plan) -> dict[str, str]:
    return {planned.name: _fingerprint(planned) for planned in plan}


def _fingerprint(planned: PlannedStage) -> str:
    """The stage's own; of files that come with Python, whose bytes differ, only the names count."""
    stage, payload = planned.stage, planned.identity.payload
    if isinstance(stage, Fetch) and any(source.python for source in stage.sources):
        return fingerprint({**payload, "files": sorted(payload["files"])})
    return planned.fingerprint


def _without_local_texts(spec: Path) -> Iterator[str]:
    """Overrides that put addresses in the place of texts that lie on this machine."""
    for name, stage in load_experiment(spec).stages.items():
        if isinstance(stage, Fetch) and any(source.url is None for source in stage.sources):
            yield f'stages.{name}.sources=[{{url: "https://example.org/{name}.txt"}}]'


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current_fingerprints(), indent=2) + "\n", encoding="utf-8")
