"""`rlvr launch --to ray` against a real job server on two raylets of this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlvr.controller.checkpoint import latest_valid
from rlvr.observe.run_log import read_metrics
from tests.cluster.two_nodes import APART, two_node_cluster
from tests.end_to_end.conftest import QUICKSTART, ROOT, SMALL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("aiohttp_cors", "opencensus", "smart_open")),
        reason="the job server needs ray[default]: pip install -r requirements/cluster.lock",
    ),
]


@dataclass(frozen=True)
class JobServer:
    """Its address, and the environment of those who ask it."""

    address: str
    environment: dict[str, str]

    def launch(self, runs: Path, name: str, *overrides: str) -> subprocess.Popen[str]:
        written = [*SMALL, *APART, f"runs_dir={runs}", f"name={name}", f"launch.ray.address={self.address}", *overrides]
        return subprocess.Popen(
            [sys.executable, "-m", "rlvr.cli.main", "launch", str(QUICKSTART), "--to", "ray", *written],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=self.environment,
            # A shell in the background would have it, and what it starts, ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        # The job's `python` is the cluster's.
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        with two_node_cluster(dashboard=True) as cluster:
            import ray

            address = ray.init(cluster.ray_address, log_to_driver=False).dashboard_url
            ray.shutdown()
            yield JobServer(f"http://{address}", dict(os.environ))


def test_a_job_runs_the_quickstart_over_two_nodes(server: JobServer, tmp_path: Path) -> None:
    """From a copy of the working directory; the log is streamed, the exit code is the run's."""
    job = server.launch(tmp_path, "job")
    said, _ = job.communicate(timeout=1500)
    assert job.returncode == 0, said
    assert "Everything is in" in said
    assert (tmp_path / "job" / "export" / "config.json").is_file()


def test_a_job_that_fails_ends_with_its_code(server: JobServer, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "something").write_text("not a run")
    job = server.launch(tmp_path, "mine")
    said, _ = job.communicate(timeout=600)
    assert job.returncode == 2, said
    assert "is not a run directory" in said


def test_ctrl_c_stops_the_job_which_saves(server: JobServer, tmp_path: Path) -> None:
    """R22: the driver is on the cluster; Ctrl-C here is SIGTERM there."""
    job = server.launch(tmp_path, "stopped", "stages.rl.steps=200", "checkpoint.every=0")
    deadline = time.monotonic() + 1200
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    while not metrics.exists() or sum(row["stage"] == "rl" for row in read_metrics(metrics.parent)) < 3:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.5)
    job.send_signal(signal.SIGINT)
    said, _ = job.communicate(timeout=600)
    assert job.returncode == 130, said
    assert "was stopped; launch it again" in said
    saved = latest_valid(tmp_path / "stopped" / "checkpoints")
    assert saved is not None, said
    assert saved[1].stage_step >= 1, said
