"""Is this machine, or every node of a cluster, fit to run: all findings, each with its remedy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlvr.cluster.environment import engine_environment
from rlvr.cluster.finding import Finding, fault, ok, warning
from rlvr.cluster.machine_checks import machine_findings
from rlvr.cluster.stack_checks import gpu_findings, import_findings, version_findings

NODE_TIMEOUT_S = 300.0  # importing the stack from a cold network disk takes minutes
SKEW_WARNING_S, SKEW_FAULT_S = 2.0, 60.0
START_RAY = "look at the newest directory under Ray's sessions (/tmp/ray/session_latest/logs); free ports and memory"


def examine(address: str | None = None, runs_dir: str = "runs") -> Iterator[Finding]:
    """This machine, with Ray started for the purpose; or with `address` every node of that cluster."""
    import ray

    from rlvr.cluster.connection import start_ray

    runs_dir = str(Path(runs_dir).absolute())
    try:
        started = start_ray(address)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
        yield from machine_findings(runs_dir)
        yield from version_findings()
        yield from _sandbox()
        yield fault("Ray", " ".join(str(error).split())[:400], START_RAY)
        return
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        yield ok("Ray", f"{len(nodes)} node{'s' * (len(nodes) > 1)}{f' at {address}' if address else ''}")
        several = len(nodes) > 1
        for name, findings in _on_nodes(nodes, runs_dir):
            yield from (replace(finding, node=name if several else "") for finding in findings)
        yield from _self_test(nodes)
    finally:
        if started:
            ray.shutdown()


def _on_nodes(nodes: list[dict[str, Any]], runs_dir: str) -> Iterator[tuple[str, list[Finding]]]:
    """(name of the node, what was found there), node by node as they finish."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    function = ray.remote(node_findings)
    clock = ray.remote(_now)
    environment = {"env_vars": engine_environment(1, "cuda") | {"TORCH_COMPILE_DISABLE": "1"}}
    asked = {}
    for node in nodes:
        on_node = {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}
        name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        call = function.options(**on_node, runtime_env=environment, max_retries=0).remote(runs_dir)
        asked[call] = (name, clock.options(**on_node))
    for call, (name, ask_time) in asked.items():
        try:
            found = ray.get(call, timeout=NODE_TIMEOUT_S)
            if len(nodes) > 1:
                found.append(_skew(ask_time))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            found = [fault("stack in a Ray worker", text, "look at the node's logs under /tmp/ray/session_latest/logs")]
        yield name, found


def node_findings(runs_dir: str) -> list[Finding]:
    """All that is to be found out on one node, from inside a Ray worker of it."""
    found = [*machine_findings(runs_dir), *version_findings(), *_sandbox()]
    return [*found, *import_findings(), *gpu_findings()]


def _now() -> float:
    return time.time()


def _skew(ask_time: Any) -> Finding:
    """How far a node's clock is from this one's; the shortest of three round trips bounds the error."""
    import ray

    trips = []
    for _ in range(3):
        began = time.time()
        there = float(ray.get(ask_time.remote(), timeout=60))
        ended = time.time()
        trips.append((ended - began, there - (began + ended) / 2))
    trip, skew = min(trips)
    return skew_finding(skew, trip)


def skew_finding(skew_s: float, trip_s: float) -> Finding:
    """What a difference of clocks, known to half a round trip, amounts to."""
    found = f"{skew_s:+.2f} s from this machine's (known to {trip_s / 2:.2f} s)"
    beyond = abs(skew_s) - trip_s / 2
    remedy = "timedatectl set-ntp true on every node: logs, certificates and file times disagree"
    if beyond > SKEW_FAULT_S:
        return fault("clock between nodes", found, remedy)
    return (
        warning("clock between nodes", found, remedy) if beyond > SKEW_WARNING_S else ok("clock between nodes", found)
    )


def _self_test(nodes: list[dict[str, Any]]) -> Iterator[Finding]:
    import ray

    from rlvr.cluster.self_test import self_test_findings

    yield from self_test_findings([node["NodeID"] for node in nodes], int(ray.available_resources().get("GPU", 0)))


def _sandbox() -> Iterator[Finding]:
    """What keeps a model's programs in, for rewards and environments that run them."""
    from rewards.sandbox import SandboxError, isolation

    try:
        found = isolation()
    except SandboxError as error:
        yield fault("sandbox for programs", str(error), "free space in the temporary directory; see docs/rewards")
        return
    yield ok("sandbox for programs", found.line)
