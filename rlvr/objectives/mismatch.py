"""How far apart two sets of logprobs of the same tokens are: engine against trainer, current against old.

Shapes: tensors of any equal shape; `mask` is True at loss tokens, and only those are read. Results are scalars kept as
sums and counts, so that micro-batches and ranks can be added up; a mask without tokens gives zeros. No gradient.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rlvr.objectives.policy_loss import MAX_LOG_RATIO
from rlvr.objectives.sequence_losses import sequence_mean, sequence_sum


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


Level = Literal["token", "sequence", "geometric"]


def mismatch_weight(
    logprobs: Tensor,
    behavior_logprobs: Tensor,
    index: Tensor,
    num_rollouts: int,
    level: Level,
    action: Literal["clamp", "mask"],
    metric: Literal["ratio", "k1", "k3"] = "ratio",
    low: float | None = None,
    high: float | None = None,
    weigh: bool = True,
) -> tuple[Tensor, Tensor]:
    """(weights [M] of the policy loss, bool [M]: changed by the bounds), without gradient.

    With d = logprobs - behavior_logprobs of a token (trainer less engine, both before the update), w = exp(d) of the
    token, exp(sum of d) or exp(mean of d) over its rollout; logs are clamped to +-20. `clamp` moves w into the bounds;
    `mask` keeps w, or 1 without `weigh`, where the metric lies within the bounds, else 0. A clamp bounds w itself.

    TIS (Yao et al. 2025, fengyao.notion.site/off-policy-rl) is token, clamp, high 2; IcePop (2510.18855) token, mask,
    0.5 to 5; a masked sequence is sequence or geometric, mask, without `weigh`.
    """
    d = (logprobs - behavior_logprobs).detach()
    whole = level != "token"
    if level == "sequence":
        log_weight = sequence_sum(d, index, num_rollouts)[index]
    else:
        log_weight = sequence_mean(d, index, num_rollouts)[index] if whole else d
    log_weight = log_weight.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    weight = log_weight.exp()
    if action == "clamp":
        bounded = weight if low is None and high is None else weight.clamp(low, high)
        return bounded, bounded != weight
    if metric == "k3":
        d = d.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        measured = d.expm1() - d
        measured = sequence_mean(measured, index, num_rollouts)[index] if whole else measured
    else:
        measured = weight if metric == "ratio" else log_weight.abs()
    # Written so that a NaN is outside.
    inside = torch.ones_like(measured, dtype=torch.bool)
    if low is not None:
        inside = inside & (measured >= low)
    if high is not None:
        inside = inside & (measured <= high)
    kept = weight if weigh else torch.ones_like(weight)
    return torch.where(inside, kept, torch.zeros_like(kept)), ~inside


def weight_total(weights: Tensor, index: Tensor, num_rollouts: int, level: Level, counted: Tensor) -> Tensor:
    """(sum, number) [2] in float64 of what a batch's mean weight is taken over: tokens, or each rollout once.

    weights: [M] of `mismatch_weight`; only tokens that are `counted` (bool [M]) have a part, and rollouts with one.
    Sums add up over micro-batches and ranks. verl's `rollout_is_batch_normalize` has the same two means.
    """
    kept = torch.where(counted, weights, torch.zeros_like(weights)).double()
    if level == "token":
        return torch.stack([kept.sum(), counted.double().sum()])
    empty = kept.new_zeros(num_rollouts)
    lengths = empty.index_add(0, index, counted.double())
    means = empty.index_add(0, index, kept) / lengths.clamp(min=1)
    return torch.stack([means.sum(), (lengths > 0).double().sum()])
