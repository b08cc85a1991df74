"""The doctor's self-test: an all-reduce over real processes, and a bucket of weights from one to the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rlvr.cluster.environment import free_port, learner_environment, node_address
from rlvr.cluster.finding import Finding, fault, ok, warning

if TYPE_CHECKING:
    import numpy as np

    from rlvr.transfer.buckets import Bucket

TIMEOUT_S = 120.0
WORDS = 1 << 22  # float32 in the all-reduce, and in the bucket: 16 MiB
SLOW_MB_PER_S = 20.0


class Rank:
    """One process of the test; a Ray actor."""

    def address(self) -> tuple[str, int]:
        """Where the others find this one."""
        return node_address(), free_port()

    def all_reduce(self, rank: int, world_size: int, host: str, port: int, backend: str) -> float:
        """Seconds that a sum took; raises where it is wrong."""
        import torch
        import torch.distributed as dist

        device = "cuda" if backend == "nccl" else "cpu"
        limit = timedelta(seconds=TIMEOUT_S)
        dist.init_process_group(
            backend, init_method=f"tcp://{host}:{port}", rank=rank, world_size=world_size, timeout=limit
        )
        try:
            values = torch.full((WORDS,), float(rank + 1), device=device)
            began = time.monotonic()
            dist.all_reduce(values)
            total = values.sum(dtype=torch.float64).item()  # waits for a GPU
            seconds = time.monotonic() - began
        finally:
            dist.destroy_process_group()
        expected = WORDS * world_size * (world_size + 1) / 2
        if total != expected:
            raise RuntimeError(f"the sum over {world_size} ranks is {total}, not {expected}")
        return seconds

    def send(self) -> tuple[Bucket, np.ndarray, dict[str, int]]:
        """A bucket of random weights, with their checksums."""
        import torch

        from rlvr.transfer.buckets import checksums, pack, plan_buckets

        generator = torch.Generator().manual_seed(0)
        named = {f"layer.{i}.weight": torch.randn(WORDS // 4, generator=generator) for i in range(4)}
        (bucket,) = plan_buckets([(name, tuple(t.shape)) for name, t in named.items()], "float32", 1 << 30)
        return bucket, pack(bucket, named), checksums(named.items())

    def receive(self, sent: tuple[Bucket, np.ndarray, dict[str, int]]) -> list[str]:
        """The tensors that arrived otherwise than they were sent."""
        from rlvr.transfer.buckets import checksums, unpack

        bucket, buffer, sums = sent
        arrived = checksums(unpack(bucket, buffer))
        return [name for name, value in sums.items() if arrived.get(name) != value]


def self_test_findings(node_ids: list[str], gpus: int) -> Iterator[Finding]:
    """gloo over two processes, on two nodes where there are; NCCL over every GPU of the cluster; a bucket by Ray."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    first, last = node_ids[0], node_ids[-1]
    actor: Any = ray.remote(Rank)
    environment = {"env_vars": learner_environment(1, "cpu")}
    ranks = [
        actor.options(
            num_cpus=0,
            runtime_env=environment,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote()
        for node in (first, last)
    ]
    try:
        yield _collective(ranks, "gloo")
        yield _transfer(ranks)
    finally:
        for rank in ranks:
            ray.kill(rank)
    if gpus:
        on_gpus = [actor.options(num_cpus=0, num_gpus=1).remote() for _ in range(gpus)]
        try:
            yield _collective(on_gpus, "nccl")
        finally:
            for rank in on_gpus:
                ray.kill(rank)


def _collective(ranks: list[Any], backend: str) -> Finding:
    import ray

    check = f"{'NCCL' if backend == 'nccl' else backend} all-reduce"
    place = "GPUs" if backend == "nccl" else "processes"
    try:
        host, port = ray.get(ranks[0].address.remote(), timeout=TIMEOUT_S)
        calls = [each.all_reduce.remote(i, len(ranks), host, port, backend) for i, each in enumerate(ranks)]
        seconds = max(ray.get(calls, timeout=2 * TIMEOUT_S))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
        return fault(
            check,
            f"over {len(ranks)} {place}: {_short(error)}",
            "set resources.network_interface to the interface between the nodes (`ip addr`); open their ports to each "
            "other; NCCL_DEBUG=INFO says more",
        )
    return ok(check, f"{len(ranks)} {place}, 16 MiB in {seconds * 1000:.0f} ms")


def _transfer(ranks: list[Any]) -> Finding:
    import ray

    check = "weight transfer"
    try:
        sent = ranks[0].send.remote()
        ray.wait([sent], timeout=TIMEOUT_S, fetch_local=False)
        began = time.monotonic()
        wrong = ray.get(ranks[1].receive.remote(sent), timeout=TIMEOUT_S)
        seconds = time.monotonic() - began
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
        remedy = "look at /dev/shm and at the nodes' object stores (`ray status -v`)"
        return fault(check, f"by Ray's object store: {_short(error)}", remedy)
    rate = WORDS * 4 / 1e6 / seconds
    if wrong:
        return fault(check, f"tensors arrived changed: {', '.join(wrong)}", "the machine's memory or network is faulty")
    found = f"16 MiB through the object store at {rate:.0f} MB/s, checksums equal"
    if rate < SLOW_MB_PER_S:
        return warning(check, found, "find out what is slow between the nodes: every step sends all weights")
    return ok(check, found)


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[-300:]
