"""A Ray cluster of two nodes on this machine: two raylets, with labels that confine ranks and engines to one each."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rlvr.cluster.environment import free_port

LEARN, DECODE = {"role": "learn"}, {"role": "decode"}

# Ray's defaults are the same for every node, and may be another cluster's.
DASHBOARD = ("dashboard_port", "dashboard_agent_listen_port", "metrics_export_port", "runtime_env_agent_port")

# What a recipe adds to run its ranks on the head and its engines on the other node.
APART = ("resources.learners.node_labels={role: learn}", "resources.engines.node_labels={role: decode}")


@dataclass(frozen=True)
class TwoNodes:
    """The head (label role=learn) and a second node (role=decode). `ray_address` is what a recipe joins."""

    ray_address: str
    head_id: str
    second_id: str
    second: Any

    def kill_second(self) -> None:
        """Kills the second node's raylet outright; its workers notice."""
        for started in self.second.all_processes["raylet"]:
            os.kill(started.process.pid, signal.SIGKILL)


@contextmanager
def two_node_cluster(num_cpus: int = 2, num_gpus: int = 0, dashboard: bool = False) -> Iterator[TwoNodes]:
    """Starts it; ends its processes, and nobody else's. `num_gpus` are what Ray believes that each node has."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    # Nodes of one machine would share a session's directory, and delete each other's working directories in it.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        own = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        try:
            head = _add(cluster, DASHBOARD if dashboard else (), include_dashboard=dashboard, labels=LEARN, **own)
            second = _add(cluster, DASHBOARD[1:] if dashboard else (), temp_dir=directory, labels=DECODE, **own)
            yield TwoNodes(cluster.address, head.node_id, second.node_id, second)
        finally:
            cluster.shutdown()


def _add(cluster: Any, ports: tuple[str, ...], **options: Any) -> Any:
    # Ray gives a node half a minute to register, which a busy machine may exceed.
    for attempt in range(3):
        try:
            chosen = {port: free_port() for port in ports}
            return cluster.add_node(object_store_memory=200 << 20, **options, **chosen)
        except Exception:
            if attempt == 2:
                raise
    raise AssertionError("unreachable")
