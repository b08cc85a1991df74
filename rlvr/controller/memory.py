"""What every process of a run held at most in a phase of a step."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlvr.cluster.memory import GIB, PeakMemory, peak_memory
from rlvr.cluster.roster import ROSTER
from rlvr.metrics import Metrics

if TYPE_CHECKING:
    from rlvr.controller.session import Session

PeaksByPhase = Mapping[str, Mapping[str, PeakMemory]]
"""phase -> process -> its peak."""


def peaks_of(session: Session) -> dict[str, PeakMemory]:
    """The peak of each process of the run since the last call; GPU memory of the learner's ranks."""
    found = {name: PeakMemory(peak / GIB) for name, peak in ROSTER.peaks().items()}
    if session.needs_learner and session.placement.device == "cuda":
        for member, gpu in zip(session.learner.members, session.learner.gpu_peaks(), strict=True):
            host = found[member.name].host_gb if member.name in found else 0.0
            found[member.name] = PeakMemory(host, gpu.gpu_gb, gpu.gpu_reserved_gb)
    return {"driver": peak_memory(os.getpid())} | found


def memory_metrics(peaks: PeaksByPhase) -> Metrics:
    """memory/<process>/<phase>_gb, and gpu_memory/... where there is any: of processes of one kind the largest."""
    metrics: Metrics = {}
    for phase, by_process in peaks.items():
        for process, peak in by_process.items():
            kind = re.sub(r"( rank)? \d+( \(.*\))?$", "", process).replace(" ", "_")
            for name, value in (("memory", peak.host_gb), ("gpu_memory", peak.gpu_reserved_gb)):
                key = f"{name}/{kind}/{phase}_gb"
                if value:
                    metrics[key] = (max(value, metrics.get(key, (0.0, 1.0))[0]), 1.0)
    return metrics


def by_process(peaks: PeaksByPhase) -> dict[str, dict[str, float]]:
    """process -> phase -> GiB of host memory, for the step's line in the log."""
    processes = {process for held in peaks.values() for process in held}
    return {
        process: {phase: round(held[process].host_gb, 3) for phase, held in peaks.items() if process in held}
        for process in sorted(processes)
    }
