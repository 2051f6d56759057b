"""Speed, as ratios against a reference that runs beside it: `python -m tests.benchmarks`."""
