"""The environment of every process: threads, ports, caches. Nothing else sets these variables."""

from __future__ import annotations

import socket


def engine_environment(threads: int, device: str) -> dict[str, str]:
    """Environment of a rollout worker."""
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
    return environment


def learner_environment(threads: int, device: str) -> dict[str, str]:
    """Environment of a learner rank."""
    environment = _threads(threads) | {"TOKENIZERS_PARALLELISM": "false"}
    if device == "cpu":
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return environment


def reward_environment() -> dict[str, str]:
    """Environment of a reward worker and of its processes."""
    return _threads(1)


def free_port() -> int:
    """A port of this host that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _threads(threads: int) -> dict[str, str]:
    # Spinning OpenMP threads that meet a busy core slow everything 10x; passive ones do not.
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
