"""What the processes of one node look like from outside: memory over time, state, log, the kernel's verdicts."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rlvr.cluster import cgroup
from rlvr.cluster.memory import family_peaks

SAMPLE_EVERY_S = 1.0
KEPT_SAMPLES = 300  # five minutes; the peak covers the whole life
TAIL_LINES = 15
STATES = {psutil.STATUS_STOPPED: "T", psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "Z"}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a node: in all, free to be taken, and the control group's limit (None without one)."""

    total: int
    available: int
    limit: int | None = None


@dataclass(slots=True)
class ProcessReport:
    """One process. `rss` holds bytes of it and its descendants, a second apart, oldest first; `peak` of all time.

    `oom_kills` counts what the kernel killed on the node, for want of memory, since the process has been watched.
    """

    rss: list[int] = field(default_factory=list)
    peak: int = 0
    log: str = ""
    log_file: str = ""
    oom_kills: int = 0
    memory: Memory | None = None


@dataclass(slots=True)
class _Watched:
    samples: deque[int]
    oom_before: int
    peak: int = 0
    stopped: int = 0  # samples in a row that found it stopped


class NodeWatch:
    """Samples the processes it is told of, from a thread; an actor on other nodes. Never blocks on a process."""

    def __init__(self, log_directory: str | None = None) -> None:
        """`log_directory` is Ray's on this node; None finds that of the Ray this process belongs to."""
        self._log_directory = log_directory
        self._watched: dict[int, _Watched] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node-watch", daemon=True)
        self._thread.start()

    def track(self, pid: int) -> None:
        """Watches a process from now on."""
        with self._lock:
            if pid not in self._watched:
                self._watched[pid] = _Watched(deque(maxlen=KEPT_SAMPLES), cgroup.oom_kills())
        self._sample(pid)

    def forget(self, pid: int) -> None:
        """Stops watching it."""
        with self._lock:
            self._watched.pop(pid, None)

    def stopped_s(self) -> dict[int, float]:
        """For how long each stopped process (SIGSTOP, a terminal's suspension) has been found stopped."""
        with self._lock:
            return {pid: each.stopped * SAMPLE_EVERY_S for pid, each in self._watched.items() if each.stopped}

    def report(self, pid: int) -> ProcessReport:
        """All that is known of a process, dead or alive."""
        with self._lock:
            each = self._watched.get(pid)
            report = ProcessReport(list(each.samples), each.peak) if each else ProcessReport()
        if each:
            report.oom_kills = max(0, cgroup.oom_kills() - each.oom_before)
        report.memory = node_memory()
        report.log_file, report.log = self._log_of(pid)
        return report

    def peaks(self) -> dict[int, int]:
        """Bytes that each watched process and its descendants held at most since the last call."""
        return family_peaks(list(self._watched))

    def end(self, pid: int) -> bool:
        """Kills a watched process that Ray could not end; whether it was there."""
        with self._lock:
            if pid not in self._watched:
                return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self._thread.join(timeout=5 * SAMPLE_EVERY_S)

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            for pid in list(self._watched):
                self._sample(pid)

    def _sample(self, pid: int) -> None:
        state, rss = state_and_rss(pid)
        with self._lock:
            each = self._watched.get(pid)
            if each is None or state is None:
                return
            each.stopped = each.stopped + 1 if state == "T" else 0
            if rss:
                each.samples.append(rss)
                each.peak = max(each.peak, rss)

    def _log_of(self, pid: int) -> tuple[str, str]:
        directory = self._log_directory or ray_log_directory()
        if directory is None:
            return "", ""
        for file in Path(directory).glob(f"worker-*-{pid}.err"):
            # Ray's own bookkeeping lines start with a colon.
            written = file.read_text(errors="replace").splitlines()
            said = [line for line in written if line.strip() and not line.startswith(":")]
            return str(file), "\n".join(said[-TAIL_LINES:])
        return "", ""


def ray_log_directory() -> str | None:
    """Where the workers of this node write their logs; None outside Ray."""
    import ray

    # TODO(a public way to a worker's log file without Ray's dashboard): use it.
    node = getattr(ray._private.worker, "_global_node", None)
    return str(node.get_logs_dir_path()) if node is not None else None


def state_and_rss(pid: int) -> tuple[str | None, int]:
    """The kernel's letter for the state of a process (None once it is gone), and bytes of it and its descendants."""
    try:
        process = psutil.Process(pid)
        state = STATES.get(process.status(), "R")
        family = [process, *_descendants(process)]
    except psutil.Error:
        return None, 0
    rss = 0
    for member in family:
        with contextlib.suppress(psutil.Error):
            rss += member.memory_info().rss
    return state, rss


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    # Where the kernel lists children, there is no need to look at every process of the machine.
    if not Path(f"/proc/{process.pid}/task/{process.pid}/children").exists():
        return process.children(recursive=True)
    found: list[psutil.Process] = []
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found.append(psutil.Process(child))
                found += _descendants(found[-1])
    return found


def node_memory() -> Memory:
    """What the node has, and how much of it this control group may take."""
    memory = psutil.virtual_memory()
    free = cgroup.memory_free()
    available = memory.available if free is None else min(memory.available, max(0, free))
    return Memory(memory.total, available, cgroup.memory_limit())
