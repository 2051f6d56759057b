"""How fast training goes, and how long it still takes."""

import time


class Clock:
    """Tokens a second and time left, from the time spent in training steps alone."""

    def __init__(
        self,
        *,
        step: int,
        num_steps: int,
        tokens_per_step: int,
        most_tokens_per_s: float | None = None,
    ) -> None:
        """Start the clock.

        Args:
            most_tokens_per_s: What the devices could do at their peak rate, if it is known.
        """
        self._num_steps = num_steps
        self._tokens_per_step = tokens_per_step
        self._most_tokens_per_s = most_tokens_per_s
        self._first_step = self._last_step = step
        self._started_at = self._last_at = time.perf_counter()
        self._paused_s = 0.0
        self._pause_began_at = 0.0

    def measure(self, step: int) -> dict[str, float]:
        """Speed since the last call, and seconds until the end at the average speed.

        With it the model FLOP/s utilization (MFU), where the devices' peak rate is known.
        """
        now = time.perf_counter() - self._paused_s
        tokens = (step - self._last_step) * self._tokens_per_step
        speed = tokens / max(now - self._last_at, 1e-9)
        average_s = (now - self._started_at) / max(1, step - self._first_step)
        self._last_step, self._last_at = step, now
        found = {
            "tokens_per_s": round(speed, 1),
            "eta_s": round(average_s * (self._num_steps - step), 1),
        }
        most = self._most_tokens_per_s
        return found if most is None else {**found, "mfu": round(speed / most, 4)}

    def paused(self) -> "Clock":
        """A context in which the clock stands still: evaluating and saving are not training."""
        return self

    def __enter__(self) -> None:
        self._pause_began_at = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._paused_s += time.perf_counter() - self._pause_began_at
