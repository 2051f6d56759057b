"""JSON on stdout is JSON in whatever encoding the environment asks for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from continuum.loading.json_schema import schema_text
from tests.commands import Cli
from tests.spec.documents import HEAD, TRAINING, write

VALUE = "höhe 😀"
"""Text beyond ASCII, and beyond the characters that `\\uXXXX` names alone."""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
def test_json_is_json_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    path = write(tmp_path / "wrong.yaml", f"{HEAD}seed: {VALUE}\n")
    command = [sys.executable, "-m", "continuum", "validate", str(path), "--format", "json"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    text = done.stdout.decode(encoding)
    told = [found["message"] for found in json.loads(text)["diagnostics"]]
    assert any(VALUE in message for message in told)
    assert (VALUE in text) == (encoding == "utf-8")


def test_documents_beyond_ascii_are_printed_in_ascii(cli: Cli, tmp_path: Path) -> None:
    cli.environment["PYTHONIOENCODING"] = "ascii"
    path = write(
        tmp_path / "a.yaml", TRAINING.replace("name: toy", f"name: toy\ndescription: {VALUE}")
    )
    assert json.loads(cli("render", path, "--json").stdout)["document"]["description"] == VALUE
    assert json.loads(cli("schema").stdout) == json.loads(schema_text())
    assert json.loads(cli("explain", "--json").stdout)["schema"] == "continuum.explain/1"
