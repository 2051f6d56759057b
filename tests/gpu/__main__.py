"""Play the parts, each in a process of its own, as far as the time goes; the next call goes on.

What has ended is in `results.json` of the state's folder; there, too, `results.txt` and `log.txt`.
Exit code 0: all parts have ended well; 1: one has failed; 75: the time is up, call again.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.gpu.parts import ORDER, Setting, load_parts

LEAST_S = 60.0
"""With less time left, no further part is begun."""
AGAIN = 75
DEVICE_VARIABLE = "CONTINUUM_GPU_DEVICE"


def main() -> int:
    """The command; its exit code."""
    chosen = _parse()
    if chosen.list:
        print(*ORDER, sep="\n")
        return 0
    unknown = set(chosen.parts) - set(ORDER)
    if unknown:
        print(f"no part {', '.join(sorted(unknown))}; --list prints them", file=sys.stderr)
        return 2
    if chosen.here is not None:
        return _play_here(chosen.parts[0], chosen.device, chosen.here)
    state = State(chosen.state)
    is_done = play_all(state, chosen.parts, chosen.device, chosen.limit_s)
    print(state.text(), end="")
    if not is_done:
        print("the time is up: the same command plays the parts that are left")
        return AGAIN
    return 1 if state.has_failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="these alone, and once more")
    parser.add_argument("--list", action="store_true", help="print the parts in their order")
    parser.add_argument("--state", type=Path, default=Path("gpu-results"), help="where results go")
    parser.add_argument("--limit-s", type=float, default=540.0, help="seconds this call may take")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default=os.environ.get(DEVICE_VARIABLE, "cuda")
    )
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)  # one part, in this process
    return parser.parse_args()


class State:
    """The results of the parts that have ended, as they are on disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "results.json"
        self._text_path = folder / "results.txt"
        self.log_path = folder / "log.txt"
        known = self._path.exists()
        self.results: dict[str, dict[str, Any]] = (
            json.loads(self._path.read_text(encoding="utf-8")) if known else {}
        )

    @property
    def has_failed(self) -> bool:
        """True if a part did."""
        return any(result["status"] != "passed" for result in self.results.values())

    def add(self, name: str, result: Mapping[str, Any]) -> None:
        """Keep the result of a part."""
        self.results[name] = dict(result)
        ordered = {name: self.results[name] for name in ORDER if name in self.results}
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self._path)
        self._text_path.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """A line for each part, with its figures."""
        lines = []
        for name in ORDER:
            if (result := self.results.get(name)) is not None:
                told = result.get("message") or json.dumps(result.get("figures", {}))
                lines.append(f"{name:26} {result['status']:8} {result['took_s']:6.0f} s  {told}\n")
        return "".join(lines)


def play_all(state: State, parts: list[str], device: str, limit_s: float) -> bool:
    """Play the parts, or those that have not ended; False when the time did not do.

    A part that was cut off is taken for failed when it had nearly the whole time for itself;
    otherwise the next call begins it anew.
    """
    ends_at = time.monotonic() + limit_s
    for name in parts or [name for name in ORDER if name not in state.results]:
        left = ends_at - time.monotonic()
        if left < min(LEAST_S, limit_s / 2):
            return False
        result = _play(name, device, left, state.log_path)
        if result["status"] == "timeout" and left < 0.9 * limit_s:
            return False
        state.add(name, result)
        print(f"{name}: {result['status']}, {result['took_s']:.0f} s", flush=True)
    return True


def _play(name: str, device: str, limit_s: float, log_path: Path) -> dict[str, Any]:
    """The result of a part that has a process, and a process group, of its own."""
    with tempfile.TemporaryDirectory(prefix="continuum-gpu-") as folder:
        told = Path(folder) / "result.json"
        command = [sys.executable, "-m", "tests.gpu", name]
        command += ["--device", device, "--here", str(told)]
        begun_at = time.monotonic()
        with log_path.open("a", encoding="utf-8") as log:
            log.write(f"\n=== {name}\n")
            log.flush()
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            status = ""
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                status = "timeout"
            finally:
                _kill_group(process)
        took_s = time.monotonic() - begun_at
        if not status and told.exists():
            return {**json.loads(told.read_text(encoding="utf-8")), "took_s": took_s}
    message = f"ended with exit code {process.returncode}; see log.txt"
    if status:
        message = f"cut off after {took_s:.0f} s; see log.txt"
    return {"status": status or "failed", "message": message, "took_s": took_s}


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _play_here(name: str, device: str, told: Path) -> int:
    """Play a part in this process, and write its result."""
    with tempfile.TemporaryDirectory(prefix=f"continuum-gpu-{name}-") as folder:
        result: dict[str, Any]
        try:
            figures = load_parts()[name](Setting(device, Path(folder)))
            result = {"status": "passed", "figures": figures}
        except Exception as error:  # one that fails must not take the others' results along
            traceback.print_exc()
            result = {"status": "failed", "message": f"{type(error).__name__}: {error}"[:2000]}
    told.write_text(json.dumps(result), encoding="utf-8")
    return 0 if result["status"] == "passed" else 1


if __name__ == "__main__":
    sys.exit(main())
