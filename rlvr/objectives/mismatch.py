"""How far apart two sets of logprobs of the same tokens are: engine against trainer, current against old.

Shapes: tensors of any equal shape; `mask` is True at loss tokens, and only those are read. Results are scalars kept as
sums and counts, so that micro-batches and ranks can be added up; a mask without tokens gives zeros. No gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlvr.objectives.policy_loss import MAX_LOG_RATIO


class LogprobDifference(NamedTuple):
    """d = logprobs - behavior_logprobs (nats per token) over the loss tokens.

    absolute_sum / num_tokens is the number that the alarm of a run watches; -signed_sum / num_tokens estimates
    KL(engine || trainer), which is 0 when both score the same distribution.
    """

    absolute_sum: Tensor
    absolute_max: Tensor
    signed_sum: Tensor
    num_tokens: Tensor


class RatioStatistics(NamedTuple):
    """ratio = exp(logprobs - old_logprobs), clamped as in the loss, over the loss tokens; 1 when on-policy."""

    total: Tensor
    maximum: Tensor
    minimum: Tensor
    num_tokens: Tensor


def logprob_difference(logprobs: Tensor, behavior_logprobs: Tensor, mask: Tensor) -> LogprobDifference:
    """What the trainer says of the sampled tokens against what the engine that sampled them said.

    Before the first optimizer step of a batch the two should agree to rounding. A NaN on either side stays visible.
    """
    assert logprobs.shape == behavior_logprobs.shape == mask.shape, (logprobs.shape, mask.shape)
    difference = (logprobs.detach() - behavior_logprobs)[mask].double()
    absolute = difference.abs()
    largest = absolute.max() if len(absolute) else absolute.sum()
    return LogprobDifference(absolute.sum(), largest, difference.sum(), mask.sum())


def ratio_statistics(log_ratio: Tensor, mask: Tensor) -> RatioStatistics:
    """Sum and extremes of the policy ratio; an empty mask gives extremes of 1, the ratio of no change."""
    assert log_ratio.shape == mask.shape, (log_ratio.shape, mask.shape)
    ratio = log_ratio.detach()[mask].double().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    if not len(ratio):
        one = torch.ones((), dtype=torch.float64, device=log_ratio.device)
        return RatioStatistics(ratio.sum(), one, one, mask.sum())
    return RatioStatistics(ratio.sum(), ratio.max(), ratio.min(), mask.sum())
