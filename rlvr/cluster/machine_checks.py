"""The doctor's look at a machine: memory, limits, disks, caches, cores, clock. Needs neither torch nor Ray."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from rlvr.cluster import cgroup
from rlvr.cluster.finding import Finding, at_least, fault, ok, warning

GIB = 1 << 30
UNLIMITED = "unlimited"
STALE_LOCK_S = 1800.0  # a build of an extension takes minutes
NEARLY_FULL = 0.95  # where Ray stops placing objects on a disk
LOADED = 2.0  # runnable processes per core
SCAN_S = 2.0  # for the size of a cache
YEAR_2025 = 1735689600.0


def machine_findings(runs_dir: str = "runs") -> Iterator[Finding]:
    """Everything about this machine; `runs_dir` is where runs are to be written."""
    yield from memory_findings()
    yield from limit_findings()
    yield from disk_findings(runs_dir)
    yield from cache_findings()
    yield from core_findings()
    yield from clock_findings()


def memory_findings() -> Iterator[Finding]:
    """Free memory, the control group's limit, shared memory, and how the kernel gives memory out."""
    memory = psutil.virtual_memory()
    free, limit = cgroup.memory_free(), cgroup.memory_limit()
    available = memory.available if free is None else min(memory.available, max(0, free))
    remedy = "end other programs, or raise the limit of the container or job (docker --memory, Slurm --mem)"
    yield at_least("free memory", available / GIB, 4, 8, "GiB", remedy)
    if limit is not None:
        text = f"{limit / GIB:.1f} GiB of the machine's {memory.total / GIB:.1f} GiB"
        yield (
            at_least("memory limit", limit / GIB, 4, 8, "GiB", remedy) if limit < 8 * GIB else ok("memory limit", text)
        )
    if os.path.isdir("/dev/shm"):
        usage = shutil.disk_usage("/dev/shm")
        enlarge = "docker run --shm-size=8g; Kubernetes: an emptyDir with medium: Memory on /dev/shm"
        yield at_least("shared memory (/dev/shm)", usage.free / GIB, 1, 2, "GiB", enlarge)
    overcommit = _text("/proc/sys/vm/overcommit_memory")
    if overcommit == "2":
        yield warning(
            "memory overcommit",
            "vm.overcommit_memory=2: forks and CUDA's address space count as used memory",
            "sysctl vm.overcommit_memory=0",
        )


def limit_findings() -> Iterator[Finding]:
    """Open files and processes that this user may have."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    remedy = "ulimit -n 65536 (docker run --ulimit nofile=65536; LimitNOFILE= of a service)"
    yield _limited("open files (ulimit -n)", files, 4096, 8192, remedy)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    remedy = "ulimit -u 65536, or /etc/security/limits.conf: threads count too, and Ray starts hundreds"
    yield _limited("processes (ulimit -u)", processes, 1024, 4096, remedy)
    group = cgroup.process_limit()
    if group is not None:
        remedy = "raise it (docker run --pids-limit=-1; podPidsLimit of the kubelet; TasksMax= of a service)"
        yield _limited("processes of the control group", group, 1024, 4096, remedy)


def disk_findings(runs_dir: str) -> Iterator[Finding]:
    """Room and rights where runs, temporary files and Ray's sessions go; whether /tmp lets programs run."""
    temporary = tempfile.gettempdir()
    ray_directory = os.environ.get("RAY_TMPDIR", temporary)
    places = {
        "disk of runs": (runs_dir, 5.0, 20.0, "free some, or set runs_dir=... on a larger disk"),
        "disk of temporary files": (temporary, 2.0, 5.0, "free some, or set TMPDIR to a larger disk"),
        "disk of Ray's sessions": (ray_directory, 2.0, 5.0, "free some, or set RAY_TMPDIR (a short path)"),
    }
    for check, (place, needed, wanted, remedy) in places.items():
        directory = _existing(place)
        if not os.access(directory, os.W_OK | os.X_OK):
            yield fault(check, f"{directory} cannot be written by this user", "chown it, or choose another directory")
            continue
        usage = shutil.disk_usage(directory)
        finding = at_least(check, usage.free / GIB, needed, wanted, "GiB", remedy)
        if finding.level == "ok" and usage.used / max(1, usage.total) > NEARLY_FULL:
            finding = warning(check, f"{usage.used / usage.total:.0%} full: Ray then spills no objects", remedy)
        yield finding
    yield _executes(temporary)


