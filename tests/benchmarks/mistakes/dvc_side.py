"""Runs in a virtual environment with DVC: what `dvc repro --dry` says of each case.

Reads a JSON list of `{"files": {name: text}, "outputs": [name]}` and writes one of
`{"code": exit status, "text": what was printed}`. The outputs of all stages are there, as after
an earlier run, so that a dependency on something else is missed.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

STDOUT, STDERR = 1, 2


def main() -> None:
    cases = json.load(sys.stdin)
    results = os.fdopen(os.dup(STDOUT), "w", encoding="utf-8")
    os.environ.update({"COLUMNS": "250", "DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"})
    with tempfile.TemporaryDirectory() as folder:
        printed = os.open(Path(folder) / "printed", os.O_RDWR | os.O_CREAT)
        # Its log handlers keep the streams that they found first, so the files below are replaced.
        os.dup2(printed, STDOUT)
        os.dup2(printed, STDERR)
        template = Path(folder) / "template"
        template.mkdir()
        run(template, ["init", "--no-scm", "--quiet"], printed)
        found = []
        for number, case in enumerate(cases):
            place = Path(folder) / str(number)
            shutil.copytree(template, place)
            for name, text in case["files"].items():
                (place / name).write_bytes(text.encode("utf-8", "surrogateescape"))
            for name in case["outputs"]:
                (place / "outputs" / name).mkdir(parents=True)
                (place / "outputs" / name / "file").write_text(name)
            found.append(run(place, ["repro", "--dry"], printed))
            shutil.rmtree(place)
    json.dump(found, results)
    results.close()


def run(folder: Path, command: list[str], printed: int) -> dict[str, object]:
    """A DVC command in a folder: its exit status and all that it printed."""
    from dvc.cli import main as dvc  # type: ignore[import-not-found]  # DVC is in no extra

    before = Path.cwd()
    os.ftruncate(printed, 0)
    os.lseek(printed, 0, os.SEEK_SET)
    os.chdir(folder)
    try:
        code = dvc(command)
    finally:
        os.chdir(before)
    sys.stdout.flush()
    sys.stderr.flush()
    text = os.pread(printed, os.fstat(printed).st_size, 0)
    return {"code": int(code), "text": text.decode("utf-8", "replace")}


main()
