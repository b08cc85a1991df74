"""Per-token policy losses from log ratios and advantages.

Shapes: any, as long as the tensors broadcast; the learner passes flat [T] tensors of a packed micro-batch. Loss values
are to be minimised and are not reduced: see `rlvr.objectives.aggregation`. log_ratio = logprobs - old_logprobs (nats),
where only `logprobs` carries a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0  # exp(20) = 4.9e8 stays finite in float32 after any sane advantage and weight; verl's limit too


def clip_loss(
    log_ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> Tensor:
    """The clipped surrogate as a loss: max(-A ratio, -A clip(ratio, 1 - clip_low, 1 + clip_high)).

    Schulman et al. 2017, eq. 7; clip_low != clip_high is clip-higher (DAPO, 2503.14476, eq. 10). With `dual_clip` c the
    loss at a negative advantage is at most -A c (Ye et al. 2020, 1912.09729): one token whose probability rose a
    hundredfold since it was sampled cannot dominate the step. The log ratio is clamped to +-20 first; beyond that, and
    wherever a clip is active, the gradient is 0.
    """
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_low, 1 + clip_high))
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -advantages * dual_clip), loss)


def clip_fractions(
    log_ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """(low, high): boolean per token, True where the ratio left the range on that side and the clip took the gradient.

    low: A < 0 and ratio < 1 - clip_low. high: A > 0 and ratio > 1 + clip_high, or, with dual clip, A < 0 and ratio > c.
    Their means over the loss tokens are the clip fractions; sum them under the loss mask.
    """
    ratio = log_ratio.detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    low = (advantages < 0) & (ratio < 1 - clip_low)
    high = (advantages > 0) & (ratio > 1 + clip_high)
    if dual_clip is not None:
        high = high | ((advantages < 0) & (ratio > dual_clip))
    return low, high
