"""From per-token losses to one number: the weight of each loss token, over one denominator for the whole mini-batch.

The weights are worked out once per optimizer step from the lengths of ALL its rollouts, before the mini-batch is split
over ranks and micro-batches. A micro-batch then only adds up weight * value: however the split falls, the gradients sum
to the same one, which a mean of micro-batch means does not do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def token_weights(lengths: Sequence[int], mode: str, max_completion_tokens: int) -> list[float]:
    """The weight of every loss token of each rollout of one mini-batch; `lengths` counts each rollout's loss tokens.

    Rollouts without a loss token (masked as a whole: truncated, padding) have weight 0 and count in no denominator.
    With M rollouts that have loss tokens and T loss tokens in all:
    - token_mean: 1 / T (DAPO, 2503.14476, eq. 12); a long completion weighs more than a short one;
    - sequence_mean: 1 / (M * own length) (GRPO, 2402.03300, eq. 3); every completion weighs the same;
    - sequence_sum_constant: 1 / (M * max_completion_tokens) (Dr.GRPO, 2503.20783); every token the same in every step.
    A mini-batch without loss tokens gets zeros, so that its loss is 0 and not 0 / 0.
    """
    return AGGREGATIONS[mode](lengths, max_completion_tokens)


def _token_mean(lengths: Sequence[int], max_completion_tokens: int) -> list[float]:
    total = sum(lengths)
    return [1.0 / total if length else 0.0 for length in lengths]


def _sequence_mean(lengths: Sequence[int], max_completion_tokens: int) -> list[float]:
    num_rollouts = sum(length > 0 for length in lengths)
    return [1.0 / (num_rollouts * length) if length else 0.0 for length in lengths]


def _sequence_sum_constant(lengths: Sequence[int], max_completion_tokens: int) -> list[float]:
    num_rollouts = sum(length > 0 for length in lengths)
    return [1.0 / (num_rollouts * max_completion_tokens) if length else 0.0 for length in lengths]


AGGREGATIONS: dict[str, Callable[[Sequence[int], int], list[float]]] = {
    "token_mean": _token_mean,
    "sequence_mean": _sequence_mean,
    "sequence_sum_constant": _sequence_sum_constant,
}


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """sum(values * weights) as a scalar; tokens of weight 0 contribute neither value nor gradient, even if not finite.

    values, weights: equal shapes. (A value of weight 0 whose own derivative is infinite, such as the log of 0, still
    yields NaN upstream: compute values that are finite, or mask their inputs.)
    """
    assert values.shape == weights.shape, (values.shape, weights.shape)
    return (torch.where(weights != 0, values, torch.zeros_like(values)) * weights).sum()
