"""Ray as a run finds it: started here, or joined where it runs already, with the environment of the run."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import ray

from rlvr.cluster import environment
from rlvr.errors import RecipeError, RlvrError
from rlvr.recipe.resources import ResourcesConfig

PROBE_S = 10.0
# How a connection to a gRPC server opens (RFC 9113, section 3.4): this and an empty SETTINGS frame, answered by one.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS = 4


def start_ray(address: str | None, resources: ResourcesConfig | None = None) -> bool:
    """Starts Ray here, or joins a cluster; quiet, and without its dashboard. False where it was running already.

    Raises RlvrError within seconds where no cluster answers at the address.
    """
    resources = resources or ResourcesConfig()
    environment.enter(resources.environment)
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address is None:
        # Said outright: without it Ray would join whatever cluster RAY_ADDRESS names. Its processes inherit ours.
        _start_local(options)
        return True
    runtime: dict[str, Any] = {"env_vars": dict(resources.environment)} if resources.environment else {}
    passed = environment.passed(resources.pass_environment)
    if passed:
        runtime["worker_process_setup_hook"] = environment.setup_hook(passed)
    found = _probed(address)
    try:
        ray.init(address=found, runtime_env=runtime or None, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise RlvrError(
            f"resources.ray_address={address!r}: cannot join the cluster at {found}: {' '.join(str(error).split())}. "
            "This machine must run a node of it (`ray start --address`), with the same versions of Ray and Python"
        ) from error
    return True


def _start_local(options: dict[str, Any]) -> None:
    try:
        ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:
        # Ray raises a bare Exception, after a time that no setting of it changes.
        if "timed out during startup" not in str(error):
            raise
        load, cores = os.getloadavg()[0], os.cpu_count()
        raise RlvrError(
            f"Ray did not start in its 30 s; the load of this machine is {load:.0f} on {cores} cores. End what else "
            "runs here, or wait, and start again"
        ) from error


def _probed(address: str) -> str:
    """host:port of a cluster that accepts connections; Ray itself would try for half a minute and longer."""
    if address.startswith("ray://"):
        raise RecipeError(
            f"resources.ray_address={address!r}: the Ray Client cannot carry a run; start `rlvr` on a node of the "
            "cluster with ray_address=auto, or submit it as a job"
        )
    remedy = "start one with `ray start --head`, or leave ray_address out to run on this machine"
    found = address
    if address == "auto":
        # TODO(a public way to what `auto` stands for): use it.
        from ray._private.services import canonicalize_bootstrap_address_or_die

        try:
            found = canonicalize_bootstrap_address_or_die("auto")
        except ConnectionError as error:
            raise RlvrError(
                f"resources.ray_address='auto': this machine runs no node of a Ray cluster; {remedy}"
            ) from error
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal():
        raise RecipeError(
            f"resources.ray_address={address!r}: expected host:port (Ray's default port is 6379), or auto"
        )
    source = " (from RAY_ADDRESS)" if address == "auto" and os.environ.get("RAY_ADDRESS") else ""
    try:
        speaks_grpc = _speaks_grpc(host.strip("[]"), int(port))
    except OSError as error:
        raise RlvrError(
            f"resources.ray_address={address!r}: no Ray cluster answers at {found}{source}: {error.strerror or error}; "
            f"{remedy}"
        ) from error
    if not speaks_grpc:
        raise RlvrError(
            f"resources.ray_address={address!r}: what listens at {found}{source} is no Ray cluster; {remedy}"
        )
    return found


def _speaks_grpc(host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=PROBE_S) as connection:
        connection.sendall(PREFACE)
        try:
            answer = connection.recv(9)
        except TimeoutError:
            return False
    return len(answer) >= 4 and answer[3] == SETTINGS
