"""Real processes under strace: which calls of the kernel they make, and what if one goes wrong."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
DESCRIPTOR = re.compile(r"\d+<([^>]*)>")
NAMES = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Call:
    """One call of the kernel that succeeded."""

    name: str
    paths: tuple[str, ...]
    """The file behind a descriptor, or the names that were given."""


def traced(
    out: Path, calls: Sequence[str], command: Sequence[object], *, inject: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments; its calls of these names are written to `out`.

    Args:
        inject: What strace does to some calls, as `flock:error=ENOLCK`.
    """
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    options = [f"--trace={','.join(calls)}", *(f"--inject={what}" for what in inject)]
    # To stop at the traced calls alone is faster; strace then sends no signals.
    options += [] if inject else ["--seccomp-bpf"]
    strace = ["strace", "-f", "-y", "-s", "4096", "-o", str(out), *options]
    done = subprocess.run(
        [*strace, sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("this user may not trace processes")
    return done


def read_calls(out: Path) -> list[Call]:
    """The calls that succeeded, in their order."""
    return list(_read(out.read_text(encoding="utf-8", errors="replace").splitlines()))


def _read(lines: Sequence[str]) -> Iterator[Call]:
    for line in _joined(lines):
        match = CALL.match(line)
        if match and int(match[3]) >= 0:
            names = NAMES.findall(match[2]) or DESCRIPTOR.findall(match[2])
            yield Call(match[1], tuple(names))


def _joined(lines: Sequence[str]) -> Iterator[str]:
    """The lines with calls in one piece that another process interrupted, at their end."""
    begun: dict[str, str] = {}
    for line in lines:
        process = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>")
        elif " resumed>" in line:
            yield begun.pop(process, "") + line.split(" resumed>", 1)[1]
        else:
            yield line
