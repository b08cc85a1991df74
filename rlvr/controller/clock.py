"""Where a step's seconds go, and what its phases hold of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rlvr.cluster.memory import PeakMemory
from rlvr.metrics import Metrics

Meter = Callable[[], Mapping[str, PeakMemory]]


class Clock:
    """Wall-clock seconds by phase since the last `take`, and what `meter` says after each phase."""

    def __init__(self, meter: Meter | None = None) -> None:
        """`meter` tells of each process the peak since it was last called."""
        self.peaks: dict[str, dict[str, PeakMemory]] = {}
        self._meter = meter
        self._seconds: dict[str, float] = {}
        self._started = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        if self._meter is not None and not self._seconds:
            self._meter()  # What came before the first phase is not its own.
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - started
        if self._meter is not None:
            held = self.peaks.setdefault(name, {})
            for process, peak in self._meter().items():
                if process not in held or peak.host_gb > held[process].host_gb:
                    held[process] = peak

    def take(self) -> Metrics:
        """phase/<name>_s of each phase, step_s of them all, and other_s that no phase covers; then starts anew."""
        now = time.monotonic()
        total = now - self._started
        metrics: Metrics = {f"phase/{name}_s": (seconds, 1.0) for name, seconds in self._seconds.items()}
        metrics["phase/other_s"] = (total - sum(self._seconds.values()), 1.0)
        metrics["step_s"] = (total, 1.0)
        self._seconds, self._started, self.peaks = {}, now, {}
        return metrics
