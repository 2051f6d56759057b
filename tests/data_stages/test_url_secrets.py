"""Secrets in URLs: from the environment, or written out; what is identity, and what is recorded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum.planning.lockfile import LockedStage, read_lockfile
from continuum.planning.plan import Action
from tests.commands import Cli, only
from tests.in_process import plan_folder, run_folder
from tests.servers.texts import TextServer, serve_texts
from tests.spec.documents import HEAD, write

BOOK = b"Call me Ishmael.\n"
FROM_ENVIRONMENT = "{}/book.txt?token=${{env.BOOKS}}"


@pytest.fixture
def texts() -> Iterator[TextServer]:
    """A server that accepts two tokens."""
    with serve_texts({f"/book.txt?token=canary{n}": BOOK for n in (1, 2)}) as server:
        yield server


def spec_of(folder: Path, *urls: str) -> Path:
    sources = "".join(f'      - {{url: "{url}", format: txt}}\n' for url in urls)
    text = f"{HEAD}stages:\n  books:\n    kind: fetch\n    sources:\n{sources}"
    return write(folder / "experiment.yaml", text)


def test_another_token_of_the_environment_reuses_the_run_and_its_pin(
    texts: TextServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = FROM_ENVIRONMENT.format(texts.url)
    spec_of(tmp_path, url)
    monkeypatch.setenv("BOOKS", "canary1")
    run_folder(tmp_path)
    monkeypatch.setenv("BOOKS", "canary2")
    assert plan_folder(tmp_path).stages["books"].action is Action.REUSE
    lockfile = read_lockfile(tmp_path / "continuum.lock")
    assert lockfile is not None
    assert list(lockfile.pins("books")) == [url]
    monkeypatch.delenv("BOOKS")
    assert not plan_folder(tmp_path).problems


def test_a_variable_that_is_not_set_is_known_before_anything_starts(
    texts: TextServer, tmp_path: Path, cli: Cli
) -> None:
    path = spec_of(tmp_path, FROM_ENVIRONMENT.format(texts.url))
    message = f"{path}:7:15: {{}} E403: environment variable BOOKS is not set"
    assert "BOOKS is not set" not in cli("validate", path).stderr
    assert message.format("warning") in cli("plan", path).stdout
    refused = cli("run", path, expect=4).stderr
    assert message.format("error") in refused
    assert "  export BOOKS=… before the run" in refused
    assert not list(tmp_path.glob("runs/books-*"))
    assert texts.requests == []


@pytest.mark.parametrize("value", ["canary with spaces", "canärý", "canary\nX: 1"])
def test_a_value_that_cannot_stand_in_a_url_is_not_repeated(
    value: str, texts: TextServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec_of(tmp_path, FROM_ENVIRONMENT.format(texts.url))
    monkeypatch.setenv("BOOKS", value)
    message = run_folder(tmp_path).outcomes["books"].message
    assert "the value of ${env.BOOKS} contains spaces or non-ASCII characters" in message
    assert value not in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("description: ${env.BOOKS}\n", "an environment variable may only stand in a URL"),
        ("seed: ${env.SEED}\n", "an environment variable may only stand in a URL"),
        ("vars: {b: x}\ndescription: ${b}-${env.X}\n", "may only stand in a URL"),
        ("vars: {b: '${env.X}'}\ndescription: ${b}\n", "may only stand in a URL"),
        ("vars: {b: '${env.1X}'}\ndescription: $${env.X}\n", "invalid name of an environment"),
    ],
)
def test_a_variable_elsewhere_is_an_error_with_its_line(
    line: str, message: str, cli: Cli, tmp_path: Path
) -> None:
    path = spec_of(tmp_path, "https://example.org/a.txt")
    path.write_text(line + path.read_text(encoding="utf-8"), encoding="utf-8")
    done = cli("validate", path, expect=3)
    assert "error E301: " in done.stderr
    assert message in done.stderr


def test_a_url_may_have_it_through_vars_and_an_override_and_is_rendered_with_it(
    cli: Cli, tmp_path: Path
) -> None:
    path = spec_of(tmp_path, "${base}/a.txt?token=${env.BOOKS}", "https://example.org/b.txt")
    given = "vars: {base: 'https://me:${env.READER}@example.org'}\n"
    path.write_text(given + path.read_text(encoding="utf-8"), encoding="utf-8")
    option = ("--set", "stages.books.sources.1.url=https://example.org/c.txt?key=${env.KEY}")
    rendered = cli("render", path, *option).stdout
    assert "url: https://me:${env.READER}@example.org/a.txt?token=${env.BOOKS}\n" in rendered
    assert "url: https://example.org/c.txt?key=${env.KEY}\n" in rendered
    path.write_text(rendered, encoding="utf-8")
    assert cli("validate", path).stdout.startswith("toy: valid")


def test_a_token_that_is_written_out_stays_identity_and_is_not_recorded(
    texts: TextServer, tmp_path: Path
) -> None:
    spec_of(tmp_path, f"{texts.url}/book.txt?token=canary1")
    run_folder(tmp_path)
    locked = (tmp_path / "continuum.lock").read_text(encoding="utf-8")
    assert f"{texts.url}/book.txt?token=<redacted>: " in locked
    assert "canary" not in only(tmp_path, "runs/books-*/stage.json").read_text(encoding="utf-8")
    spec_of(tmp_path, f"{texts.url}/book.txt?token=canary2")
    planned = plan_folder(tmp_path).stages["books"]
    assert planned.action is Action.RUN
    assert [str(reason) for reason in planned.reasons] == [
        "sources.0.url changed: a secret in it, which is not shown"
    ]
    texts.files["/book.txt?token=canary2"] = BOOK.upper()
    message = run_folder(tmp_path).outcomes["books"].message
    assert "SHA-256 mismatch" in message  # the pin is of the file, whatever its token is
    assert "canary" not in message


def test_a_lockfile_of_an_earlier_release_still_pins() -> None:
    pins = {"https://h/a.txt?token=canary": "a" * 64, "toys/tiny@main": "b" * 40}
    locked = LockedStage(fingerprint="0" * 64, pins=pins)
    assert locked.pins == {"https://h/a.txt?token=<redacted>": "a" * 64, "toys/tiny@main": "b" * 40}


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        (
            ("https://h/a.txt?token=canary1", "https://h/a.txt?token=canary2"),
            "two URLs that differ only in a credential look the same in records",
        ),
        (("https://h/a.txt?token=<redacted>",), "the credential of this URL was not recorded"),
        (("https://me:canary@h/a.txt",), "a URL with a password would be recorded; write the"),
        (("https://canary@h/a.txt",), "a URL with a password would be recorded; write the"),
    ],
)
def test_what_records_could_not_hold_is_refused(
    urls: tuple[str, ...], message: str, cli: Cli, tmp_path: Path
) -> None:
    done = cli("validate", spec_of(tmp_path, *urls), expect=3)
    assert message in done.stderr
    assert "canary" not in done.stderr


def test_a_saved_plan_does_not_take_a_secret(cli: Cli, tmp_path: Path) -> None:
    path, out = spec_of(tmp_path, "https://h/a.txt"), tmp_path / "plan.json"
    option = ("--set", "stages.books.sources.0.url=https://h/a.txt?token=canary")
    done = cli("plan", path, *option, "--out", out, expect=2)
    assert "?token=******: a saved plan would hold this secret; write it as ${env.NAME}" in (
        done.stderr
    )
    assert not out.exists()


def test_an_upgrade_of_the_lock_needs_the_variable(
    texts: TextServer, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spec_of(tmp_path, FROM_ENVIRONMENT.format(texts.url))
    monkeypatch.setenv("BOOKS", "canary1")
    run_folder(tmp_path)
    monkeypatch.delenv("BOOKS")
    assert (
        "environment variable BOOKS is not set" in cli("lock", path, "--upgrade", expect=4).stderr
    )
    monkeypatch.setenv("BOOKS", "canary2")
    assert "books: up to date" in cli("lock", path, "--upgrade").stdout
