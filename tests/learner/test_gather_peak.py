"""R21: gathering weights takes a bucket's memory and a tensor's, however large the model is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from learner_setup import config, inside

from rlvr.learner.group import LearnerGroup
from rlvr.transfer.buckets import Bucket, plan_buckets

CAP_BYTES = 16 << 20


def _peaks(worker: Any, buckets: list[Bucket]) -> list[int]:
    """Most bytes that torch held at once beyond what it held before, bucket by bucket."""
    found = []
    for bucket in buckets:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            worker.gather_bucket(bucket)
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        held = peak = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        found.append(peak)
    return found


def test_a_gather_holds_one_bucket_and_one_tensor(
    groups: Callable[[int], LearnerGroup], make_model: Callable[..., str]
) -> None:
    """The bucket's bytes are numpy's and counted by the plan; the rest is torch's and measured here.

    One tensor is held at a time, and the copies that gloo's threads keep of it and let go of in their own time. Were
    the bucket gathered at once, it alone would be twice what is allowed.
    """
    group = groups(2)
    model = make_model(hidden_size=256, intermediate_size=1024, num_hidden_layers=8)
    group.setup(model, config(zero_stage=3), 1, 0, reference=False)
    specs = group.parameter_specs()
    buckets = plan_buckets(specs, "float32", CAP_BYTES)
    largest = max(4 * torch.Size(shape).numel() for _, shape in specs)
    assert len(buckets) > 1
    assert max(bucket.num_bytes for bucket in buckets) > 15 * largest
    for peaks in inside(group, _peaks, buckets):
        assert largest <= max(peaks) < 8 * largest
