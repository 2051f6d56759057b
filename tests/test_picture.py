"""The recorder of the README's pictures shows what a terminal shows."""

import shutil
from pathlib import Path

import pytest

from tests.picture import Screen, Terminal, draw


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("one\r\ntwo", "one\ntwo"),
        ("one\rtw", "twe"),
        ("a\b", "a"),
        ("12345678901", "1234567890\n1"),
        ("1234567890\r\n1", "1234567890\n1"),
        ("gone\r\x1b[2Kbar", "bar"),
        ("short\r\nlonger\r\x1b[K", "short\n"),
        ("bar\r\n\x1b[1A\x1b[2Kline\r\nbar", "line\nbar"),
        ("\x1b[?25l\x1b[1;32mgreen\x1b[0m\x1b[?25h", "green"),
    ],
)
def test_a_screen_follows_the_sequences_that_move_and_erase(written: str, shown: str) -> None:
    screen = Screen(10)
    screen.feed(written.encode())
    assert screen.text() == shown


def test_a_sequence_or_a_character_may_come_in_two_pieces() -> None:
    screen = Screen(10)
    written = "gone\r\x1b[2K━━━".encode()
    for byte in written:
        screen.feed(bytes([byte]))
    assert screen.text() == "━━━"


def test_a_drawing_has_the_text_and_its_colours() -> None:
    screen = Screen(20)
    screen.feed(b"$ plan\r\n\x1b[38;2;1;2;3mgreen\x1b[0m plain")
    picture = draw(screen, 20).replace("&#160;", " ")
    assert "$ plan" in picture
    assert ">green<" in picture
    assert "#010203" in picture


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_terminal_shows_commands_their_output_and_that_one_was_killed(tmp_path: Path) -> None:
    with Terminal(tmp_path, 40) as terminal:
        terminal.run("printf 'a\\nb\\n'; tput cols")
        terminal.type("echo started; sleep 60")
        terminal.wait(lambda: "\nstarted" in terminal.screen.text())
        terminal.kill()
        shown = terminal.screen.text().splitlines()
    assert shown[:4] == ["$ printf 'a\\nb\\n'; tput cols", "a", "b", "40"]
    assert shown[4:6] == ["$ echo started; sleep 60", "started"]
    assert shown[6].startswith("Killed")
