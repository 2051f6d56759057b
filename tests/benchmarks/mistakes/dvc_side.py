"""Runs in a virtual environment with DVC: what `dvc repro --dry` says of each case.

Reads a JSON list of `{"files": {name: text}, "outputs": [name]}` and writes one of
`{"code": exit status, "text": what was printed}`. The outputs of all stages are there, as after
an earlier run, so that a dependency on something else is missed.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path


def main() -> None:
    cases = json.load(sys.stdin)
    results = sys.stdout
    os.environ.update({"COLUMNS": "250", "DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"})
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        template.mkdir()
        run(template, ["init", "--no-scm", "--quiet"])
        found = []
        for number, case in enumerate(cases):
            place = Path(folder) / str(number)
            shutil.copytree(template, place)
            for name, text in case["files"].items():
                (place / name).write_bytes(text.encode("utf-8", "surrogateescape"))
            for name in case["outputs"]:
                (place / "outputs" / name).mkdir(parents=True)
                (place / "outputs" / name / "file").write_text(name)
            found.append(run(place, ["repro", "--dry"]))
            shutil.rmtree(place)
    json.dump(found, results)


def run(folder: Path, command: list[str]) -> dict[str, object]:
    """A DVC command in a folder: its exit status and all that it printed."""
    from dvc.cli import main as dvc  # type: ignore[import-not-found]  # DVC is in no extra

    before = Path.cwd()
    os.chdir(folder)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = dvc(command)
    finally:
        os.chdir(before)
    return {"code": int(code), "text": printed.getvalue()}


main()
