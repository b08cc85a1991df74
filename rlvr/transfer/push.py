"""One weight update: gather a bucket, send it to every engine, the next while it loads; then verify.

On the host path a bucket is one object in Ray's shared memory, written once and read in place by every engine of the
node; across nodes Ray moves it once per node. CUDA transports are in `rlvr.transfer.cuda`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from rlvr.errors import RunStopped, WorkerDied
from rlvr.transfer.buckets import Bucket, plan_buckets

if TYPE_CHECKING:
    from rlvr.learner.group import LearnerGroup
    from rlvr.rollout.pool import RolloutPool


@dataclass(frozen=True, slots=True)
class PushReport:
    """What an update moved."""

    version: int
    num_bytes: int
    num_buckets: int


class HostPusher:
    """Moves weights from the learner to the engines through host memory."""

    def __init__(self, learner: LearnerGroup, rollouts: RolloutPool, cap_bytes: int) -> None:
        self.learner = learner
        self.rollouts = rollouts
        self.cap_bytes = cap_bytes
        self.buckets: list[Bucket] | None = None

    def push(self, version: int) -> PushReport:
        """Raises RunStopped when an engine holds other weights than were sent, or when they are not finite."""
        if self.buckets is None:
            # Engines compute in their own dtype, so that is what travels.
            self.buckets = plan_buckets(self.learner.parameter_specs(), self.rollouts.spec.dtype, self.cap_bytes)
        sent: dict[str, int] = {}
        loading: list[ray.ObjectRef] = []
        self.rollouts.on_all("start_update")
        for bucket in self.buckets:
            buffer, bucket_sums = self.learner.gather_bucket(bucket)
            # At most one bucket is loading while the next is gathered: host memory stays under two buckets.
            self._wait(loading)
            loading = [worker.load_bucket.remote(bucket, buffer) for worker in self.rollouts.workers]
            sent |= bucket_sums
        self._wait(loading)
        for index, wrong in enumerate(self.rollouts.on_all("finish_update", version, sent)):
            if wrong:
                raise RunStopped(
                    f"weight transfer: rollout worker {index} holds other weights than version {version} after the "
                    f"update: {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''} ({len(wrong)} tensors)"
                )
        return PushReport(version, sum(bucket.num_bytes for bucket in self.buckets), len(self.buckets))

    def _wait(self, loading: list[ray.ObjectRef]) -> None:
        for index, ref in enumerate(loading):
            try:
                ray.get(ref, timeout=self.rollouts.timeout_s)
            except ray.exceptions.RayError as error:
                raise WorkerDied(f"rollout worker {index} failed while loading weights: {error}") from error
