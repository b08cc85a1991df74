"""One weight update: gather a bucket, send it to every engine, the next while it loads; then verify.

On the host path a bucket is one object in Ray's shared memory, written once and read in place by every engine of the
node; across nodes Ray moves it once per node. The CUDA path hands over to `rlvr.transfer.cuda` inside the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import ray

from rlvr.errors import RunStopped, WorkerDied
from rlvr.recipe.schema import ResourcesConfig
from rlvr.transfer.buckets import Bucket, plan_buckets

if TYPE_CHECKING:
    from rlvr.learner.group import LearnerGroup
    from rlvr.rollout.pool import RolloutPool


class Pusher(Protocol):
    """A way for weights to get from the learner to the engines."""

    def push(self, version: int) -> None: ...


class HostPusher:
    """Moves weights from the learner to the engines through host memory."""

    def __init__(self, learner: LearnerGroup, rollouts: RolloutPool, cap_bytes: int) -> None:
        self.learner = learner
        self.rollouts = rollouts
        self.cap_bytes = cap_bytes
        self.buckets: list[Bucket] | None = None

    def push(self, version: int) -> None:
        """Raises RunStopped when an engine holds other weights than were sent, or when they are not finite."""
        if self.buckets is None:
            # Engines compute in their own dtype, so that is what travels.
            self.buckets = plan_buckets(self.learner.parameter_specs(), self.rollouts.spec.dtype, self.cap_bytes)
        sent: dict[str, int] = {}
        loading: list[ray.ObjectRef] = []
        for bucket in self.buckets:
            buffer, bucket_sums = self.learner.gather_bucket(bucket)
            # At most one bucket is loading while the next is gathered: host memory stays under two buckets.
            self._wait(loading)
            loading = [worker.load_bucket.remote(bucket, buffer) for worker in self.rollouts.workers]
            sent |= bucket_sums
        self._wait(loading)
        finish_verified(self.rollouts, version, sent)

    def _wait(self, loading: list[ray.ObjectRef]) -> None:
        for index, ref in enumerate(loading):
            try:
                ray.get(ref, timeout=self.rollouts.timeout_s)
            except ray.exceptions.RayError as error:
                raise WorkerDied(f"rollout worker {index} failed while loading weights: {error}") from error


class CudaPusher:
    """Moves weights from GPU to GPU: NCCL between disjoint GPUs, CUDA IPC on shared ones."""

    def __init__(self, learner: LearnerGroup, rollouts: RolloutPool, cap_bytes: int, backend: str) -> None:
        self.learner = learner
        self.rollouts = rollouts
        self.cap_bytes = cap_bytes
        self.backend = backend

    def push(self, version: int) -> None:
        """Raises RunStopped when an engine holds other weights than were sent, or when they are not finite."""
        sent = self.learner.send_weights(
            self.backend,
            self.rollouts.spec.dtype,
            self.cap_bytes,
            self.rollouts.workers,
            self.rollouts.spec.tensor_parallel,
        )
        finish_verified(self.rollouts, version, sent)


def finish_verified(rollouts: RolloutPool, version: int, sent: Mapping[str, int]) -> None:
    """Resets the engines' caches, gives them the version, and compares their weights with what was sent."""
    for index, wrong in enumerate(rollouts.on_all("finish_update", version, sent)):
        if wrong:
            raise RunStopped(
                f"weight transfer: rollout worker {index} holds other weights than version {version} after the "
                f"update: {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''} ({len(wrong)} tensors)"
            )


def build_pusher(transport: str, learner: LearnerGroup, rollouts: RolloutPool, cap_bytes: int) -> Pusher:
    """The transport that `transport_of` chose."""
    if transport == "host":
        return HostPusher(learner, rollouts, cap_bytes)
    return CudaPusher(learner, rollouts, cap_bytes, transport)


def transport_of(resources: ResourcesConfig, engine: str, device: str) -> str:
    """host, nccl or ipc: what `resources.transfer` says, or what fits the placement where it says auto."""
    if resources.transfer != "auto":
        return resources.transfer
    if device == "cpu" or engine != "vllm":
        return "host"
    return "ipc" if resources.placement == "colocated" else "nccl"
