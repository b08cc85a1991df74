"""The environment of every process of a run: threads, devices, ports, interfaces. Nothing else sets these variables."""

from __future__ import annotations

import errno
import fnmatch
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rlvr.errors import RlvrError

Ports = tuple[int, int]
"""The first and the last port that a run may take."""

# Segments that grow can neither be put to sleep by vLLM nor be shared with another process.
FIXED_SEGMENTS = dict.fromkeys(("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"), "expandable_segments:False")


def enter(declared: Mapping[str, str]) -> None:
    """Prepares this process, a driver, for Ray; `declared` variables (resources.environment) hold here too."""
    os.environ |= dict(declared)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The default changes with Ray 2.61; GPUs are hidden per actor in rlvr.cluster.placement.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A submitted job has a runtime environment of its own; ours adds to it.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")


def forget_addresses() -> None:
    """Drops the addresses of clusters that Ray's clients prefer to the one they are told."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)


def passed(patterns: Sequence[str], source: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of `source` (this process's environment) that match one of the shell patterns."""
    found = os.environ if source is None else source
    return {
        name: value
        for name, value in sorted(found.items())
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def setup_hook(values: Mapping[str, str]) -> Callable[[], None]:
    """What sets `values` in each worker process of a Ray job that has no value of its own for them.

    Values travel inside the pickled function: Ray writes a job's `env_vars` into its logs, and these may be secrets.
    """
    kept = dict(values)

    def set_passed_environment() -> None:
        import os

        for name, value in kept.items():
            os.environ.setdefault(name, value)

    return set_passed_environment


def engine_environment(threads: int, device: str, sleeps: bool = False) -> dict[str, str]:
    """Environment of a rollout worker; `sleeps` where it gives its GPU memory back between rollouts."""
    environment = _threads(threads) | {
        # The engine core shares the actor's process: see rlvr.rollout.vllm_engine.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if device == "cpu":
        # Compiling the logprob kernel costs 9 s at the first request and gains nothing on a CPU.
        environment |= {"TORCH_COMPILE_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    else:
        # Lets vLLM's worker processes receive Python objects (buckets) in collective_rpc.
        environment |= {"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}
    return environment | (FIXED_SEGMENTS if sleeps else {})


def tensor_parallel_environment(bundles: Sequence[int], gpus: float) -> dict[str, str]:
    """What has vLLM put the workers of one engine into these bundles, each with a share `gpus` of its GPU."""
    return {"VLLM_RAY_BUNDLE_INDICES": ",".join(map(str, bundles)), "VLLM_RAY_PER_WORKER_GPUS": str(gpus)}


def server_environment(threads: int, device: str) -> dict[str, str]:
    """Environment of a vLLM server, on top of this process's own."""
    environment = os.environ | engine_environment(threads, device)
    # Unlike a rollout engine, a server is a process that may have another for its engine; only errors are logged.
    return environment | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }


def learner_environment(threads: int, device: str, shares: bool = False) -> dict[str, str]:
    """Environment of a learner rank; `shares` where an engine is on the same GPU."""
    environment = _threads(threads) | {"TOKENIZERS_PARALLELISM": "false"}
    if device == "cpu":
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return environment | (FIXED_SEGMENTS if shares else {})


def reward_environment() -> dict[str, str]:
    """Environment of a reward worker and of its processes."""
    return _threads(1)


def become_rank(rank: int, world_size: int, over_nodes: bool = False, interface: str | None = None) -> None:
    """Sets what DeepSpeed and the collectives read in a learner rank.

    `interface` carries the collectives; over several nodes gloo else takes the interface of this node's address in the
    cluster, because many distributions resolve their own host name to a loopback address, which no other node reaches.
    """
    # Ray shows each rank one GPU, which is number 0 to it.
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": "0"}
    if interface is not None:
        os.environ |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    elif over_nodes and "GLOO_SOCKET_IFNAME" not in os.environ:
        found = interface_of(node_address())
        os.environ |= {"GLOO_SOCKET_IFNAME": found} if found else {}


def node_address() -> str:
    """The address that other nodes of the cluster reach this one at."""
    import ray

    return str(ray.util.get_node_ip_address())


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has the address."""
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in addresses):
            return str(name)
    return None


@contextmanager
def held_port(ports: Ports | None = None, host: str = "") -> Iterator[int]:
    """A port that nobody else can take while the context lasts."""
    for port in candidates(ports):
        with socket.socket() as held:
            try:
                held.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield int(held.getsockname()[1])
            return
    raise ports_taken(ports)


def free_port(ports: Ports | None = None) -> int:
    """A port of this host that was free a moment ago. RlvrError where a range has none."""
    with held_port(ports) as port:
        return port


def candidates(ports: Ports | None) -> Sequence[int]:
    """The ports to try in turn; 0 has the kernel choose."""
    return range(ports[0], ports[1] + 1) if ports else (0,)


def ports_taken(ports: Ports | None) -> RlvrError:
    """The fault of a range without a free port."""
    host = socket.gethostname()
    first, last = ports or (0, 0)
    return RlvrError(
        f"resources.ports=[{first}, {last}]: every port of the range is taken on {host} (`ss -ltnp` shows by whom); "
        "name a range that is free on every node, or leave ports out"
    )


def _threads(threads: int) -> dict[str, str]:
    # Spinning OpenMP threads that meet a busy core slow everything 10x; passive ones do not.
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
