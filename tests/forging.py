"""Edit the records of a run as a forger would: with or without computing their seals anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from continuum.runs.records import records_beside, sealed

Edit = Callable[[dict[str, Any]], object]


def forge(path: Path, edit: Edit) -> None:
    """Change a JSON document; its seal, if any, stays."""
    document = json.loads(path.read_text(encoding="utf-8"))
    before = json.dumps(document)
    edit(document)
    assert json.dumps(document) != before, "nothing was forged"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def reseal(run: Path) -> None:
    """Compute every seal of a finished run again, so that its records agree with each other."""
    for manifest in run.glob("checkpoints/step-*/manifest.json"):
        manifest.write_text(json.dumps(sealed(json.loads(manifest.read_text()))), encoding="utf-8")
    document = json.loads((run / "artifact.json").read_text(encoding="utf-8"))
    document["records"] = records_beside(run).model_dump(mode="json")
    (run / "artifact.json").write_text(json.dumps(sealed(document)), encoding="utf-8")


def as_earlier_release(folder: Path) -> None:
    """Take from all records, and from the lock, what releases before the seals did not write."""
    for run in (folder / "runs").glob("*-*"):
        forge(run / "artifact.json", lambda it: [it.pop("seal"), it.pop("records")])
        forge(run / "stage.json", _without_seals)
    lock = folder / "continuum.lock"
    lines = lock.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.split(":")[0].strip() not in ("seal", "made_at")]
    assert len(kept) < len(lines)
    lock.write_text("".join(kept), encoding="utf-8")


def _without_seals(record: dict[str, Any]) -> None:
    del record["replaces"]
    for used in record["inputs"]:
        del used["seal"]
