"""The learning rate as a function of the optimizer step."""

from __future__ import annotations

import math


def lr_factor(step: int, schedule: str, warmup_steps: int, total_steps: int, min_ratio: float) -> float:
    """Multiple of the peak learning rate at optimizer step `step` (0 is the first).

    Warm-up is linear from 0, which no step uses: step s of w has (s + 1) / w, so the peak is reached by step w - 1.
    Then `linear` and `cosine` fall to min_ratio at step total_steps - 1, the last, and stay there.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    # The step before the fall is at the peak: the end of the warm-up, or step 0 itself where there is none.
    start = max(warmup_steps - 1, 0)
    progress = min(1.0, (step - start) / max(1, total_steps - 1 - start))
    falling = 1 - progress if schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return min_ratio + (1 - min_ratio) * falling
