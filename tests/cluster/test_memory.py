"""What processes held at most, of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlvr.cluster.memory import GIB, family_peaks, peak_memory
from rlvr.cluster.watch import NodeWatch

MB = 1 << 20
# Takes and frees memory when told, so that the peak is over when it is read; `child` does it in a process of its own.
TAKER = """
import subprocess, sys
for line in sys.stdin:
    command, size = line.split()
    if command == "take":
        held = bytearray(int(size)); held[::4096] = b"x" * len(held[::4096]); del held
    if command == "child":
        child = subprocess.Popen([sys.executable, "-c", "import sys, time\\nheld = b'x' * int(sys.argv[1])\\n"
                                  "print('held', flush=True)\\ntime.sleep(60)", size], stdout=subprocess.PIPE)
        child.stdout.readline()
    print("done", flush=True)
"""


@pytest.fixture
def taker() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", TAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    os.killpg(process.pid, 9)
    process.wait()


def _tell(process: subprocess.Popen[str], command: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def test_a_peak_that_is_over_is_seen_once(taker: subprocess.Popen[str]) -> None:
    _tell(taker, "take 1")
    family_peaks([taker.pid])
    small = family_peaks([taker.pid])[taker.pid]
    _tell(taker, f"take {200 * MB}")
    assert 190 * MB < family_peaks([taker.pid])[taker.pid] - small < 220 * MB
    if _kernel_resets_peaks():
        assert abs(family_peaks([taker.pid])[taker.pid] - small) < 10 * MB


def test_descendants_count(taker: subprocess.Popen[str]) -> None:
    _tell(taker, "take 1")
    alone = family_peaks([taker.pid])[taker.pid]
    _tell(taker, f"child {100 * MB}")
    assert family_peaks([taker.pid])[taker.pid] - alone > 95 * MB


def test_who_has_ended_holds_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert family_peaks([process.pid]) == {process.pid: 0}


def test_the_own_peak_is_what_the_kernel_says() -> None:
    peak = peak_memory(os.getpid())
    status = Path("/proc/self/status").read_text()
    now = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert peak.host_gb * GIB > 0.9 * (now << 10)
    assert (peak.gpu_gb, peak.gpu_reserved_gb) == (0.0, 0.0)


def _kernel_resets_peaks() -> bool:
    return os.access(f"/proc/{os.getpid()}/clear_refs", os.W_OK)


def test_the_watch_of_a_node_asks_for_those_it_watches(taker: subprocess.Popen[str]) -> None:
    watch = NodeWatch()
    try:
        watch.track(taker.pid)
        watch.peaks()
        _tell(taker, f"take {100 * MB}")
        peaks = watch.peaks()
        assert set(peaks) == {taker.pid}
        assert 100 * MB < peaks[taker.pid] < 200 * MB
    finally:
        watch.close()
