"""Every check of the doctor finds its fault where the fault is made real, and says what to do."""

import json
import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rlvr.cli.doctor import show
from rlvr.cluster import cgroup
from rlvr.cluster.doctor import skew_finding
from rlvr.cluster.finding import Finding, fault, ok, warning
from rlvr.cluster.machine_checks import cache_findings, clock_findings
from rlvr.cluster.stack_checks import Gpus, gpu_findings, nvidia_smi, torch_pin_findings, version_findings

ASK = """
import json, sys
from dataclasses import asdict
from rlvr.cluster import machine_checks
print(json.dumps([asdict(f) for f in getattr(machine_checks, sys.argv[1])(*sys.argv[2:])]))
"""


def asked(check: str, *arguments: str, before: str = "", **variables: str) -> dict[str, Finding]:
    """The findings of a check in a process of its own, started by a shell that runs `before` first."""
    command = ["bash", "-c", f'{before} exec "$@"', "bash", sys.executable, "-c", ASK, check, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return {row["check"]: Finding(**row) for row in json.loads(done.stdout)}


def mounts() -> bool:
    """Whether this user may mount in a namespace of its own."""
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return done.returncode == 0


def test_limits_of_the_user() -> None:
    found = asked("limit_findings", before="ulimit -Sn 256; ulimit -Su 2000;")
    files, processes = found["open files (ulimit -n)"], found["processes (ulimit -u)"]
    assert files.level == "fault"
    assert "256" in files.found
    assert "ulimit -n 65536" in files.remedy
    assert processes.level == "warning"
    found = asked("limit_findings", before="ulimit -Sn 8192;")
    assert found["open files (ulimit -n)"].level == "ok"


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a file system")
def test_a_small_disk_and_a_temporary_directory_without_programs(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=1m,noexec tmpfs {tmp_path} &&"
    script = f'{mount} exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", ASK, "disk_findings"]
    done = subprocess.run(
        [*command, str(tmp_path / "runs")], capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    found = {row["check"]: row for row in json.loads(done.stdout)}
    for check in ("disk of runs", "disk of temporary files", "disk of Ray's sessions", "programs in temporary files"):
        assert found[check]["level"] == "fault", check
        assert found[check]["remedy"], check
    assert "noexec" in found["programs in temporary files"]["remedy"]


def test_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where a directory should be; the lock of a build that was killed, and that of one that may run."""
    (tmp_path / "file").write_text("")
    for name in ("old", "new"):
        (tmp_path / "extensions" / name).mkdir(parents=True)
        (tmp_path / "extensions" / name / "lock").touch()
    stale = tmp_path / "extensions" / "old" / "lock"
    os.utime(stale, (time.time() - 7200,) * 2)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "hub"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    findings = list(cache_findings())
    models, fresh, old, triton = findings
    assert (models.level, "is no directory" in models.found, "HF_HOME" in models.remedy) == ("fault", True, True)
    assert (fresh.level, old.level) == ("warning", "fault")
    assert old.remedy == f"rm {stale}"
    assert triton.level == "ok"
    stale.unlink()
    (tmp_path / "extensions" / "new" / "lock").unlink()
    assert [finding.level for finding in cache_findings()][1:] == ["ok", "ok"]


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_a_control_group(tmp_path: Path, version: int) -> None:
    """The files of both versions of the kernel's interface; a level without a limit does not count."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    controllers = {name for line in lines for name in line.split(":")[1].split(",")}
    if version == 1:
        if not {"memory", "cpu", "pids"} <= controllers:
            pytest.skip("this machine has no control groups of version 1")
        files = {
            "memory/memory.limit_in_bytes": str(3 << 30),
            "memory/memory.usage_in_bytes": str(1 << 30),
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4",
            "cpu/cpu.cfs_quota_us": "150000",
            "cpu/cpu.cfs_period_us": "100000",
            "pids/pids.max": "77",
        }
    else:
        if not any(line.startswith("0::") for line in lines):
            pytest.skip("this machine has no control groups of version 2")
        files = {
            "memory.max": str(3 << 30),
            "memory.current": str(1 << 30),
            "memory.events": "low 0\nhigh 0\nmax 9\noom 4\noom_kill 4",
            "cpu.max": "150000 100000",
            "pids.max": "77",
        }
    assert cgroup.memory_limit(tmp_path) is None
    assert cgroup.cpu_quota(tmp_path) is None
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cgroup.memory_limit(tmp_path) == 3 << 30
    assert cgroup.memory_free(tmp_path) == 2 << 30
    assert cgroup.oom_kills(tmp_path) == 4
    assert cgroup.cpu_quota(tmp_path) == 1.5
    assert cgroup.process_limit(tmp_path) == 77


def test_clocks() -> None:
    assert [finding.level for finding in clock_findings()] == ["ok"]
    assert skew_finding(0.5, 0.1).level == "ok"
    assert skew_finding(-3.0, 0.1).level == "warning"
    assert skew_finding(3.0, 4.0).level == "ok", "within what the round trip leaves open"
    assert skew_finding(-90.0, 0.1).level == "fault"


BOX = Gpus("ok", (13, 0), 8, (13, 0), 8, nodes=8)


@pytest.mark.parametrize(
    ("gpus", "level", "said"),
    [
        (BOX, "ok", "8 GPUs"),
        (Gpus("absent", None, 0, None, 0), "ok", "runs on CPU"),
        (Gpus("absent", None, 0, (13, 0), 0), "warning", "CUDA build"),
        (Gpus("ok", (13, 0), 2, None, 0), "fault", "CPU build"),
        (Gpus("ok", (12, 4), 2, (13, 0), 0, "too old", 2), "fault", "serves CUDA 12.4, torch was built for 13.0"),
        (Gpus("ok", (13, 0), 2, (13, 0), 1, nodes=2), "fault", "torch sees 1 of 2"),
        (Gpus("exit code 9: NVML mismatch", None, 0, (13, 0), 0, nodes=2), "fault", "NVML mismatch"),
        (Gpus("absent", None, 0, (13, 0), 2, nodes=2), "warning", "no nvidia-smi"),
    ],
)
def test_driver_torch_and_gpus_against_each_other(gpus: Gpus, level: str, said: str) -> None:
    findings = list(gpu_findings(gpus))
    assert findings[0].level == level
    assert said in findings[0].found


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi's own output is read: its header, its list, and its failure."""
    program = tmp_path / "nvidia-smi"
    header = "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4 |"
    listed = "GPU 0: NVIDIA H100 (UUID: GPU-1)\\nGPU 1: NVIDIA H100 (UUID: GPU-2)"
    program.write_text(f"#!/bin/sh\nif [ -n \"$1\" ]; then printf '{listed}\\n'; else echo '{header}'; fi\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_smi() == ("ok", (12, 4), 2)
    program.write_text("#!/bin/sh\necho Failed to initialize NVML: Driver/library version mismatch\nexit 18\n")
    assert "exit code 18: Failed to initialize NVML" in nvidia_smi()[0]


def test_versions_of_this_installation() -> None:
    """The packages that the tests run with are those that this version says it was tested with."""
    assert {finding.level for finding in version_findings()} == {"ok"}
    assert not list(torch_pin_findings())


def test_the_report_fits_a_hundred_columns() -> None:
    long = " ".join(f"word{number}" for number in range(60))
    findings = [ok("torch", "2.13.0"), warning("cores", long, long), fault("open files (ulimit -n)", "256", long)]
    out = StringIO()
    show(findings, Console(file=out, width=100))
    printed = out.getvalue()
    assert max(map(len, printed.splitlines())) <= 100
    assert " ".join(printed.split()).count(long) == 3
    assert "1 fault, 1 warning" in printed
