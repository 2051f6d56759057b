"""`continuum report --serve`: the page, made when it is asked for, for this machine alone."""

import http.client
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from continuum.runs.folder import ExperimentFolder
from tests.commands import Cli, kill_group


@pytest.fixture
def served(experiment: Callable[..., Path]) -> Iterator[tuple[Path, int]]:
    """The folder of an experiment, and the port of its page."""
    path = experiment()
    process = Cli().start("report", path, "--serve")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving http://127.0.0.1:"), line
    try:
        yield path.parent, int(line.split("/")[2].rpartition(":")[2])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        if process.returncode is None:
            kill_group(process)
    assert process.returncode == 0


def ask(port: int, path: str = "/", host: str = "") -> tuple[int, str]:
    """The status and the text of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_the_page_follows_the_folder(served: tuple[Path, int]) -> None:
    folder, port = served
    status, page = ask(port)
    assert status == 200
    assert "Nothing has run yet." in page
    assert 'http-equiv="refresh"' not in page
    with ExperimentFolder(folder).lock():
        status, page = ask(port)
    assert "Running: 0 of 9 stages are complete." in page
    assert '<meta http-equiv="refresh" content="10' in page
    spec = folder / "experiment.yaml"
    spec.write_text(spec.read_text().replace("kind: fetch", "kind: fetched", 1))
    status, text = ask(port)
    assert status == 503
    assert "fetched" in text
    assert not (folder / "results").exists()


def test_only_the_page_is_served_and_only_to_this_machine(served: tuple[Path, int]) -> None:
    _, port = served
    assert ask(port, "/experiment.yaml")[0] == 404
    assert ask(port, "/../experiment.yaml")[0] == 404
    assert ask(port, host=f"evil.example:{port}")[0] == 403
    assert ask(port, host=f"localhost:{port}")[0] == 200


def test_a_used_port_is_named(served: tuple[Path, int]) -> None:
    folder, port = served
    done = Cli()("report", folder, "--serve", "--port", port, expect=2)
    assert f"--port {port}: " in done.stderr
