"""Waits until every node of a Ray cluster has joined: `python -m rlvr.launch.nodes ADDRESS NODES TIMEOUT_S PID`.

PID is the process that starts the nodes; once it is gone, nobody will come.
"""

from __future__ import annotations

import logging
import sys
import time

import psutil


def wait_for_nodes(address: str, wanted: int, timeout_s: float, starter: int) -> int:
    """How many nodes are alive when all have come, or when the time is up. Waits for the head too."""
    import ray

    deadline = time.monotonic() + timeout_s
    alive = 0
    while time.monotonic() < deadline and psutil.pid_exists(starter):
        if not ray.is_initialized():
            try:
                ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
            except (ConnectionError, RuntimeError, TimeoutError):
                time.sleep(1)
                continue
        alive = sum(node["Alive"] for node in ray.nodes())
        if alive >= wanted:
            break
        time.sleep(1)
    ray.shutdown()
    return alive


def main() -> int:
    address, wanted, timeout_s, starter = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    alive = wait_for_nodes(address, wanted, timeout_s, starter)
    if alive >= wanted:
        return 0
    print(
        f"rlvr: {alive} of {wanted} Ray nodes came to {address} within {timeout_s:.0f} s (or the start failed). If "
        "none did, Ray could not start on the first node; if some are missing, they cannot reach it: look at their "
        "lines above, at the firewall between the nodes, and at the interface that the address belongs to "
        "(RLVR_HEAD_IP sets another)",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
