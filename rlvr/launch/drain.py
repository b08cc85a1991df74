"""Lets a run save before its pod ends, as Kubernetes' preStop hook: `python -m rlvr.launch.drain --timeout-s N`.

On the head: tells the run to save and to exit with 75, and waits until it has. On a worker, whose Ray processes the
run still needs for that: waits until the head is gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil

PID_FILE = Path("/tmp/rlvr.pid")


def drain(pid_file: Path, ray_address: str, timeout_s: float) -> bool:
    """Whether the run (on the head) or the head itself (elsewhere) ended in time."""
    deadline = time.monotonic() + timeout_s
    host, _, port = ray_address.rpartition(":")
    if pid_file.is_file():
        pid = int(pid_file.read_text())
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGUSR1)
        while psutil.pid_exists(pid) and pid_file.is_file():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True
    if host in ("", "127.0.0.1", "localhost"):
        return True  # the head, without a run
    while _answers(host, int(port)):
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout-s", type=float, required=True)
    parser.add_argument("--pid-file", type=Path, default=PID_FILE)
    # KubeRay sets it: 127.0.0.1 on the head, the head's service elsewhere.
    parser.add_argument("--ray-address", default=os.environ.get("RAY_ADDRESS", ""))
    options = parser.parse_args()
    return 0 if drain(options.pid_file, options.ray_address, options.timeout_s) else 1


if __name__ == "__main__":
    sys.exit(main())
