"""Run a command; the last line on stderr is `probe: wall cpu peak_bytes exit_code`."""

import resource
import subprocess
import sys
import time


def main() -> int:
    """Run `sys.argv[1:]` and report."""
    start = time.perf_counter()
    code = subprocess.run(sys.argv[1:], check=False).returncode
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    sys.stdout.flush()
    print(f"\nprobe: {wall:.6f} {cpu:.6f} {peak} {code}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
