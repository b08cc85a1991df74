"""The supervisor and the drain on real processes: one signal reaches the run, once, and its exit code comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

# Stands where `rlvr` would: counts its signals, and ends half a second after the first with the code that rlvr has.
COUNTING = """\
import os, signal, sys, time
seen = []
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, lambda n, frame: seen.append(n))
print("up", flush=True)
deadline = time.monotonic() + 60
while not seen and time.monotonic() < deadline:
    time.sleep(0.01)
time.sleep(0.5)
print("seen", *seen, flush=True)
sys.exit(75 if seen == [signal.SIGUSR1] else 143 if seen == [signal.SIGTERM] else 9)
"""


def start(tmp_path: Path, *options: str, script: str = COUNTING) -> subprocess.Popen[str]:
    package = tmp_path / "rlvr" / "cli"
    package.mkdir(parents=True)
    (tmp_path / "rlvr" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text(script)
    source = Path(__file__).resolve().parents[2] / "rlvr" / "launch" / "supervise.py"
    started = subprocess.Popen(
        [sys.executable, str(source), *options, "train", "recipe.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout
    assert started.stdout.readline() == "up\n"
    return started


def test_a_signal_to_the_whole_group_arrives_once(tmp_path: Path) -> None:
    run = start(tmp_path)
    os.killpg(run.pid, signal.SIGTERM)
    time.sleep(0.1)
    os.kill(run.pid, signal.SIGUSR1)
    said, _ = run.communicate(timeout=30)
    assert said == f"seen {int(signal.SIGTERM)}\n"
    assert run.returncode == 143


def test_the_time_limit_asks_for_another_start(tmp_path: Path) -> None:
    run = start(tmp_path, "--time-limit-s", "0.5")
    said, errors = run.communicate(timeout=30)
    assert said == f"seen {int(signal.SIGUSR1)}\n"
    assert run.returncode == 75
    assert "SIGUSR1: the run saves and ends" in errors


def test_a_warning_while_the_run_starts_asks_for_another_start(tmp_path: Path) -> None:
    """Before the run has handlers, the signal ends it."""
    run = start(tmp_path, script="import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    run.send_signal(signal.SIGUSR1)
    assert run.wait(30) == 75


def test_the_run_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    """R22: a scheduler's SIGKILL leaves nothing behind."""
    run = start(tmp_path)
    (child,) = psutil.Process(run.pid).children()
    run.kill()
    run.wait(10)
    child.wait(10)


def test_draining_the_head_waits_for_the_save(tmp_path: Path) -> None:
    from rlvr.launch.drain import drain

    pid_file = tmp_path / "rlvr.pid"
    run = start(tmp_path, "--pid-file", str(pid_file))
    before = time.monotonic()
    assert drain(pid_file, "127.0.0.1:6379", timeout_s=20)
    assert time.monotonic() - before > 0.4
    assert run.wait(10) == 75
    assert drain(pid_file, "127.0.0.1:6379", timeout_s=20)  # nothing runs: at once


def test_draining_a_worker_waits_for_the_head(tmp_path: Path) -> None:
    import socket

    from rlvr.launch.drain import drain

    address = "127.0.0.2"  # another host's, as far as the drain can tell
    with socket.socket() as head:
        head.bind((address, 0))
        head.listen()
        port = head.getsockname()[1]
        assert not drain(tmp_path / "none", f"{address}:{port}", timeout_s=1.5)
    assert drain(tmp_path / "none", f"{address}:{port}", timeout_s=20)
