"""The rendered batch script on a real Slurm: two nodes of this machine, a small run of the quickstart."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rlvr.controller.checkpoint import latest_valid
from rlvr.launch.launch import launch
from rlvr.observe.run_log import read_metrics
from tests.end_to_end.conftest import QUICKSTART, SMALL
from tests.launch.slurm_cluster import SlurmCluster, missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(missing()), reason=f"no {missing()}: apt-get install munge slurmctld slurmd slurm-client"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd starts jobs as root only"),
]
# Long enough that a signal comes in time, short enough to be seen through.
RL_STEPS = 6
OVERRIDES = [
    *SMALL,
    f"stages.rl.steps={RL_STEPS}",
    "launch.cpus_per_node=2",
    "launch.memory_gb_per_node=4",
    "launch.grace_s=60",
    "resources.start_timeout_s=600",
    "launch.secrets=[RLVR_TEST_KEY]",
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    # Sockets have short names.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as directory:
        cluster = SlurmCluster(Path(directory))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def submit(slurm: SlurmCluster, runs: Path, name: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> str:
    """`rlvr launch --to slurm`; the job's number."""
    said: list[str] = []
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("RLVR_TEST_KEY", "s3cret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    overrides = [*OVERRIDES, f"runs_dir={runs}", f"name={name}", *more]
    assert launch(QUICKSTART, overrides, "slurm", dry_run=False, say=said.append) == 0
    found = re.match(r"Slurm job (\d+)", said[0])
    assert found, said
    return found[1]


def output(runs: Path, name: str, job: str) -> str:
    file = runs / f"{name}.slurm-{job}.log"
    return file.read_text() if file.exists() else ""


def rl_rows(run: Path) -> dict[int, dict]:
    if not (run / "metrics.jsonl").exists():
        return {}
    return {
        row["step"]: row["metrics"] for row in read_metrics(run) if row["stage"] == "rl" and "step_s" in row["metrics"]
    }


def until_step(run: Path, number: int, slurm: SlurmCluster, job: str) -> None:
    deadline = time.monotonic() + 900
    while len(rl_rows(run)) < number:
        assert time.monotonic() < deadline
        assert slurm.state(job) in ("PENDING", "CONFIGURING", "RUNNING"), output(run.parent, run.name, job)
        time.sleep(0.3)


def processes_of(job: str) -> list[str]:
    """Command lines of this job's Ray that are still there."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"/tmp/rlvr-{job}/" in line:
            found.append(line[:120])
    return found


@pytest.fixture(scope="module")
def whole(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbs, from its submission to its end."""
    runs = tmp_path_factory.mktemp("slurm-runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        job = submit(slurm, runs, "whole", monkeypatch, "launch.nodes=2")
        slurm.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", timeout_s=1200)
    assert slurm.state(job) == "COMPLETED", output(runs, "whole", job)
    assert processes_of(job) == []
    return runs / "whole"


def test_the_batch_script_runs_the_quickstart_to_its_end(whole: Path) -> None:
    """Over two nodes; nothing of it is left (R22)."""
    assert (whole / "export" / "config.json").is_file()
    assert len(rl_rows(whole)) == RL_STEPS
    said = next(whole.parent.glob("whole.slurm-*.log")).read_text()
    assert "over node[1-2]" in said
    assert "0: " in said
    assert "1: " in said
    assert "ends with 0" in said


def test_a_requeued_run_goes_on_where_it_was(
    slurm: SlurmCluster, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R12: SIGUSR1, as Slurm sends before the time limit: it saves, requeues itself, and is then the whole run."""
    job = submit(slurm, tmp_path, "requeued", monkeypatch)
    until_step(tmp_path / "requeued", 2, slurm, job)
    assert slurm.call("scancel", "--batch", "--signal=USR1", job).returncode == 0
    deadline = time.monotonic() + 300
    while slurm.fact(job, "Restarts") in ("", "0"):
        assert time.monotonic() < deadline, output(tmp_path, "requeued", job)
        time.sleep(0.5)
    saved = latest_valid(tmp_path / "requeued" / "checkpoints")
    assert saved is not None
    assert saved[1].stage_step >= 2
    slurm.wait(job, "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", timeout_s=1200)
    said = output(tmp_path, "requeued", job)
    assert slurm.state(job) == "COMPLETED", said
    assert "goes back into the queue" in said
    assert "start 2," in said
    ours, theirs = rl_rows(tmp_path / "requeued"), rl_rows(whole)
    assert ours.keys() == theirs.keys()
    for step, before in theirs.items():
        for name in ("reward", "loss", "grad_norm", "completion_tokens"):
            assert ours[step][name] == pytest.approx(before[name], rel=1e-4, abs=1e-6), (step, name)


def test_a_cancelled_run_has_saved(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R22: a plain scancel signals everything in the job at once; the run saves all the same, and nothing is left."""
    job = submit(slurm, tmp_path, "cancelled", monkeypatch, "checkpoint.every=0")
    until_step(tmp_path / "cancelled", 2, slurm, job)
    assert slurm.call("scancel", job).returncode == 0
    slurm.wait(job, "CANCELLED", timeout_s=60)
    deadline = time.monotonic() + slurm.kill_wait_s + 60
    while processes_of(job):
        assert time.monotonic() < deadline, processes_of(job)
        time.sleep(1)
    said = output(tmp_path, "cancelled", job)
    saved = latest_valid(tmp_path / "cancelled" / "checkpoints")
    assert saved is not None, said
    assert saved[1].stage_step >= 2, said
    assert "SIGTERM: the run saves and ends" in said
