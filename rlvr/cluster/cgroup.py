"""The limits that a control group sets to this process, be it of a container, a batch system or a service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60  # version 1 writes "none" as a number near 2**63


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that this process, its relatives and their page cache may hold together; None for no limit."""
    limits = [value for value, _ in _limited(root)]
    return min(limits, default=None)


def memory_free(root: Path = ROOT) -> int | None:
    """Bytes left of the tightest limit; None for no limit. Page cache, which the kernel takes back, counts as used."""
    return min((limit - used for limit, used in _limited(root)), default=None)


def oom_kills(root: Path = ROOT) -> int:
    """How many processes the kernel killed for want of memory: in this control group, or else on the machine."""
    counts = [
        count
        for directory in _directories("memory", root)
        for name in ("memory.events", "memory.oom_control")
        if (count := _entry(directory / name, "oom_kill")) is not None
    ]
    return max(counts) if counts else _entry(Path("/proc/vmstat"), "oom_kill") or 0


def cpu_quota(root: Path = ROOT) -> float | None:
    """Cores' worth of time that this process and its relatives may take; None for no limit."""
    quotas = []
    for directory in _directories("cpu", root):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (directory / "cpu.max").read_text().split()
            quotas.append(int(quota) / int(period))
        quota_us, period_us = _number(directory / "cpu.cfs_quota_us"), _number(directory / "cpu.cfs_period_us")
        if quota_us and period_us and quota_us > 0:
            quotas.append(quota_us / period_us)
    return min(quotas, default=None)


def process_limit(root: Path = ROOT) -> int | None:
    """How many processes and threads it may have with its relatives; None for no limit."""
    limits = [_number(directory / "pids.max") for directory in _directories("pids", root)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limited(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of every level that limits memory."""
    for directory in _directories("memory", root):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _number(directory / limit_file)
            if limit is not None and limit < UNLIMITED:
                yield limit, _number(directory / used_file) or 0


def _directories(controller: str, root: Path) -> Iterator[Path]:
    """Where the controller's files for this process are, then those of the groups above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number != "0" and controller not in names.split(","):
            continue
        top = root if number == "0" else root / controller
        directory = top / path.strip("/")
        # In a container the path may be that of the host, of which nothing but the top is mounted.
        while directory != top:
            if directory.is_dir():
                yield directory
            directory = directory.parent
        yield top


def _number(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return None


def _entry(file: Path, key: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return None
