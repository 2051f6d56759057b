"""The same by the tool that reviews and hooks run, with its own YAML parser."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.schema.documents import ROOT, SHIPPED, TEMPLATES

SCHEMA = ROOT / "configs" / "experiment.schema.json"


def check(paths: Iterable[Path]) -> dict[str, Any]:
    """The tool's report on these files."""
    tool = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    assert tool, "the extra `dev` installs it"
    command = [tool, "--schemafile", str(SCHEMA), "--output-format", "json", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_shipped_spec_base_and_template_is_accepted() -> None:
    report = check([*SHIPPED, *TEMPLATES])
    assert report["status"] == "ok", report