def cache_findings() -> Iterator[Finding]:
    """Model, kernel and extension caches: writable, their sizes, and locks that a killed build has left."""
    home = Path.home() / ".cache"
    models = Path(os.environ.get("HF_HOME") or home / "huggingface")
    yield _cache("Hugging Face cache", models, "set HF_HOME to a directory that this user can write")
    extensions = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or home / "torch_extensions")
    locks = sorted(extensions.rglob("lock")) if extensions.is_dir() else []
    for lock in locks:
        age = time.time() - lock.stat().st_mtime
        if age > STALE_LOCK_S:
            yield fault(
                "torch extensions",
                f"{lock} is {age / 3600:.1f} h old: left by a build that was killed, DeepSpeed waits for it for ever",
                f"rm {lock}",
            )
        else:
            yield warning(
                "torch extensions",
                f"{lock} is {age:.0f} s old: a build runs, or one was killed",
                f"if nothing is being built: rm {lock}",
            )
    if not locks:
        yield _cache("torch extensions", extensions, "set TORCH_EXTENSIONS_DIR to a directory that can be written")
    triton = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    yield _cache("Triton cache", triton, "set TRITON_CACHE_DIR to a directory on a local disk")


def core_findings() -> Iterator[Finding]:
    """Cores that this process may use against those that libraries count, and how busy they are."""
    present, allowed = os.cpu_count() or 1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    allowed, quota = allowed or present, cgroup.cpu_quota()
    usable = min(float(allowed), quota or float(allowed))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if usable < present:
        yield warning(
            "cores",
            f"{usable:g} of {present} may be used (affinity or quota), and libraries count {present}",
            f"keep the sum of resources.*.threads at {max(1, int(usable))}; ask the batch system for more cores",
        )
    elif asked.isdigit() and int(asked) > present:
        yield warning("cores", f"OMP_NUM_THREADS={asked} on {present} cores", f"export OMP_NUM_THREADS={present}")
    else:
        yield ok("cores", f"{present}")
    load = os.getloadavg()[0]
    if load > LOADED * usable:
        yield warning(
            "load",
            f"{load:.0f} processes want to run on {usable:g} cores",
            "find them with `top`; deadlines (resources.*_timeout_s) may pass while they run",
        )


def clock_findings() -> Iterator[Finding]:
    """A wall clock that is set, and a monotonic one that goes at its pace."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.05)
    drift = abs((time.time() - wall) - (time.monotonic() - steady))
    remedy = "set it: timedatectl set-ntp true"
    if wall < YEAR_2025:
        yield fault("clock", f"says {time.strftime('%Y-%m-%d', time.gmtime(wall))}: certificates look invalid", remedy)
    elif drift > 0.01:
        yield warning("clock", f"jumped by {drift * 1000:.0f} ms in 50 ms", remedy)
    else:
        yield ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall)))


def _limited(check: str, limit: int, needed: int, wanted: int, remedy: str) -> Finding:
    if limit in (resource.RLIM_INFINITY, -1):
        return ok(check, UNLIMITED)
    return at_least(check, limit, needed, wanted, "", remedy)


def _existing(place: str) -> Path:
    """The directory, or the one above it that exists."""
    directory = Path(place).absolute()
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory


def _executes(directory: str) -> Finding:
    check = "programs in temporary files"
    with tempfile.TemporaryDirectory(dir=directory, prefix="rlvr-doctor-") as scratch:
        program = Path(scratch) / "program"
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        try:
            subprocess.run([str(program)], check=True, timeout=10)
        except (OSError, subprocess.SubprocessError) as error:
            return fault(
                check,
                f"{directory} does not let programs run ({error}): compiled extensions fail to load",
                "mount it without noexec, or set TMPDIR to a directory elsewhere",
            )
    return ok(check, f"run from {directory}")


def _cache(check: str, directory: Path, remedy: str) -> Finding:
    at = _existing(str(directory))
    if not at.is_dir() or not os.access(at, os.W_OK | os.X_OK):
        kind = "is no directory" if not at.is_dir() else "cannot be written by this user"
        return fault(check, f"{at} {kind}", remedy)
    if not directory.is_dir():
        return ok(check, f"{directory} (empty)")
    size, whole = _size(directory)
    return ok(check, f"{directory} ({'' if whole else 'over '}{size / GIB:.1f} GiB)")


def _size(directory: Path) -> tuple[int, bool]:
    """Bytes on disk, and whether all was counted in `SCAN_S`."""
    total, deadline = 0, time.monotonic() + SCAN_S
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
        if time.monotonic() > deadline:
            return total, False
    return total, True


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
