"""Weights over NCCL or CUDA IPC, through vLLM's own weight-transfer interface.

The learner's side of that interface is vLLM's too, so this file imports it inside the learner ranks, and nowhere else.
Needs GPUs: `rlvr.transfer.push` is the path that runs everywhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from rlvr.errors import WorkerDied
from rlvr.transfer.buckets import Bucket, checksum, plan_buckets

if TYPE_CHECKING:
    from torch import Tensor

    from rlvr.learner.engine import TrainingEngine

SHUTDOWN_S = 30.0


@dataclass(frozen=True, slots=True)
class SenderSpec:
    """How the learner reaches the engines. `backend` is nccl (disjoint GPUs) or ipc (the same GPUs)."""

    backend: str
    dtype: str
    cap_bytes: int
    engines: tuple[Any, ...]
    tensor_parallel: int
    host: str
    port: int
    timeout_s: float


class EngineClient:
    """The four calls that vLLM's trainer makes, fanned out to every rollout worker."""

    def __init__(self, spec: SenderSpec) -> None:
        self.spec = spec

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        infos = []
        for index in range(len(self.spec.engines)):
            info = dict(init_info)
            if "rank_offset" in info:
                # vLLM sends every engine the offset 1; independent engines would claim the same ranks.
                info["rank_offset"] = 1 + index * self.spec.tensor_parallel
            infos.append(info)
        calls = zip(self.spec.engines, infos, strict=True)
        self._wait([engine.engine_rpc.remote("init_weight_transfer_engine", info) for engine, info in calls])

    def start_weight_update(self) -> None:
        self._on_all("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self._on_all("update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._on_all("finish_weight_update")

    def shutdown(self) -> None:
        """Has the engines leave the transfer; one that is gone already is no matter."""
        calls = [engine.engine_rpc.remote("shutdown_weight_transfer_engine") for engine in self.spec.engines]
        for call in calls:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(call, timeout=SHUTDOWN_S)

    def _on_all(self, method: str, *args: Any) -> None:
        self._wait([engine.engine_rpc.remote(method, *args) for engine in self.spec.engines])

    def _wait(self, calls: list[ray.ObjectRef]) -> None:
        deadline = time.monotonic() + self.spec.timeout_s
        for index, call in enumerate(calls):
            try:
                ray.get(call, timeout=max(0.0, deadline - time.monotonic()))
            except ray.exceptions.GetTimeoutError as error:
                raise WorkerDied(
                    f"weight transfer ({self.spec.backend}): engine {index} took no weights for "
                    f"{self.spec.timeout_s:.0f} s; raise resources.step_timeout_s, or set resources.network_interface"
                ) from error
            except ray.exceptions.RayError as error:
                raise WorkerDied(f"weight transfer ({self.spec.backend}): engine {index} failed: {error}") from error


class CudaSender:
    """One learner rank's end of the transfer; every rank makes the same calls, rank 0 sends."""

    def __init__(self, engine: TrainingEngine, spec: SenderSpec, rank: int) -> None:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        self.source = _gathered_source(engine, spec, rank)
        # Packing over IPC has one buffer, which the largest tensor must fit into.
        largest = max(spec.cap_bytes, *(bucket.num_bytes for bucket in self.source.buckets))
        self._client = EngineClient(spec) if rank == 0 else None
        info: Any
        if spec.backend == "nccl":
            info = NCCLTrainerInitInfo(
                rank=rank,
                master_address=spec.host,
                master_port=spec.port,
                world_size=1 + len(spec.engines) * spec.tensor_parallel,
                packed_buffer_size_bytes=spec.cap_bytes,
            )
        else:
            info = IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=largest)
        client = self._client or EngineClient(spec)
        self._engine = WeightTransferTrainerFactory.trainer_init(info, client=client, source=self.source)

    def send(self) -> dict[str, int]:
        """Sends all weights; on rank 0 the checksum of every tensor as it was sent."""
        self.source.sums.clear()
        self._engine.send_weights()
        return dict(self.source.sums)

    def close(self) -> None:
        """Leaves the transfer, on both sides: the next stage opens another."""
        if self._client is not None:
            self._client.shutdown()
        self._engine.shutdown()


def _gathered_source(engine: TrainingEngine, spec: SenderSpec, rank: int) -> Any:
    """vLLM's WeightSource over a ZeRO engine: a size-capped bucket is gathered, yielded tensor by tensor, released."""
    import torch
    from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

    from rlvr.learner.weights import outgoing

    dtype = getattr(torch, spec.dtype)

    class GatheredSource(WeightSource):
        def __init__(self) -> None:
            self.specs = [(name, tensor.shape) for name, tensor in outgoing(engine).items()]
            self.buckets: list[Bucket] = plan_buckets(self.specs, spec.dtype, spec.cap_bytes)
            self.sums: dict[str, int] = {}

        def metadata(self) -> list[ParamMeta]:
            return [ParamMeta(name, dtype, shape) for name, shape in self.specs]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            named = outgoing(engine)
            for bucket in self.buckets:
                needed = dict.fromkeys(p for name in bucket.names for p in named[name].parameters)
                with engine.gathered(list(needed)), torch.no_grad():
                    for name in bucket.names:
                        tensor = named[name].value().detach().to(dtype)
                        if rank == 0:
                            self.sums[name] = checksum(tensor)
                        yield name, tensor

    return GatheredSource()
