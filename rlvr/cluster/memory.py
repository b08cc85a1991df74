"""What a process held at most since it was last asked: host memory by the kernel's count, GPU memory by torch's."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
RESET_PEAK = "5"  # what /proc/<pid>/clear_refs takes to forget the peak: proc(5)
PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """GiB since the last call. `gpu_gb` is what tensors took, `gpu_reserved_gb` what torch kept for them; 0 on CPU."""

    host_gb: float
    gpu_gb: float = 0.0
    gpu_reserved_gb: float = 0.0


def peak_memory(pid: int | None) -> PeakMemory:
    """Peak since the last call, which is forgotten: of host memory of `pid`, and of this process's own GPU memory.

    Host memory is the resident set, pages shared with others included.
    """
    host = _peak_bytes(pid) if pid is not None else 0
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return PeakMemory(host / GIB)
    gpu, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    return PeakMemory(host / GIB, gpu / GIB, reserved / GIB)


def family_peaks(pids: Iterable[int]) -> dict[int, int]:
    """Peak bytes of each process and its descendants since the last call, which is forgotten; processes of this node.

    The peaks of a family are added, though they need not have come at the same time.
    """
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in PROCESSES.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                # The name of a process stands in brackets and may hold anything; its parent comes second after it.
                children[int((entry / "stat").read_text().rpartition(")")[2].split()[1])].append(int(entry.name))

    def family(pid: int) -> Iterable[int]:
        yield pid
        for child in children[pid]:
            yield from family(child)

    return {pid: sum(map(_peak_bytes, family(pid))) for pid in pids}


def _peak_bytes(pid: int) -> int:
    """0 for a process that has ended. Where the kernel does not reset peaks, the highest since its start."""
    try:
        status = (PROCESSES / str(pid) / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    with suppress(OSError):
        (PROCESSES / str(pid) / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
