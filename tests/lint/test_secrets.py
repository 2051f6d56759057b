"""No output of a command repeats a secret of the spec, whatever is wrong on its line."""

from pathlib import Path

import pytest

from continuum.runs.redaction import masked, redacted, without_credentials
from tests.commands import Cli
from tests.spec.documents import BOOKS, HEAD, write

SECRET = "canary1234"
URL = f"https://example.org/book.txt?token={SECRET}"
ON_THE_LINE = {
    "W003": f'  books: {{kind: fetch, sources: [{{url: "{URL}"}}]}}\n',
    "E101": f'  books: {{kind: fetch, sources: [{{url: "{URL}", frmat: txt}}]}}\n',
    "E104": f'  books: {{kind: fetch, sources: [{{url: "{URL}", format: "{URL}"}}]}}\n',
    "E401": f'  books: {{kind: fetch, sources: [{{url: "https://me:{SECRET}@example.org/b.txt"}}]}}\n',
    "E103": f"  books: {{kind: fetch, sources: 7, password: {SECRET}}}\n",
}
FORMATS = {"human": (), "json": ("--format", "json"), "github": ("--format", "github")}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("code", ON_THE_LINE)
def test_a_line_with_a_secret_is_shown_without_it(
    code: str, form: str, cli: Cli, tmp_path: Path
) -> None:
    path = write(tmp_path / "spec.yaml", f"{HEAD}stages:\n{ON_THE_LINE[code]}")
    done = cli("validate", path, *FORMATS[form], expect=None)
    printed = done.stdout + done.stderr
    assert code in printed
    assert SECRET not in printed
    if form == "human":
        assert "  4 | " in printed


@pytest.mark.parametrize("base", [".netrc", "environ", "linked.yaml", "linked.yaml.orig/x.yaml"])
def test_a_base_that_is_no_yaml_file_is_not_shown(base: str, cli: Cli, tmp_path: Path) -> None:
    for name in (".netrc", "environ"):
        (tmp_path / name).write_text(f"PLAIN={SECRET}\0LAST={SECRET}\n")
    (tmp_path / "linked.yaml").symlink_to("environ")
    (tmp_path / "linked.yaml.orig").mkdir()
    (tmp_path / "linked.yaml.orig" / "x.yaml").symlink_to("../.netrc")
    path = write(tmp_path / "spec.yaml", f"{HEAD}extends: {base}\nstages: {{}}\n")
    for arguments in (("validate",), ("plan",), ("validate", "--format", "github")):
        done = cli(*arguments, path, expect=3)
        assert f"{base}:1:" in done.stderr or f"{base},line=1," in done.stdout
        assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["plan", "run", "diff"])
def test_other_commands_show_it_without_the_secret(command: str, cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", f"{HEAD}stages:\n{ON_THE_LINE['E101']}")
    done = cli(command, path, *([path] if command == "diff" else []), expect=3)
    assert "E101" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_a_secret_in_an_override_is_not_repeated(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "spec.yaml", f"{HEAD}stages:\n{ON_THE_LINE['W003']}")
    options = ("--set", f"stages.books.sources.0.format={URL}", "--set", f"vars.password={SECRET}")
    done = cli("validate", path, *options, expect=3)
    assert "--set stages.books.sources.0.format=https://example.org/book.txt?token=****" in (
        done.stderr
    )
    assert SECRET not in done.stdout + done.stderr


def test_a_value_is_redacted_before_it_is_shortened(cli: Cli, tmp_path: Path) -> None:
    url = f"https://reader:{SECRET * 9}@example.org/b.txt"
    path = write(tmp_path / "spec.yaml", f'{HEAD}seed: "{url}"\nstages: {{}}\n')
    done = cli("validate", path, expect=3)
    assert "seed must be an integer, not 'https://<redacted>@example.org/b.txt'" in done.stderr
    assert SECRET not in done.stderr


def test_a_secret_in_a_text_for_readers_is_neither_compared_nor_rendered_aloud(
    cli: Cli, tmp_path: Path
) -> None:
    tokens = ("hf_" + "AbCdEfGhIj" * 3, "hf_" + "KlMnOpQrSt" * 3)
    one, two = (
        write(tmp_path / f"{n}.yaml", f"{HEAD}description: by {token}\n{BOOKS}")
        for n, token in enumerate(tokens)
    )
    for words in (("diff", one, two), ("diff", one, two, "--json"), ("render", one)):
        done = cli(*words)
        assert "<a Hugging Face token>" in done.stdout or "a secret in it" in done.stdout
        assert not any(token in done.stdout + done.stderr for token in tokens)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a: https://h/x?sig=abc%2Bd, b: 1", "a: https://h/x?sig=*******, b: 1"),
        ("  password: 'a b'  # c", "  password: *****  # c"),
        ("  db-token: x", "  db-token: *"),
        ("https://h/x?token=${env.TOKEN}", "https://h/x?token=${env.TOKEN}"),
        ("https://me:${env.PASSWORD}@h/x", "https://me:${env.PASSWORD}@h/x"),
        ("password: ${password}", "password: ${password}"),
        ("eos_token: <|endoftext|>", "eos_token: <|endoftext|>"),
        ("max_tokens: 300k, key: moby-dick-1851.txt", "max_tokens: 300k, key: moby-dick-1851.txt"),
    ],
)
def test_columns_stay_the_same(line: str, shown: str) -> None:
    assert masked(line) == shown


def test_a_secret_of_the_environment_is_known_by_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_TOKEN", "plain-words")
    assert redacted("refused: plain-words") == ("refused: <the value of MIRROR_TOKEN>", 1)


@pytest.mark.parametrize(
    ("url", "recorded"),
    [
        ("https://h/x?a=1&token=abc&b=2", "https://h/x?a=1&token=<redacted>&b=2"),
        ("https://h/x?expires=1&a=2", "https://h/x?expires=1&a=2"),
        (
            "https://h/x?Expires=1&Signature=s/3&AWSAccessKeyId=k",
            "https://h/x?Expires=<redacted>&Signature=<redacted>&AWSAccessKeyId=<redacted>",
        ),
        (
            "https://h/x?X-Amz-Date=1&X-Amz-Signature=ab&X-Amz-Credential=c",
            "https://h/x?X-Amz-Date=<redacted>&X-Amz-Signature=<redacted>"
            "&X-Amz-Credential=<redacted>",
        ),
        ("https://h/x?sv=1&se=2&sig=abc", "https://h/x?sv=<redacted>&se=<redacted>&sig=<redacted>"),
        ("https://h/x?key=moby-dick-1851.txt", "https://h/x?key=moby-dick-1851.txt"),
        ("https://h/x?key=0123456789abcdef", "https://h/x?key=<redacted>"),
        ("https://me:pw@h/x", "https://<redacted>@h/x"),
        ("https://h/x?token=${env.TOKEN}", "https://h/x?token=${env.TOKEN}"),
    ],
)
def test_a_signed_url_is_recorded_alike_whenever_it_is_signed(url: str, recorded: str) -> None:
    assert without_credentials(url) == recorded
    assert without_credentials(recorded) == recorded
