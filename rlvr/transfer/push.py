"""One weight update: gather a bucket, send it to every engine, the next while it loads; then verify.

On the host path a bucket is one object in Ray's shared memory, written once and read in place by every engine of the
node; across nodes Ray moves it once per node. The CUDA path hands over to `rlvr.transfer.cuda` inside the ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import ray

from rlvr.errors import RunStopped
from rlvr.recipe.schema import ResourcesConfig
from rlvr.transfer.buckets import Bucket, Form, plan_buckets

if TYPE_CHECKING:
    from rlvr.cluster.roster import Member
    from rlvr.learner.group import LearnerGroup
    from rlvr.rollout.pool import RolloutPool


class Pusher(Protocol):
    """A way for weights to get from the learner to the engines."""

    def push(self, version: int, only: Sequence[int] | None = None) -> None:
        """To every engine, or to some of them by index."""


class HostPusher:
    """Moves weights from the learner to the engines through host memory.

    Where adapters travel alone, an engine is sent the base before the first of them, and again when it was replaced.
    """

    def __init__(self, learner: LearnerGroup, rollouts: RolloutPool, cap_bytes: int) -> None:
        self.learner = learner
        self.rollouts = rollouts
        self.cap_bytes = cap_bytes
        self._loads = 0
        self.buckets: dict[Form, list[Bucket]] = {}
        self._base: tuple[dict[int, Any], dict[str, int]] = {}, {}

    def push(self, version: int, only: Sequence[int] | None = None) -> None:
        """To every engine, or to some of them by index.

        Raises RunStopped when an engine holds other weights than were sent, or when they are not finite, EngineDied
        when one is gone.
        """
        to = list(range(len(self.rollouts.workers)) if only is None else only)
        if self.learner.loads != self._loads:
            self._loads, self.buckets, self._base = self.learner.loads, {}, ({}, {})
        form = self.learner.sent_form
        sent = (self._send_base(to) if form == "adapter" else {}) | self._send(form, to)
        finish_verified(self.rollouts, version, sent, to)

    def _send_base(self, to: Sequence[int]) -> dict[str, int]:
        """Sends what an adapter is applied to, to the engines that do not hold it yet; its checksums in any case."""
        holders, sums = self._base
        missing = [index for index in to if holders.get(index) is not self.rollouts.workers[index]]
        if missing:
            sums |= self._send("base", missing)
            holders |= {index: self.rollouts.workers[index] for index in missing}
        return sums

    def _send(self, form: Form, to: Sequence[int]) -> dict[str, int]:
        """Checksums of all tensors of a form, once the engines have taken them."""
        if form not in self.buckets:
            # Engines compute in their own dtype, so that is what travels.
            specs = self.learner.parameter_specs(form)
            self.buckets[form] = plan_buckets(specs, self.rollouts.spec.dtype, self.cap_bytes, form)
        sent: dict[str, int] = {}
        loading: dict[int, ray.ObjectRef] = {}
        for bucket in self.buckets[form]:
            buffer, bucket_sums = self.learner.gather_bucket(bucket)
            # At most one bucket is loading while the next is gathered: host memory stays under two buckets.
            self._wait(loading)
            loading = {index: self.rollouts.workers[index].load_bucket.remote(bucket, buffer) for index in to}
            sent |= bucket_sums
        self._wait(loading)
        return sent

    def _wait(self, loading: Mapping[int, ray.ObjectRef]) -> None:
        for index, ref in loading.items():
            self.rollouts.result(ref, index, "transfer")


class CudaPusher:
    """Moves weights from GPU to GPU: NCCL between disjoint GPUs, CUDA IPC on shared ones."""

    def __init__(self, learner: LearnerGroup, rollouts: RolloutPool, cap_bytes: int, backend: str) -> None:
        self.learner = learner
        self.rollouts = rollouts
        self.cap_bytes = cap_bytes
        self.backend = backend
        self._lives: dict[ray.ObjectRef, Member] | None = None

    def push(self, version: int, only: Sequence[int] | None = None) -> None:
        """Raises RunStopped when an engine holds other weights than were sent, or when they are not finite."""
        assert only is None, "the engines and the learner make one process group"
        sent = self.learner.send_weights(
            self.backend,
            self.rollouts.spec.dtype,
            self.cap_bytes,
            self.rollouts.workers,
            self.rollouts.spec.tensor_parallel,
            self._watched(),
        )
        finish_verified(self.rollouts, version, sent, range(len(self.rollouts.workers)))

    def _watched(self) -> dict[ray.ObjectRef, Member]:
        """One call of each engine that lasts as long as it does."""
        if self._lives is None:
            engines = zip(self.rollouts.workers, self.rollouts.members, strict=True)
            self._lives = {worker.live.remote(): member for worker, member in engines}
        return self._lives


def finish_verified(rollouts: RolloutPool, version: int, sent: Mapping[str, int], to: Sequence[int]) -> None:
    """Resets the engines' caches, gives them the version, and compares their weights with what was sent."""
    finishing = {index: rollouts.workers[index].finish_update.remote(version, sent) for index in to}
    for index, ref in finishing.items():
        wrong = rollouts.result(ref, index, "transfer")
        if wrong:
            raise RunStopped(
                f"weight transfer: engine {index} holds other weights than version {version} after the "
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
