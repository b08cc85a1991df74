"""Where a step's seconds go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rlvr.metrics import Metrics


class Clock:
    """Wall-clock seconds by phase since the last `take`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._started = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - started

    def take(self) -> Metrics:
        """phase/<name>_s of each phase, step_s of them all, and other_s that no phase covers; then starts anew."""
        now = time.monotonic()
        total = now - self._started
        metrics: Metrics = {f"phase/{name}_s": (seconds, 1.0) for name, seconds in self._seconds.items()}
        metrics["phase/other_s"] = (total - sum(self._seconds.values()), 1.0)
        metrics["step_s"] = (total, 1.0)
        self._seconds, self._started = {}, now
        return metrics
